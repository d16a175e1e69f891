"""Scores of a finished evaluation, of its plan and answers alone: they can be had anew at will."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.benchmarks import ELSEWHERE, JUDGED, REFUSALS
from qwen_audio_jax.evaluation.intervals import interval, slice_scores
from qwen_audio_jax.evaluation.item_counts import (
    Counts,
    caption_counts,
    counts_of,
    language_field,
    protocol_counts,
)
from qwen_audio_jax.evaluation.item_health import health_of
from qwen_audio_jax.evaluation.judge_calls import Replies
from qwen_audio_jax.evaluation.judged_scores import judged_groups, judged_row
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned
from qwen_audio_jax.evaluation.recordings import windows_told
from qwen_audio_jax.evaluation.seams import seam_rows
from qwen_audio_jax.evaluation.slices import slices
from qwen_audio_jax.inference.answers import FAILED, LENGTH
from qwen_audio_jax.metrics import Answer, part_of, score_by_part
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.bleu import bleu_pairs, signature
from qwen_audio_jax.metrics.choices import RIGHT, RULES, UNREADABLE, Question, choice_scores
from qwen_audio_jax.metrics.coco_captions import caption_rows
from qwen_audio_jax.metrics.protocols import PROTOCOLS
from qwen_audio_jax.metrics.voicebench import refusal_scores
from qwen_audio_jax.tasks import KINDS

CLUSTERS = ("speaker", "speaker_id", "client_id", "recording", "session", "parent_id", "voice")
"""Fields that say whose items are alike, the first that an item has."""

SEAMS = "windows"
"""The part of recordings that were asked in windows, of which errors near the cuts are told."""

Pair = tuple[Planned, Answered]
"""An item and its answer, which is no failed one."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Items of a benchmark that are scored together.

    Attributes:
        benchmark: theirs; None where they are of several.
        task: theirs.
        items: that were asked.
        pairs: those that were answered, with their answers.
        scored: rows of these answers.
        unasked: rows of the benchmark's list that are no items, where no other task can claim them.
        part: of which kind the items are, where another group has them among all; else "".
    """

    benchmark: Asked | None
    task: str
    items: Sequence[Planned]
    pairs: Sequence[Pair]
    scored: "Scored"
    unasked: int
    part: str = ""

    @property
    def parts(self) -> list[str]:
        """Of each answer, see `metrics.part_of`."""
        return [part_of(self.task, item.annotation) for item, _ in self.pairs]


def scored_groups(
    plan: Plan,
    answered: Mapping[str, Answered],
    options: Options,
    judges: Sequence[Replies] = (),
) -> Iterator[Group]:
    """All answers of an evaluation, scored group by group.

    Raises:
        ValueError: there are questions without any answer; the sentence says how many.
    """
    missing = sum(bool(item.key) and item.key not in answered for item in plan.items)
    if missing:
        raise ValueError(
            f"{missing:,} of {len(plan.items):,} questions have no answer yet; answer them first, "
            "with --stage=answer"
        )
    for benchmark in plan.benchmarks:
        alike: dict[tuple[str, str], list[Planned]] = collections.defaultdict(list)
        for item in plan.items:
            if item.benchmark == benchmark.name:
                alike[item.task, way_of(item)].append(item)
        unasked = len(benchmark.left_out) if len(alike) == 1 else 0
        for task, way in sorted(alike):
            items = alike[task, way]
            if way == JUDGED and judges:
                for part, of_part in judged_groups(items):
                    pairs = given(of_part, answered)
                    scored = [judged_row(one, part, pairs) for one in judges]
                    yield Group(
                        benchmark, task, of_part, pairs, scored, 0 if part else unasked, part[1:]
                    )
                continue
            pairs = given(items, answered)
            yield Group(benchmark, task, items, pairs, WAYS[way](task, pairs, options), unasked)
            if cut := [item for item in items if item.windows]:
                pairs = given(cut, answered)
                yield Group(benchmark, task, cut, pairs, seam_rows(answered, task, pairs), 0, SEAMS)


def score_rows(group: Group, options: Options) -> list[dict[str, Any]]:
    """The rows of evaluation.json that a group has.

    Each has task, metric, value, baseline and n, and its benchmark. What was "asked" is "scored",
    "unreadable", "failed" (not answered) or "left_out": rows of the list that are no items, and
    items whose label the metric cannot read, or whose answer a judge has not scored. "truncated"
    were cut by their limit. "low" and "high" are there where the metric has an interval, "slices"
    where it has any, see `slice_scores`; "part" where the row is of one language or kind,
    "signature" where the metric has several ways, of choices "strict" and "official", and of each
    judge what `judged_scores.judged_row` tells.
    """
    parts = np.array(group.parts, object)
    clusters = [cluster_of(item.annotation) for item, _ in group.pairs]
    slices_of_all = slices([fields_of(*pair) for pair in group.pairs])
    rows = []
    for row, counts in group.scored:
        part, chosen = _of_row(row, parts)
        within: dict[str, Any] = {}
        if counts is not None and options.draws:
            columns = _columns(group, row["metric"], counts, chosen)
            within = interval(row["metric"], columns, [clusters[i] for i in chosen], options)
            if part is None:
                found = slice_scores(row["metric"], columns, slices_of_all, clusters, options)
                within |= {"slices": found} if found else {}
        told = _accounts(group, row, chosen, part)
        named = {"benchmark": group.benchmark.name} if group.benchmark else {}
        of = part or group.part
        named |= {"task": group.task} | row | ({"part": of} if of else {})
        rows.append(named | within | told)
    return rows


def _of_row(row: Mapping[str, Any], parts: np.ndarray) -> tuple[str | None, np.ndarray]:
    """(the part that a row is of, None if it is of all; numbers of its answers)."""
    part = row["metric"].partition("/")[2]
    if part != "" and part in parts:  # it may also be a protocol or a rule
        return part, np.flatnonzero(parts == part)
    return None, np.arange(len(parts))


def metric_rows(task: str, items: Sequence[Planned], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Rows of a task's own metric alone, as `score_rows` has them but for intervals.

    Args:
        task: the task.
        items: what was asked, of any benchmarks.
        pairs: those that were answered, with their answers.
    """
    scored = _metric_rows(task, [Answer(item.annotation, one.text) for item, one in pairs])
    group, rows = Group(None, task, items, pairs, scored, 0), []
    for row, _ in scored:
        part, chosen = _of_row(row, np.array(group.parts, object))
        of = {"part": part} if part else {}
        rows.append({"task": task} | row | of | _accounts(group, row, chosen, part))
    return rows


