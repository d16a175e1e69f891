"""Scores of a finished evaluation, of its plan and answers alone: they can be had anew at will."""

import collections
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.benchmarks import ELSEWHERE, JUDGED, REFUSALS, Item
from qwen_audio_jax.evaluation.health import Given, commonest_answer, health
from qwen_audio_jax.evaluation.item_counts import (
    Counts,
    counts_of,
    language_field,
    protocol_counts,
)
from qwen_audio_jax.evaluation.judge_calls import Replies
from qwen_audio_jax.evaluation.judged_scores import judged_groups, judged_row
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned
from qwen_audio_jax.evaluation.recordings import windows_told
from qwen_audio_jax.evaluation.seams import seam_rows
from qwen_audio_jax.evaluation.statistics import bootstrap
from qwen_audio_jax.evaluation.summed_scores import value_of
from qwen_audio_jax.inference.answers import FAILED, LENGTH
from qwen_audio_jax.metrics import Answer, part_of, score_by_part
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.bleu import bleu_pairs, signature
from qwen_audio_jax.metrics.choices import RIGHT, RULES, Question, choice_scores
from qwen_audio_jax.metrics.coco_captions import caption_rows
from qwen_audio_jax.metrics.protocols import PROTOCOLS, check
from qwen_audio_jax.metrics.voicebench import refusal_scores
from qwen_audio_jax.tasks import KINDS

CLUSTERS = ("speaker", "speaker_id", "client_id", "recording", "session", "parent_id", "voice")
"""Fields that say whose items are alike, the first that an item has."""

Pair = tuple[Planned, Answered]
"""An item and its answer, which is no failed one."""


def check_protocols(options: Options, items: Iterable[Item]) -> None:
    """Refuses, before anything is answered, what could not be scored. Raises ValueError."""
    languages = {
        item.annotation.get("language") for item in items if KINDS[item.task].metric == "wer"
    }
    for protocol in options.protocols:
        try:
            check(protocol, sorted(languages, key=str))
        except ValueError as error:
            raise ValueError(f"--config.protocols: {error}") from None


def score_rows(
    plan: Plan,
    answered: Mapping[str, Answered],
    options: Options,
    judges: Sequence[Replies] = (),
) -> list[dict[str, Any]]:
    """The rows of evaluation.json.

    Each has task, metric, value, baseline and n, and its benchmark; "asked", of which "failed" were
    not answered and "truncated" were cut by their limit; "left_out", rows of the benchmark's list
    that are no items; "low" and "high", where the metric has an interval; "signature", where it
    has several ways; of choices "strict", "official" and "unreadable"; and of each judge that has
    been asked what `judged_scores.judged_row` tells.

    Raises:
        ValueError: there are questions without any answer; the sentence says how many.
    """
    missing = sum(bool(item.key) and item.key not in answered for item in plan.items)
    if missing:
        raise ValueError(
            f"{missing:,} of {len(plan.items):,} questions have no answer yet; answer them first, "
            "with --stage=answer"
        )
    rows: list[dict[str, Any]] = []
    for benchmark in plan.benchmarks:
        alike: dict[tuple[str, str], list[Planned]] = collections.defaultdict(list)
        for item in plan.items:
            if item.benchmark == benchmark.name:
                alike[item.task, _way(item)].append(item)
        for task, way in sorted(alike):
            items = alike[task, way]
            if way == JUDGED and judges:
                for ending, group in judged_groups(items):
                    for one in judges:
                        of = functools.partial(_judged_rows, one, ending)
                        rows += _task_rows(benchmark, task, of, group, answered, options)
            else:
                rows += _task_rows(benchmark, task, _WAYS[way], items, answered, options)
            if cut := [item for item in items if item.windows]:
                of = functools.partial(_seam_rows, answered)
                rows += _task_rows(benchmark, task, of, cut, answered, options)
    return rows


