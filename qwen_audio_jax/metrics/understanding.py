"""Spoken commands, entities, and phrases found in time."""

import collections
from typing import Any

from qwen_audio_jax.metrics.answer import Answer, summed, table_row
from qwen_audio_jax.metrics.classification import majority_share
from qwen_audio_jax.metrics.intervals import stretches, ticks
from qwen_audio_jax.metrics.text import squeezed
from qwen_audio_jax.tasks import parse


def intent(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "accuracy": scenario and action both right. Baseline: the commonest pair."""
    labels = [_intent(a.annotation) for a in answers]
    right = [
        None not in label and (a.exact or _intent(parse.intent(a.hypothesis)) == label)
        for a, label in zip(answers, labels, strict=True)
    ]
    value = sum(right) / len(right) if right else None
    baseline = majority_share((None, label) for label in labels)
    return [table_row("accuracy", value, baseline, len(answers))]


def _intent(fields: dict[str, Any]) -> tuple[str | None, str | None]:
    scenario, action = (fields.get(name) for name in ("scenario", "action"))
    return (
        None if scenario is None else squeezed(scenario),
        None if action is None else squeezed(action),
    )


def entities(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "entity_f1_exact": pairs of type and value, counted over the set, each used once.

    Exact but for upper and lower case, and white space. Baseline: the empty answer, 0.
    """
    matched, wanted, found = summed(map(entity_counts, answers), 3)
    value = 2 * matched / (wanted + found) if wanted + found else None
    return [table_row("entity_f1_exact", value, None if value is None else 0.0, len(answers))]


def entity_counts(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sums that `entities` divides."""
    reference = _pairs(answer.annotation.get("entities") or [])
    said = parse.entities(answer.hypothesis)["entities"]
    hypothesis = reference if answer.exact else _pairs(said)
    return {
        "matched": (reference & hypothesis).total(),
        "wanted": reference.total(),
        "found": hypothesis.total(),
    }


def _pairs(found: list[dict[str, Any]]) -> collections.Counter:
    return collections.Counter(
        (squeezed(e["type"]).lower(), squeezed(e["value"]).lower()) for e in found
    )


def grounding(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "iou": time that answer and label share over the time that either names, on average.

    Baseline: from 0 to the last end.
    """
    shares, guesses = [], []
    for answer in answers:
        wanted = answer.annotation.get("segments") or []
        end = max((segment["end"] for segment in wanted), default=0.0)
        found = wanted if answer.exact else parse.segments(answer.hypothesis)["segments"]
        shares.append(_overlap(wanted, found))
        guesses.append(_overlap(wanted, [{"start": 0.0, "end": end}]))
    n = len(answers)
    value, baseline = (sum(shares) / n, sum(guesses) / n) if answers else (None, None)
    return [table_row("iou", value, baseline, n)]


def _overlap(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> float:
    """Intersection over union; where all are moments of no length, whether they are the same."""
    length, (one, other) = stretches(_timed(wanted), _timed(found))
    one, other = one.any(axis=0), other.any(axis=0)
    either = int(length[one | other].sum())
    if not either:
        return float(_moments(wanted) == _moments(found))
    return int(length[one & other].sum()) / either


def _timed(segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"start": segment["start"], "end": segment["end"]} for segment in segments]


def _moments(segments: list[dict[str, Any]]) -> set[int]:
    return {ticks(segment["start"]) for segment in segments}