def _columns(group: Group, metric: str, counts: Counts, chosen: np.ndarray) -> np.ndarray:
    """Of some of a group's answers, what each adds to a metric's sums, [n, C]."""
    if metric.startswith("bleu/"):
        # The longest n-grams of a part may be shorter than those of all.
        pairs = [group.pairs[i] for i in chosen]
        answers = [Answer(item.annotation, one.text) for item, one in pairs]
        return np.array(counts_of(group.task, ["bleu"], answers).get("bleu", []))
    return np.array(counts)[chosen]


def _accounts(
    group: Group, row: Mapping[str, Any], chosen: np.ndarray, part: str | None
) -> dict[str, int]:
    """What became of all that was asked; of a part, if it is one."""
    items = [
        one for one in group.items if part is None or part_of(group.task, one.annotation) == part
    ]
    unasked = group.unasked if part is None else 0
    unreadable = row.get("unreadable", 0)
    # Choices that cannot be read count as wrong; replies of a judge count as nothing.
    scored = row["n"] if "judge" in row else row["n"] - unreadable
    return {
        "asked": len(items) + unasked,
        "scored": scored,
        "unreadable": unreadable,
        "failed": len(items) - len(chosen),
        "left_out": len(chosen) - scored - unreadable + unasked,
        "truncated": sum(group.pairs[i][1].finish == LENGTH for i in chosen),
    }


def fields_of(item: Planned, answered: Answered) -> dict[str, Any]:
    """What slices of an item are made of."""
    heard = {"duration": answered.seconds} if answered.seconds else {}
    return heard | item.annotation


Scored = list[tuple[dict[str, Any], Counts | None]]
"""Rows, each with what the answers add to its sums, for its interval."""

RowsOf = Callable[[str, Sequence[Pair], Options], Scored]


def way_of(item: Planned) -> str:
    """A key of WAYS: how its answer is scored."""
    return _CHOICES if item.choices else item.rule if item.rule in WAYS else ""


def _free_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """Those of the task's own metric; of transcripts under each protocol; COCO's of captions."""
    answers = [Answer(item.annotation, one.text) for item, one in pairs]
    rows = _metric_rows(task, answers)
    for protocol in options.protocols:
        counts = protocol_counts(task, protocol, answers)
        if counts is not None:
            rows.append((_rate_row(protocol, counts), counts))
    if KINDS[task].metric == "caption":
        counted = caption_counts(answers)
        rows += [
            (row, counted.get(row["metric"]) or None)
            for row in caption_rows([pair[:2] for pair in bleu_pairs(answers, "")])
        ]
    return rows


def _metric_rows(task: str, answers: list[Answer]) -> Scored:
    """Those of the task's own metric."""
    scored = score_by_part(task, answers)
    names = {row["metric"].partition("/")[0] for row in scored}
    counted = counts_of(task, names, answers)
    signatures = {"wer": PROTOCOLS["v1"].signature} if KINDS[task].metric == "wer" else {}
    if "bleu" in names:
        signatures["bleu"] = signature(bleu_pairs(answers, language_field(task)))
    rows: Scored = []
    for row in scored:
        metric = row["metric"].partition("/")[0]
        named = {"signature": signatures[metric]} if metric in signatures else {}
        rows.append((row | named, counted.get(metric)))
    return rows


def _rate_row(protocol: str, counts: Counts) -> dict[str, Any]:
    edits, words = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    value, baseline = (edits / words, 1.0) if words else (None, None)
    named = {"signature": PROTOCOLS[protocol].signature}
    return table_row(f"wer/{protocol}", value, baseline, len(counts)) | named