def _task_rows(
    benchmark: Asked,
    task: str,
    rows_of: "RowsOf",
    items: Sequence[Planned],
    answered: Mapping[str, Answered],
    options: Options,
) -> list[dict[str, Any]]:
    pairs = given(items, answered)
    parts = np.array([part_of(task, item.annotation) for item, _ in pairs], object)
    clusters = [cluster_of(item.annotation) for item, _ in pairs]
    rows = []
    for row, counts in rows_of(task, pairs, options):
        part = row["metric"].partition("/")[2]
        known = part != "" and part in parts  # it may also be a protocol or a rule
        chosen = np.flatnonzero(parts == part) if known else np.arange(len(pairs))
        asked = [part_of(task, item.annotation) for item in items]
        of_part = asked.count(part) if known else len(asked)
        told = {
            "asked": of_part,
            "failed": of_part - len(chosen),
            "truncated": sum(pairs[i][1].finish == LENGTH for i in chosen),
            "left_out": len(benchmark.left_out),
        }
        within = _interval(row["metric"], counts, chosen, clusters, options)
        rows.append({"benchmark": benchmark.name, "task": task} | row | within | told)
    return rows


Scored = list[tuple[dict[str, Any], Counts | None]]
"""Rows, each with what the answers add to its sums, for its interval."""

RowsOf = Callable[[str, Sequence[Pair], Options], Scored]


def _way(item: Planned) -> str:
    """A key of _WAYS."""
    return _CHOICES if item.choices else item.rule if item.rule in _WAYS else ""


def _free_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """Those of the task's own metric; of transcripts under each protocol; COCO's of captions."""
    answers = [Answer(item.annotation, one.text) for item, one in pairs]
    scored = score_by_part(task, answers)
    names = {row["metric"].partition("/")[0] for row in scored}
    counted = {metric: counts_of(task, metric, answers) for metric in names}
    signatures = {"wer": PROTOCOLS["v1"].signature} if KINDS[task].metric == "wer" else {}
    if "bleu" in names:
        signatures["bleu"] = signature(bleu_pairs(answers, language_field(task)))
    rows: Scored = []
    for row in scored:
        metric = row["metric"].partition("/")[0]
        named = {"signature": signatures[metric]} if metric in signatures else {}
        rows.append((row | named, counted[metric]))
    for protocol in options.protocols:
        counts = protocol_counts(task, protocol, answers)
        if counts is not None:
            rows.append((_rate_row(protocol, counts), counts))
    if KINDS[task].metric == "caption":
        rows += [
            (row, None) for row in caption_rows([pair[:2] for pair in bleu_pairs(answers, "")])
        ]
    return rows


def _seam_rows(
    answered: Mapping[str, Answered], task: str, pairs: Sequence[Pair], options: Options
) -> Scored:
    """Those of errors near the cuts between the windows of recordings, and elsewhere."""
    return seam_rows(answered, task, pairs)


def _rate_row(protocol: str, counts: Counts) -> dict[str, Any]:
    edits, words = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    value, baseline = (edits / words, 1.0) if words else (None, None)
    named = {"signature": PROTOCOLS[protocol].signature}
    return table_row(f"wer/{protocol}", value, baseline, len(counts)) | named


def _choice_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """Accuracy of all that was asked, read by our rule, and as the benchmark's scorer has it."""
    questions = [_question(*pair) for pair in pairs]
    commonest = collections.Counter(one.right for one in questions).most_common(1)
    baseline = commonest[0][1] / len(questions) if questions else None
    rows: Scored = []
    for rule in dict.fromkeys(["letter_then_text", *(item.rule for item, _ in pairs if item.rule)]):
        found = choice_scores(rule, questions)
        ours = rule == "letter_then_text"
        value = found.strict if ours else found.official
        row = table_row("accuracy" if ours else f"accuracy/{rule}", value, baseline, found.asked)
        row |= {"strict": found.strict, "official": found.official}
        right = [RULES[rule][0](one) == RIGHT for one in questions] if ours else None
        counts = [(float(one), 1.0) for one in right] if right else None
        rows.append((row | {"unreadable": found.unreadable, "signature": rule}, counts))
    return rows


def _refusal_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """How many answers refuse; `official` counts an empty one among them."""
    found = refusal_scores([one.text for _, one in pairs])
    row = table_row("refusals", found.strict, None, len(pairs)) | {"official": found.official}
    return [(row, None)]


def _unscored_rows(task: str, pairs: Sequence[Pair], options: Options) -> Scored:
    """That there are answers, which another program scores."""
    return [(table_row("scored_elsewhere", None, None, len(pairs)), None)]


def _judged_rows(
    replies: Replies, ending: str, task: str, pairs: Sequence[Pair], options: Options
) -> Scored:
    """What a judge gave the answers."""
    return [judged_row(replies, ending, pairs)]


