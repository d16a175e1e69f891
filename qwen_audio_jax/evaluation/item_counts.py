"""What each answer adds to the sums that a metric's score is a function of, for intervals."""

from collections.abc import Iterable, Mapping, Sequence

from qwen_audio_jax.metrics import Answer, counts, score
from qwen_audio_jax.metrics.answer import text_of
from qwen_audio_jax.metrics.bleu import bleu_counts, bleu_pairs
from qwen_audio_jax.metrics.cider import cider_d
from qwen_audio_jax.metrics.coco_captions import rouge_l
from qwen_audio_jax.metrics.protocols import PROTOCOLS
from qwen_audio_jax.tasks import KINDS

Counts = list[tuple[float, ...]]

_NAMES = {
    "wer": ("word_edits", "words"),
    "cer": ("character_edits", "characters"),
    "der": ("error_ticks", "speech_ticks"),
    "aas_ms": ("shift_ms", "kept_units"),
    "event_f1_onset": ("onset", "wanted", "found"),
    "event_f1_onset_offset": ("onset_offset", "wanted", "found"),
    "entity_f1_exact": ("matched", "wanted", "found"),
}
"""Names of the counts of `metrics.counts` that a metric's score is a function of."""

_MEANS = ("accuracy", "velocity_accuracy", "instrument_accuracy", "token_f1", "iou")
"""Metrics that are the mean of what each answer scores alone."""

_UNFIT = (TypeError, ValueError, LookupError, AttributeError)
"""What counting raises where a label is not as its task needs it; `metrics.score` leaves it out."""


def counts_of(task: str, metrics: Iterable[str], answers: Sequence[Answer]) -> dict[str, Counts]:
    """By metric, of each answer the columns that `summed_scores.value_of(metric)` takes.

    A metric is not there if it is no function of such sums, or an answer's label cannot be read.

    Args:
        task: of the answers.
        metrics: as rows name them, without a part.
        answers: in any order.
    """
    try:
        known = [counts(task, answer) for answer in answers]
    except _UNFIT:
        known = []
    found = {metric: _columns(task, metric, answers, known) for metric in metrics}
    return {metric: columns for metric, columns in found.items() if columns}


def _columns(
    task: str, metric: str, answers: Sequence[Answer], known: Sequence[Mapping[str, float]]
) -> Counts:
    if metric == "bleu":
        return bleu_counts(bleu_pairs(answers, language_field(task)))
    names = _NAMES.get(metric, ())
    if known and names and set(names) <= known[0].keys():
        return [tuple(float(one[name]) for name in names) for one in known]
    if metric == "accuracy" and known and "right" in known[0]:
        return [(float(one["right"]), 1.0) for one in known]
    if metric in _MEANS:
        alone = [_alone(task, metric, answer) for answer in answers]
        return [] if None in alone else [(value, 1.0) for value in alone]
    return []


def _alone(task: str, metric: str, answer: Answer) -> float | None:
    return next(row["value"] for row in score(task, [answer]) if row["metric"] == metric)


def caption_counts(answers: Sequence[Answer]) -> dict[str, Counts]:
    """Of each caption the columns of the metrics that are means over the clips, by metric.

    What n-grams weigh in CIDEr-D is of the whole set, in a resample too.
    """
    pairs = [pair[:2] for pair in bleu_pairs(answers, "")]
    return {
        "cider": [(float(value), 1.0) for value in cider_d(pairs)[1]],
        "rouge_l": [(float(rouge_l([pair]) or 0.0), 1.0) for pair in pairs],
    }


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
