"""Scores of a model's answers, task by task: thin over jiwer, sacrebleu and rapidfuzz."""

import collections
import dataclasses
import logging
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwen_audio_jax.metrics.answer import Answer
from qwen_audio_jax.metrics.bleu import bleu, caption
from qwen_audio_jax.metrics.classification import accuracy, note, right_count
from qwen_audio_jax.metrics.conversation import conversation, said_count
from qwen_audio_jax.metrics.error_rate import edit_counts, wer
from qwen_audio_jax.metrics.preference import preference, preferred_count
from qwen_audio_jax.metrics.speakers import diarization, turn_counts, utterance_counts, utterances
from qwen_audio_jax.metrics.timelines import event_counts, events, timestamp_counts, timestamps
from qwen_audio_jax.metrics.understanding import entities, entity_counts, grounding, intent
from qwen_audio_jax.rendering import render
from qwen_audio_jax.tasks import CONVERSATIONS, KINDS

__all__ = ["METRICS", "Answer", "counts", "part_of", "score", "score_by_part"]

METRICS: dict[str, Callable[[list[Answer]], list[dict[str, Any]]]] = {
    "wer": wer,
    "bleu": bleu,
    "timestamps": timestamps,
    "accuracy": accuracy,
    "caption": caption,
    "events": events,
    "note": note,
    "utterances": utterances,
    "diarization": diarization,
    "entities": entities,
    "intent": intent,
    "grounding": grounding,
    "conversation": conversation,
    "preference": preference,
}

_COUNTS: dict[str, Callable[[Answer], Mapping[str, float]]] = {
    "wer": edit_counts,
    "timestamps": timestamp_counts,
    "events": event_counts,
    "utterances": utterance_counts,
    "diarization": turn_counts,
    "entities": entity_counts,
    "accuracy": right_count,
    "conversation": said_count,
    "preference": preferred_count,
}
"""Of the metrics that divide sums over the answers: what one of them adds to those."""


def score(task: str, answers: list[Answer]) -> list[dict[str, Any]]:
    """Scores one task's answers with the metric that the task table names.

    Args:
        task: a key of `qwen_audio_jax.tasks.KINDS` that has a metric.
        answers: the answers to that task's records; may be empty.

    Returns:
        Rows {"task", "metric", "value", "baseline", "n"} in JSON types. "value" and "baseline" are
        None only where the set leaves them undefined, as a word error rate without any words. "n"
        counts what was scored: an answer to a label that no build would take is left out, and a
        warning tells how many. A row of "aas_ms" has "unreadable" too: how many of its "n" answers
        have no times that could be compared, and are no part of its value.
    """
    metric = METRICS[KINDS[task].metric]
    answers = [_prepared(task, answer) for answer in answers]
    try:
        rows = metric(answers)
    except _BAD_LABEL:
        scored = [answer for answer in answers if _is_scored(metric, answer)]
        rows = metric(scored)
        logging.warning(
            "%s: %d of %d answers are not scored, since their labels are not as the task needs "
            "them; build the corpus again",
            task,
            len(answers) - len(scored),
            len(answers),
        )
    return [{"task": task, **row} for row in rows]


def score_by_part(
    task: str, answers: list[Answer], parts: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """`score`, each row followed by one for each part, if there are several that have it.

    Their metrics have the part behind a stroke: "wer/fr", "bleu/en-zh", "accuracy/voice_chat".

    Args:
        task: likewise.
        answers: likewise.
        parts: that of each, "" for none; `part_of` its annotation if None.
    """
    if parts is None:
        parts = [part_of(task, answer.annotation) for answer in answers]
    by_part = collections.defaultdict(list)
    for answer, part in zip(answers, parts, strict=True):
        by_part[part].append(answer)
    by_part.pop("", None)
    parted = sorted(by_part) if len(by_part) > 1 else ()
    scored = {part: score(task, by_part[part]) for part in parted}
    rows = []
    for row in score(task, answers):
        metric = row["metric"]
        of_parts = [
            one | {"metric": f"{metric}/{part}"}
            for part, of in scored.items()
            for one in of
            if one["metric"] == metric
        ]
        rows += [row, *(of_parts if len(of_parts) > 1 else ())]
    return rows


def part_of(task: str, annotation: dict[str, Any]) -> str:
    """What a record is told apart by within its task: its language, or a conversation's kind.

    A language is "en", of a translation "en-zh". "" where the task's records have none, or this one
    does not.
    """
    known = KINDS[task].fields | KINDS[task].optional
    of = ("kind",) if task in CONVERSATIONS else ("language", "target_language")
    said = [annotation.get(field) for field in of if field in known]
    return "-".join(one for one in said if isinstance(one, str))


def counts(task: str, answer: Answer) -> Mapping[str, float]:
    """What one answer adds to the sums that its task's metric divides; {} where it has none."""
    of = _COUNTS.get(KINDS[task].metric)
    return of(_prepared(task, answer)) if of else {}


def _prepared(task: str, answer: Answer) -> Answer:
    """The answer as metrics read it."""
    answer = Answer(_composed(answer.annotation), _composed(answer.hypothesis))
    return dataclasses.replace(answer, exact=_is_label(task, answer))


_BAD_LABEL = (TypeError, ValueError, LookupError, AttributeError)


def _is_scored(metric: Callable[[list[Answer]], list[dict[str, Any]]], answer: Answer) -> bool:
    try:
        metric([answer])
    except _BAD_LABEL:
        return False
    return True


def _is_label(task: str, answer: Answer) -> bool:
    """Whether an answer is what the model was to learn, in either conditioning."""
    said = answer.hypothesis.strip()
    try:
        labels = [render(task, answer.annotation, form)[1] for form in ("tags", "prompts")]
    except _BAD_LABEL:
        return False
    texts = (_composed("".join(s.tag or s.text for s in spans)) for spans in labels)
    return any(said == text.strip() for text in texts)


def _composed(value: Any) -> Any:
    """JSON with its texts in one form: a letter with a mark may be one code point or two.

    Qwen's vocabulary can write the first alone (NFC), whatever the label has.
    """
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {key: _composed(item) for key, item in value.items()}
    return [_composed(item) for item in value] if isinstance(value, list) else value