def _choice_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """Accuracy of all that was asked, read by our rule, and as the benchmark's scorer has it."""
    questions = [question_of(*pair) for pair in pairs]
    commonest = collections.Counter(one.right for one in questions).most_common(1)
    baseline = commonest[0][1] / len(questions) if questions else None
    rows: Scored = []
    for rule in dict.fromkeys(["letter_then_text", *(item.rule for item, _ in pairs if item.rule)]):
        found = choice_scores(rule, questions)
        ours = rule == "letter_then_text"
        value = found.strict if ours else found.official
        row = table_row("accuracy" if ours else f"accuracy/{rule}", value, baseline, found.asked)
        row |= {"strict": found.strict, "official": found.official}
        read, divided_by = RULES[rule]
        outcomes = [read(one) for one in questions]
        counts = [
            (float(one == RIGHT), float(ours or divided_by == "asked" or one != UNREADABLE))
            for one in outcomes
        ]
        rows.append((row | {"unreadable": found.unreadable, "signature": rule}, counts or None))
    return rows


def _refusal_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """How many answers refuse; `official` counts an empty one among them."""
    texts = [one.text for _, one in pairs]
    found = refusal_scores(texts)
    row = table_row("refusals", found.strict, None, len(pairs)) | {"official": found.official}
    counts = [(float(refusal_scores([text]).refused), 1.0) for text in texts]
    return [(row, counts or None)]


def _unscored_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """That there are answers, which another program scores."""
    return [(table_row("scored_elsewhere", None, None, len(pairs)), None)]


_CHOICES = "choices"
WAYS: dict[str, RowsOf] = {
    "": _free_rows,
    _CHOICES: _choice_rows,
    REFUSALS: _refusal_rows,
    JUDGED: _unscored_rows,
    ELSEWHERE: _unscored_rows,
}
"""How answers are scored, by what tells it of an item."""


def question_of(item: Planned, answered: Answered) -> Question:
    """An answered item that has choices."""
    return Question(item.choices, item.choices.index(item.annotation["text"]), answered.text)


_RIGHT_OR_WRONG = ("accuracy", "intent", "note", "conversation")
"""Metrics of tasks whose answers are the label or are not."""


def is_right(item: Planned, text: str) -> bool | None:
    """Whether an answer is, by the benchmark's metric; None where that says no such thing."""
    if item.choices:
        read, _ = RULES["letter_then_text"]
        right = item.choices.index(item.annotation["text"])
        return read(Question(item.choices, right, text)) == RIGHT
    if item.rule in (REFUSALS, JUDGED, ELSEWHERE) or KINDS[item.task].metric not in _RIGHT_OR_WRONG:
        return None
    found = counts_of(item.task, ["accuracy"], [Answer(item.annotation, text)])
    return bool(found["accuracy"][0][0]) if found else None


def given(items: Iterable[Planned], answered: Mapping[str, Answered]) -> list[Pair]:
    """The items that were answered, with their answers."""
    pairs = [(item, answered[item.key]) for item in items if item.key]
    return [(item, one) for item, one in pairs if one.finish != FAILED]


def cluster_of(annotation: Mapping[str, Any]) -> str | None:
    """Whose items are alike: the speaker's or the recording's name; None if it is not known."""
    named = (annotation.get(field) for field in CLUSTERS)
    return next((str(name) for name in named if isinstance(name, str | int)), None)


def summary(
    plan: Plan, answered: Mapping[str, Answered], groups: Sequence[Group]
) -> dict[str, Any]:
    """What is told beside the scores: the model, the decoding, and of each benchmark what became
    of all that was asked, and its health.

    Args:
        plan, answered: what was asked and answered.
        groups: of the answers.
    """
    benchmarks = []
    for benchmark in plan.benchmarks:
        mine = [one for one in groups if one.benchmark == benchmark and not one.part]
        items = [item for group in mine for item in group.items]
        pairs = [pair for group in mine for pair in group.pairs]
        failures = [item.failed or answered[item.key].error for item in items
                    if not item.key or answered[item.key].finish == FAILED]  # fmt: skip
        told = collections.Counter()
        for group in mine:
            told.update(_accounts(group, group.scored[0][0], np.arange(len(group.pairs)), None))
        unclaimed = len(benchmark.left_out) - sum(group.unasked for group in mine)
        benchmarks.append(
            {
                "name": benchmark.name,
                "form": benchmark.form,
                "path": benchmark.path,
                "data": benchmark.digest,
                "asked": told["asked"] + unclaimed,
                "answered": len(pairs),
                "scored": told["scored"],
                "unreadable": told["unreadable"],
                "failed": told["failed"],
                "left_out": told["left_out"] + unclaimed,
                "passed_over": benchmark.passed_over,
                "reasons": _commonest([*failures, *(why for _, why in benchmark.left_out)]),
                "windows": windows_told(items, answered),
                "health": health_of(pairs),
            }
        )
    return {"model": plan.model, "decoding": plan.decoding, "benchmarks": benchmarks}


def _commonest(reasons: Iterable[str], most: int = 20) -> dict[str, int]:
    return dict(collections.Counter(reasons).most_common(most))
