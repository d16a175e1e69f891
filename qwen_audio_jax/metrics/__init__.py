"""Scores of a model's answers, task by task: thin over jiwer, sacrebleu and rapidfuzz."""

from collections.abc import Callable
from typing import Any

from qwen_audio_jax.metrics.answer import Answer
from qwen_audio_jax.metrics.bleu import bleu, caption
from qwen_audio_jax.metrics.classification import accuracy, note
from qwen_audio_jax.metrics.error_rate import wer
from qwen_audio_jax.metrics.speakers import diarization, utterances
from qwen_audio_jax.metrics.timelines import events, timestamps
from qwen_audio_jax.metrics.understanding import entities, grounding, intent
from qwen_audio_jax.tasks import TASKS

__all__ = ["METRICS", "Answer", "score"]

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
}


def score(task: str, answers: list[Answer]) -> list[dict[str, Any]]:
    """Scores one task's answers with the metric that the task table names.

    Args:
        task: a key of `qwen_audio_jax.tasks.TASKS`.
        answers: the answers to that task's records; may be empty.

    Returns:
        Rows {"task", "metric", "value", "baseline", "n"} in JSON types. "value" and "baseline" are
        None only where the set leaves them undefined, as a word error rate without any words.
    """
    return [{"task": task, **row} for row in METRICS[TASKS[task].metric](answers)]
