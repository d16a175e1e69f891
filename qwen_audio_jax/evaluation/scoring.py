"""Scores of a finished evaluation, of its plan and answers alone: they can be had anew at will."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.health import Given, commonest_answer, health
from qwen_audio_jax.evaluation.item_counts import Counts, counts_of, protocol_counts
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned
from qwen_audio_jax.evaluation.statistics import bootstrap
from qwen_audio_jax.evaluation.summed_scores import value_of
from qwen_audio_jax.inference.answers import FAILED, LENGTH
from qwen_audio_jax.metrics import Answer, part_of, score_by_part
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.protocols import PROTOCOLS, check
from qwen_audio_jax.tasks import KINDS

CLUSTERS = ("speaker", "speaker_id", "client_id", "recording", "session", "parent_id", "voice")
"""Fields that say whose items are alike, the first that an item has."""

Pair = tuple[Planned, Answered]
"""An item and its answer, which is no failed one."""


def check_protocols(options: Options, items: Iterable[Planned]) -> None:
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
    plan: Plan, answered: Mapping[str, Answered], options: Options
) -> list[dict[str, Any]]:
    """The rows of evaluation.json.

    Each has task, metric, value, baseline and n, and its benchmark; "asked", of which "failed" were
    not answered and "truncated" were cut by their limit; "left_out", rows of the benchmark's list
    that are no items; "low" and "high", where the metric has an interval; and "signature", where it
    has several protocols.

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
        by_task: dict[str, list[Planned]] = collections.defaultdict(list)
        for item in plan.items:
            if item.benchmark == benchmark.name:
                by_task[item.task].append(item)
        for task in sorted(by_task):
            rows += _task_rows(benchmark, task, by_task[task], answered, options)
    return rows


def _task_rows(
    benchmark: Asked,
    task: str,
    items: Sequence[Planned],
    answered: Mapping[str, Answered],
    options: Options,
) -> list[dict[str, Any]]:
    pairs = given(items, answered)
    answers = [_answer(*pair) for pair in pairs]
    parts = np.array([part_of(task, item.annotation) for item, _ in pairs], object)
    clusters = [cluster_of(item.annotation) for item, _ in pairs]
    rows = []

    def add(row: dict[str, Any], part: str, counts: Counts | None, **more: Any) -> None:
        chosen = np.flatnonzero(parts == part) if part else np.arange(len(pairs))
        asked = sum(part in ("", part_of(task, item.annotation)) for item in items)
        told = {
            "asked": asked,
            "failed": asked - len(chosen),
            "truncated": sum(pairs[i][1].finish == LENGTH for i in chosen),
            "left_out": len(benchmark.left_out),
        }
        within = _interval(row["metric"], counts, chosen, clusters, options)
        rows.append({"benchmark": benchmark.name, "task": task} | row | within | told | more)

    scored = score_by_part(task, answers, parts.tolist())
    counted = {
        metric: counts_of(task, metric, answers)
        for metric in {row["metric"].partition("/")[0] for row in scored}
    }
    for row in scored:
        metric, _, part = row["metric"].partition("/")
        more = {"signature": PROTOCOLS["v1"].signature} if metric == "wer" else {}
        add(row, part, counted[metric], **more)
    for protocol in options.protocols:
        counts = protocol_counts(task, protocol, answers)
        if counts is not None:
            signature = PROTOCOLS[protocol].signature
            add(_rate_row(protocol, counts), "", counts, signature=signature)
    return rows


def _rate_row(protocol: str, counts: Counts) -> dict[str, Any]:
    edits, words = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    value, baseline = (edits / words, 1.0) if words else (None, None)
    return table_row(f"wer/{protocol}", value, baseline, len(counts))


def given(items: Iterable[Planned], answered: Mapping[str, Answered]) -> list[Pair]:
    """The items that were answered, with their answers."""
    pairs = [(item, answered[item.key]) for item in items if item.key]
    return [(item, one) for item, one in pairs if one.finish != FAILED]


def _answer(item: Planned, answered: Answered) -> Answer:
    return Answer(item.annotation, answered.text)


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
                "health": health_of(pairs),
            }
        )
    return {"model": plan.model, "decoding": plan.decoding, "benchmarks": benchmarks}


def _commonest(reasons: Iterable[str], most: int = 20) -> dict[str, int]:
    return dict(collections.Counter(reasons).most_common(most))


def health_of(pairs: Iterable[Pair]) -> dict[str, Any]:
    """The health numbers of answers: counts, and the answer that most clips get."""
    told = [
        Given(
            one.text,
            item.reference,
            str(item.annotation.get("language") or ""),
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
