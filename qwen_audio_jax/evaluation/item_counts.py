"""What one answer adds to the sums that a metric's score is a function of, for intervals."""

from qwen_audio_jax.metrics import Answer, counts
from qwen_audio_jax.metrics.bleu import bleu_counts
from qwen_audio_jax.tasks import KINDS

_FLAT = {
    "wer": ("word_edits", "words"),
    "cer": ("character_edits", "characters"),
}
"""Names of the counts of `metrics.counts` that a metric divides."""


def counts_of(task: str, metric: str, answer: Answer) -> tuple[float, ...] | None:
    """The columns that `summed_scores.value_of(metric)` takes; None of other metrics.

    Args:
        task: of the answer.
        metric: as rows name it, without a part.
        answer: one.
    """
    if metric == "bleu":
        field = "target_language" if KINDS[task].metric == "bleu" else "language"
        return bleu_counts(answer, field)
    known = counts(task, answer)
    if metric in _FLAT and _FLAT[metric][0] in known:
        over, under = _FLAT[metric]
        return float(known[over]), float(known[under])
    if metric == "accuracy" and "right" in known:
        return float(known["right"]), 1.0
    return None
