"""How sure a corpus score is, and whether two models differ, from the counts of each clip.

A corpus score is a function of sums over its clips: a word error rate of edits and words. So a
resample needs only how often each clip was drawn; no answer is scored anew. The bootstrap is that
of Bisani and Ney (2004) for word error rates and of Koehn (2004) for BLEU; where clips of one
speaker or recording are alike, whole clusters are drawn. The test is approximate randomisation
(Noreen 1989; Riezler and Maxwell 2005).

Every draw comes from PCG64 as whole numbers, and sums of whole counts are exact, so a seed gives
the same interval on every machine.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

Value = Callable[[np.ndarray], np.ndarray]
"""Sums of counts, float64 [draws, C], to scores [draws], NaN where they leave it undefined. See
`qwen_audio_jax.evaluation.summed_scores`."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A percentile interval.

    Attributes:
        low, high: its ends; None where there are not two clusters to draw from, or every draw was
            undefined.
        draws: how many there were.
        undefined: those of them that left the score undefined; they are left out.
    """

    low: float | None
    high: float | None
    draws: int
    undefined: int


@dataclasses.dataclass(frozen=True)
class Paired:
    """What sets apart two models, A and B, that answered the same clips.

    Attributes:
        difference: B's score less A's; None if one of them is undefined, and so is then `p`.
        low, high: the interval of the difference, as in `Interval`.
        p: how probable a difference of this size or more is, in either direction, if it did not
            matter which of the two gave an answer; never 0.
        wins, losses, ties: clips on which B is better, worse, and neither.
        undefined: resamples of the interval that left the difference undefined.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    wins: int
    losses: int
    ties: int
    undefined: int


