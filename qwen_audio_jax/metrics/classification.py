"""Exact matches: closed-set answers and the fields of a musical note."""

import collections
from collections.abc import Hashable, Iterable
from typing import Any

from qwen_audio_jax.metrics.answer import Answer, table_row, text_of
from qwen_audio_jax.metrics.text import squeezed, without_tags
from qwen_audio_jax.tasks import parse


def is_correct(reference: str, hypothesis: str) -> bool:
    """Whether the tag-free texts are the same, case included, as in the original scripts."""
    return without_tags(reference) == without_tags(hypothesis)


def is_correct_as_qwen2(reference: str, hypothesis: str) -> bool:
    """The same as Qwen2-Audio's scripts have it: they strip the left side of an answer only."""
    return reference == hypothesis.lstrip()


def majority_share(labels: Iterable[tuple[Hashable, Hashable]]) -> float | None:
    """The share that the best constant answer to each question gets right.

    The majority is counted on the scored set itself, so no constant answer can do better.

    Args:
        labels: (question, right answer) each.
    """
    by_question = collections.defaultdict(collections.Counter)
    for question, label in labels:
        by_question[question][label] += 1
    total = sum(counts.total() for counts in by_question.values())
    best = sum(max(counts.values()) for counts in by_question.values())
    return best / total if total else None


def _accuracy_row(
    metric: str, right: list[bool], labels: Iterable[tuple[Hashable, Hashable]]
) -> dict[str, Any]:
    value = sum(right) / len(right) if right else None
    return table_row(metric, value, majority_share(labels), len(right))


def accuracy(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "accuracy", a fraction. Baseline: the commonest answer, question by question."""
    references = [text_of(a.annotation) for a in answers]
    right = [is_correct(text, a.hypothesis) for text, a in zip(references, answers, strict=True)]
    labels = [
        (str(a.annotation.get("question")), without_tags(text))
        for text, a in zip(references, answers, strict=True)
    ]
    return [_accuracy_row("accuracy", right, labels)]


def right_count(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sum that `accuracy` divides by the number of answers."""
    return {"right": int(is_correct(text_of(answer.annotation), answer.hypothesis))}


def note(answers: list[Answer]) -> list[dict[str, Any]]:
    """Rows "accuracy" (the exact MIDI pitch), "velocity_accuracy", "instrument_accuracy".

    A field that cannot be read is wrong. Baselines: the commonest value of each field.
    """
    parsed = [parse.note(a.hypothesis) for a in answers]
    rows = []
    for metric, field in (
        ("accuracy", "pitch"),
        ("velocity_accuracy", "velocity"),
        ("instrument_accuracy", "instrument"),
    ):
        labels = [_value(a.annotation, field) for a in answers]
        right = [
            label is not None and (a.exact or _value(guess, field) == label)
            for a, guess, label in zip(answers, parsed, labels, strict=True)
        ]
        rows.append(_accuracy_row(metric, right, [(None, label) for label in labels]))
    return rows


def _value(fields: dict[str, Any], field: str) -> str | None:
    value = fields.get(field)
    return None if value is None else squeezed(value)