_CHOICES = "choices"
_WAYS: dict[str, RowsOf] = {
    "": _free_rows,
    _CHOICES: _choice_rows,
    REFUSALS: _refusal_rows,
    JUDGED: _unscored_rows,
    ELSEWHERE: _unscored_rows,
}
"""How answers are scored, by what tells it of an item."""


def _question(item: Planned, answered: Answered) -> Question:
    return Question(item.choices, item.choices.index(item.annotation["text"]), answered.text)


def item_counts(item: Planned, text: str) -> dict[str, tuple[float, ...]]:
    """By metric what one answer adds to the sums that it is a function of."""
    if item.rule in (REFUSALS, JUDGED, ELSEWHERE):
        return {}
    if item.choices:
        read, _ = RULES["letter_then_text"]
        right = read(Question(item.choices, item.choices.index(item.annotation["text"]), text))
        return {"accuracy": (float(right == RIGHT), 1.0)}
    one = [Answer(item.annotation, text)]
    found = {name: counts_of(item.task, name, one) for name in ("wer", "cer", "accuracy")}
    return {name: counts[0] for name, counts in found.items() if counts}


def given(items: Iterable[Planned], answered: Mapping[str, Answered]) -> list[Pair]:
    """The items that were answered, with their answers."""
    pairs = [(item, answered[item.key]) for item in items if item.key]
    return [(item, one) for item, one in pairs if one.finish != FAILED]


def _interval(
    metric: str,
    counts: Counts | None,
    chosen: np.ndarray,
    clusters: Sequence[str | None],
    options: Options,
) -> dict[str, float | None]:
    if counts is None or not options.draws or not len(chosen):
        return {}
    found = bootstrap(
        np.array(counts)[chosen],
        value_of(metric),
        clusters=[clusters[i] for i in chosen],
        draws=options.draws,
        seed=options.seed,
        confidence=options.confidence,
    )
    return {"low": found.low, "high": found.high}


def cluster_of(annotation: Mapping[str, Any]) -> str | None:
    """Whose items are alike: the speaker's or the recording's name; None if it is not known."""
    named = (annotation.get(field) for field in CLUSTERS)
    return next((str(name) for name in named if isinstance(name, str | int)), None)


def summary(plan: Plan, answered: Mapping[str, Answered]) -> dict[str, Any]:
    """What is told beside the scores: the model, the decoding, and each benchmark's health."""
    benchmarks = []
    for benchmark in plan.benchmarks:
        items = [item for item in plan.items if item.benchmark == benchmark.name]
        pairs = given(items, answered)
        failures = [item.failed or answered[item.key].error for item in items
                    if not item.key or answered[item.key].finish == FAILED]  # fmt: skip
        benchmarks.append(
            {
                "name": benchmark.name,
                "form": benchmark.form,
                "path": benchmark.path,
                "data": benchmark.digest,
                "asked": len(items),
                "answered": len(pairs),
                "failed": len(failures),
                "left_out": len(benchmark.left_out),
                "passed_over": benchmark.passed_over,
                "reasons": _commonest([*failures, *(why for _, why in benchmark.left_out)]),
                "windows": windows_told(items, answered),
                "health": health_of(pairs),
            }
        )
    return {"model": plan.model, "decoding": plan.decoding, "benchmarks": benchmarks}


def _commonest(reasons: Iterable[str], most: int = 20) -> dict[str, int]:
    return dict(collections.Counter(reasons).most_common(most))


def language_of(item: Planned) -> str:
    """Of the reference; "" where it is not known."""
    return str(item.annotation.get(language_field(item.task)) or "")


def health_of(pairs: Iterable[Pair]) -> dict[str, Any]:
    """The health numbers of answers: counts, and the answer that most clips get."""
    told = [
        Given(
            one.text,
            item.reference,
            language_of(item),
            one.finish == LENGTH,
            item.audio or None,
        )
        for item, one in pairs
    ]
    numbers: dict[str, Any] = {
        name: {"count": share.count, "of": share.of} for name, share in health(told).items()
    }
    if commonest := commonest_answer(told):
        numbers["commonest_answer"] = {
            "text": commonest.text,
            "count": commonest.answers.count,
            "of": commonest.answers.of,
            "commonest_reference": commonest.references.count,
            "suspicious": commonest.is_suspicious,
        }
    return numbers