def bootstrap(
    counts: ArrayLike,
    value: Value,
    *,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The interval of a corpus score.

    Args:
        counts: of each clip, [N, C].
        value: the score of their sums.
        clusters: of each clip, its speaker, say; None is a clip by itself. Without it, all are.
        draws: of as many clusters as there are, with replacement.
        seed: what the draws depend on.
        confidence: how often the interval is to hold the score of the population.

    Raises:
        ValueError: what is given does not fit together; the message says what.
    """
    totals = _by_cluster(_checked(counts), clusters)
    values = value(_resampled(totals, draws, _generator(seed)))
    return _percentiles(values, len(totals), confidence)


def paired(
    counts_a: ArrayLike,
    counts_b: ArrayLike,
    value: Value,
    *,
    clusters: Sequence[Hashable] | None = None,
    lower_is_better: bool = False,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Paired:
    """Compares two models on the same clips.

    In each draw of the interval both are scored on the same clusters. For `p`, as many times, each
    cluster's answers change sides or do not, by a fair coin; a draw that leaves a score undefined
    counts as a difference of any size.

    Args:
        counts_a, counts_b: of each clip, [N, C], in the same order.
        lower_is_better: of the score: which clips are wins.
        value, clusters, draws, seed, confidence: as for `bootstrap`.

    Raises:
        ValueError: what is given does not fit together; the message says what.
    """
    a, b = _checked(counts_a), _checked(counts_b)
    if a.shape != b.shape:
        raise ValueError(
            f"paired counts must be of the same clips, but their shapes are {a.shape} and {b.shape}"
        )
    random, columns = _generator(seed), a.shape[1]
    totals = _by_cluster(np.concatenate([a, b], axis=1), clusters)

    def difference(sums: np.ndarray) -> np.ndarray:
        return value(sums[:, columns:]) - value(sums[:, :columns])

    interval = _percentiles(difference(_resampled(totals, draws, random)), len(totals), confidence)
    observed = difference(totals.sum(0, keepdims=True))[0]
    gains = contributions(a, b, value) * (-1 if lower_is_better else 1)
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    return Paired(
        difference=float(observed) if np.isfinite(observed) else None,
        low=interval.low,
        high=interval.high,
        p=_p_value(totals, value, draws, random) if np.isfinite(observed) else None,
        wins=wins,
        losses=losses,
        ties=len(a) - wins - losses,
        undefined=interval.undefined,
    )


def contributions(counts_a: np.ndarray, counts_b: np.ndarray, value: Value) -> np.ndarray:
    """What each clip adds to the difference of two corpus scores, B's less A's, [N].

    It is what A gains from B's answer to that clip and B loses with A's, on average. Where both
    have the same denominators, as in word error rates, these add up to the difference. A clip with
    equal counts adds 0, as does one without which a score would be undefined.

    Args:
        counts_a, counts_b: of each clip, float64 [N, C].
        value: the score of their sums.
    """
    total_a, total_b = counts_a.sum(0, keepdims=True), counts_b.sum(0, keepdims=True)
    change = counts_b - counts_a
    gained = value(total_a + change) - value(total_a)
    lost = value(total_b) - value(total_b - change)
    # What equal counts add is at most rounding, which has a sign too.
    return np.where(change.any(axis=1), np.nan_to_num((gained + lost) / 2, posinf=0, neginf=0), 0.0)


def _checked(counts: ArrayLike) -> np.ndarray:
    array = np.asarray(counts, np.float64)
    if array.ndim != 2:
        raise ValueError(f"counts must be [clips, columns], but their shape is {array.shape}")
    if not np.isfinite(array).all():
        (clip, *_) = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"the counts of clip {clip} are not finite; leave it out or mend it")
    return array


def _generator(seed: int) -> np.random.Generator:
    # By name: which one default_rng takes may change.
    return np.random.Generator(np.random.PCG64(seed))


def _by_cluster(counts: np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray:
    """Counts summed by cluster, [K, C], in the order of the clusters' first clips."""
    if clusters is None:
        return counts
    if len(clusters) != len(counts):
        raise ValueError(f"there are {len(counts)} clips but clusters of {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    of_clip = [
        numbers.setdefault(("alone", place) if key is None else ("cluster", key), len(numbers))
        for place, key in enumerate(clusters)
    ]
    totals = np.zeros((len(numbers), counts.shape[1]))
    np.add.at(totals, of_clip, counts)
    return totals


def _resampled(totals: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Sums over K clusters drawn with replacement, [draws, C].

    One draw at a time: all of them together would take draws x K numbers.
    """
    size = len(totals)
    sums = np.zeros((draws, totals.shape[1]))
    if size:
        for row in sums:
            # How often each was drawn, and a product: quicker than adding up the drawn rows.
            row[:] = np.bincount(random.integers(size, size=size), minlength=size) @ totals
    return sums


def _percentiles(values: np.ndarray, clusters: int, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not at {confidence}")
    defined = values[np.isfinite(values)]
    undefined = len(values) - len(defined)
    # From one cluster always the same is drawn, which tells nothing about others.
    if clusters < 2 or not len(defined):
        return Interval(None, None, len(values), undefined)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), len(values), undefined)


def _p_value(totals: np.ndarray, value: Value, draws: int, random: np.random.Generator) -> float:
    """Approximate randomisation over clusters, of which A's counts lie before B's, [K, 2C]."""
    columns = totals.shape[1] // 2
    a, b = totals[:, :columns], totals[:, columns:]
    change = b - a
    moved = np.zeros((draws, columns))
    for row in moved:
        row[:] = random.integers(2, size=len(totals), dtype=np.uint8) @ change
    scores_a, scores_b = value(a.sum(0) + moved), value(b.sum(0) - moved)
    of_a, of_b = value(a.sum(0, keepdims=True))[0], value(b.sum(0, keepdims=True))[0]
    # Differences that are equal on paper may be apart by the scores' rounding.
    least = abs(of_b - of_a) - 1e-12 * max(abs(of_a), abs(of_b))
    smaller = int((abs(scores_b - scores_a) < least).sum())
    return (draws - smaller + 1) / (draws + 1)
