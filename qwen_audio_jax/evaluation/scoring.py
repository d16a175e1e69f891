"""Scores of a finished evaluation, of its plan and answers alone: they can be had anew at will."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.health import Given, commonest_answer, health
from qwen_audio_jax.evaluation.item_counts import counts_of
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned
from qwen_audio_jax.evaluation.statistics import bootstrap
from qwen_audio_jax.evaluation.summed_scores import value_of
from qwen_audio_jax.metrics import Answer, part_of, score_by_part

CLUSTERS = ("speaker", "speaker_id", "client_id", "recording", "session", "parent_id", "voice")
"""Fields that say whose items are alike, the first that an item has."""


@dataclasses.dataclass(frozen=True)
class ScoringOptions:
    """How answers are scored.

    Attributes:
        draws: of each interval; 0 is none.
        seed: of the draws.
        confidence: of the intervals.
    """

    draws: int = 1000
    seed: int = 0
    confidence: float = 0.95


Pair = tuple[Planned, Answered]
"""An item and its answer, which is no failed one."""


def score(
    plan: Plan, answered: Mapping[str, Answered], options: ScoringOptions = ScoringOptions()
) -> list[dict[str, Any]]:
    """The rows of evaluation.json.

    Each has task, metric, value, baseline and n, and its benchmark; "asked", of which "failed" were
    not answered and "truncated" were cut by their limit; "left_out", rows of the benchmark's list
    that are no items; and "low" and "high", where the metric has an interval.

    Raises:
        ValueError: there are questions without any answer; the sentence says how many.
    """
    missing = [item for item in plan.items if item.key and item.key not in answered]
    if missing:
        raise ValueError(
            f"{len(missing):,} of {len(plan.items):,} questions have no answer yet; answer them "
            "first, with --stage=answer"
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
    options: ScoringOptions,
) -> list[dict[str, Any]]:
    pairs = given(items, answered)
    parts = [part_of(task, item.annotation) for item, _ in pairs]
    scored = score_by_part(task, [_answer(*pair) for pair in pairs], parts)
    named = [row["metric"].partition("/") for row in scored]
    rows = []
    for row, (metric, _, part) in zip(scored, named, strict=True):
        some = [pair for pair, of in zip(pairs, parts, strict=True) if part in ("", of)]
        asked = [item for item in items if part in ("", part_of(task, item.annotation))]
        rows.append(
            {"benchmark": benchmark.name, **row}
            | _interval(task, metric, some, options)
            | {
                "asked": len(asked),
                "failed": len(asked) - len(some),
                "truncated": sum(one.finish == "length" for _, one in some),
                "left_out": len(benchmark.left_out),
            }
        )
    return rows


def given(items: Sequence[Planned], answered: Mapping[str, Answered]) -> list[Pair]:
    """The items that were answered, with their answers."""
    pairs = [(item, answered[item.key]) for item in items if item.key]
    return [(item, one) for item, one in pairs if one.finish != "failed"]


def _answer(item: Planned, answered: Answered) -> Answer:
    return Answer(item.annotation, answered.text)


def _interval(
    task: str, metric: str, pairs: Sequence[Pair], options: ScoringOptions
) -> dict[str, float | None]:
    counts = [counts_of(task, metric, _answer(*pair)) for pair in pairs]
    if not options.draws or not counts or None in counts:
        return {}
    found = bootstrap(
        counts,
        value_of(metric),
        clusters=[cluster_of(item.annotation) for item, _ in pairs],
        draws=options.draws,
        seed=options.seed,
        confidence=options.confidence,
    )
    return {"low": found.low, "high": found.high}


def cluster_of(annotation: Mapping[str, Any]) -> str | None:
    """Whose items are alike: the speaker's or the recording's name; None if it is not known."""
    named = (annotation.get(field) for field in CLUSTERS)
    return next((str(name) for name in named if isinstance(name, str | int)), None)


def health_of(items: Sequence[Planned], answered: Mapping[str, Answered]) -> dict[str, Any]:
    """The health numbers of a benchmark: counts, and the answer that most clips get."""
    told = [
        Given(
            one.text,
            item.reference,
            str(item.annotation.get("language") or ""),
            one.finish == "length",
            item.audio or None,
        )
        for item, one in given(items, answered)
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
