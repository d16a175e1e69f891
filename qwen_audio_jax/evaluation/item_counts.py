"""What each answer adds to the sums that a metric's score is a function of, for intervals."""

from collections.abc import Sequence

from qwen_audio_jax.metrics import Answer, counts
from qwen_audio_jax.metrics.answer import text_of
from qwen_audio_jax.metrics.bleu import bleu_counts, bleu_pairs
from qwen_audio_jax.metrics.protocols import PROTOCOLS
from qwen_audio_jax.tasks import KINDS

Counts = list[tuple[float, ...]]

_NAMES = {
    "wer": ("word_edits", "words"),
    "cer": ("character_edits", "characters"),
}
"""Names of the counts of `metrics.counts` that a metric divides."""


def counts_of(task: str, metric: str, answers: Sequence[Answer]) -> Counts | None:
    """Of each answer the columns that `summed_scores.value_of(metric)` takes.

    None where the score is no function of such sums.

    Args:
        task: of the answers.
        metric: as rows name it, without a part.
        answers: in any order.
    """
    if metric == "bleu":
        return bleu_counts(bleu_pairs(answers, language_field(task))) or None
    if not answers or not counts(task, answers[0]):
        return None
    known = [counts(task, answer) for answer in answers]
    if metric in _NAMES and _NAMES[metric][0] in known[0]:
        over, under = _NAMES[metric]
        return [(float(one[over]), float(one[under])) for one in known]
    if metric == "accuracy" and "right" in known[0]:
        return [(float(one["right"]), 1.0) for one in known]
    return None


def language_field(task: str) -> str:
    """Which field of a task's annotation says the language of its answers."""
    return "target_language" if KINDS[task].metric == "bleu" else "language"


def protocol_counts(task: str, protocol: str, answers: Sequence[Answer]) -> Counts | None:
    """(edits, words) of each answer under a protocol; None of tasks without word error rates."""
    if KINDS[task].metric != "wer":
        return None
    of = PROTOCOLS[protocol]
    counted = (
        of.edit_counts(
            text_of(answer.annotation), answer.hypothesis, answer.annotation.get("language")
        )
        for answer in answers
    )
    return [(float(one.edits), float(one.reference_length)) for one in counted]
