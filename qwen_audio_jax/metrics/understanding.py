"""Spoken commands, entities, and phrases found in time."""

import collections
from typing import Any

import numpy as np

from qwen_audio_jax.metrics.answer import Answer, table_row
from qwen_audio_jax.metrics.classification import majority_share
from qwen_audio_jax.metrics.speakers import activity
from qwen_audio_jax.tasks import parse


def intent(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "accuracy": scenario and action both right. Baseline: the commonest pair."""
    labels = [(a.annotation.get("scenario"), a.annotation.get("action")) for a in answers]
    found = [parse.intent(a.hypothesis) for a in answers]
    right = [
        (f.get("scenario"), f.get("action")) == label and None not in label
        for f, label in zip(found, labels, strict=True)
    ]
    value = sum(right) / len(right) if right else None
    baseline = majority_share((None, label) for label in labels)
    return [table_row("accuracy", value, baseline, len(answers))]


def entities(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "entity_f1": pairs of type and value, counted over the set, each used once.

    Exact but for upper and lower case. Baseline: the empty answer, 0.
    """
    matched = wanted = found = 0
    for answer in answers:
        reference = _pairs(answer.annotation.get("entities", []))
        hypothesis = _pairs(parse.entities(answer.hypothesis)["entities"])
        matched += (reference & hypothesis).total()
        wanted += reference.total()
        found += hypothesis.total()
    value = 2 * matched / (wanted + found) if wanted + found else None
    return [table_row("entity_f1", value, None if value is None else 0.0, len(answers))]


def _pairs(found: list[dict[str, Any]]) -> collections.Counter:
    return collections.Counter((e["type"].lower(), e["value"].lower()) for e in found)


def grounding(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "iou": time that answer and label share over the time that either names, on average.

    Baseline: from 0 to the last end.
    """
    shares, guesses = [], []
    for answer in answers:
        segments = answer.annotation.get("segments", [])
        reference = _heard(segments)
        end = max((s["end"] for s in segments), default=0.0)
        shares.append(_overlap(reference, _heard(parse.segments(answer.hypothesis)["segments"])))
        guesses.append(_overlap(reference, _heard([{"start": 0.0, "end": end}])))
    value, baseline = (np.mean(shares), np.mean(guesses)) if answers else (None, None)
    return [table_row("iou", value, baseline, len(answers))]


def _heard(segments: list[dict[str, Any]]) -> np.ndarray:
    return activity([{"speaker": "", **s} for s in segments] or [_NEVER])[""]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    either = (one | other).sum()
    return float((one & other).sum() / either) if either else 1.0


_NEVER = {"speaker": "", "start": 0.0, "end": 0.0}
