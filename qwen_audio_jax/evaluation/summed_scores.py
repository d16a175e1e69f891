"""Corpus scores as functions of summed counts, many sums at a time, for resampling.

What is no function of sums, such as average precision, has none here.
"""

import numpy as np

from qwen_audio_jax.evaluation.statistics import Value


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first column over the second, undefined over 0.

    Edits over words; right answers, or any value to be averaged, over a count of 1 for each clip.

    Args:
        sums: float64 [draws, 2].
    """
    return _quotient(sums[:, 0], sums[:, 1])


def f1(sums: np.ndarray) -> np.ndarray:
    """Of columns (matches, items of the reference, items of the answer); undefined without items.

    Args:
        sums: float64 [draws, 3].
    """
    return _quotient(2 * sums[:, 0], sums[:, 1] + sums[:, 2])


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU, 0 to 100, as sacrebleu 2 computes it; undefined if the references have no token.

    Columns as in sacrebleu's statistics: tokens of the answer, of the reference (the nearest in
    length), matching n-grams for n = 1, 2 ..., then n-grams of the answer. The k-th order from
    below without a match counts as 1 / 2^k matches; without any match at all BLEU is 0.

    Args:
        sums: float64 [draws, 2 + 2 orders].
    """
    orders = sums.shape[1] // 2 - 1
    said, length = sums[:, 0], sums[:, 1]
    matches, grams = sums[:, 2 : 2 + orders], sums[:, 2 + orders :]
    missed = matches == 0
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), matches)
    # Answers all shorter than the longest n-grams have none of those: BLEU is 0, not undefined.
    scored = grams.all(1) & ~missed.all(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / grams).mean(1) + np.minimum(0, 1 - length / said)
        values = np.where(scored, 100 * np.exp(logs), 0.0)
    return np.where(length > 0, values, np.nan)


_OTHERS: dict[str, Value] = {
    "bleu": bleu,
    "event_f1_onset": f1,
    "event_f1_onset_offset": f1,
    "entity_f1_exact": f1,
}


def value_of(metric: str) -> Value:
    """The metric's score of summed counts: BLEU and F1 as their own, all others a `ratio`.

    Args:
        metric: its name, as in a table's rows; what is behind a stroke, a part, does not count.
    """
    return _OTHERS.get(metric.partition("/")[0], ratio)


def _quotient(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(len(under), np.nan), where=under != 0)
