"""CIDEr-D of a set of captions, as the COCO caption tools compute it."""

import collections
import math
from collections.abc import Sequence

import numpy as np

from qwen_audio_jax.metrics.ptb_tokens import ptb_tokens

ORDER = 4
"""Tokens of the longest n-grams."""

SIGMA = 6.0
"""Width of the penalty for another length."""

# Of each order from 1 on: what each n-gram counts.
_Ngrams = list[dict[tuple[str, ...], float]]


def cider_d(pairs: Sequence[tuple[Sequence[str], str]]) -> tuple[float | None, np.ndarray]:
    """CIDEr-D (Vedantam et al., 2015), 0 to 10, and what each clip adds to it.

    N-grams are not stemmed. They are weighed by how few clips have them in a reference, so a value
    is one of a set and means nothing beside another set's: score all clips at once, and take no
    means over parts. In a set of one clip every weight is 0, and so is the value.

    Args:
        pairs: (references, answer) of each clip, as text; at least one reference.

    Returns:
        The mean over the clips, None where there are none; and the clips' values, float64 [clips].
    """
    if any(not references for references, _ in pairs):
        raise ValueError("CIDEr needs a reference for every clip; leave out clips without one")
    references = [[_ngrams(ptb_tokens(text)) for text in texts] for texts, _ in pairs]
    answers = [_ngrams(ptb_tokens(answer)) for _, answer in pairs]
    frequency = collections.Counter(
        ngram
        for of_clip in references
        for ngram in {ngram for counts in of_clip for order in counts for ngram in order}
    )
    values = np.zeros(len(pairs))
    for clip, (answer, of_clip) in enumerate(zip(answers, references, strict=True)):
        said = _weighed(answer, frequency, len(pairs))
        similar = [
            _similarity(said, _weighed(counts, frequency, len(pairs)), _gap(answer, counts))
            for counts in of_clip
        ]
        values[clip] = 10 * sum(similar) / len(similar)
    return (float(values.mean()) if len(values) else None), values


def _ngrams(tokens: list[str]) -> _Ngrams:
    return [
        collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        for n in range(1, ORDER + 1)
    ]


def _weighed(counts: _Ngrams, frequency: collections.Counter, clips: int) -> _Ngrams:
    """Counts times log(clips / clips that have the n-gram); one that none has counts as of one."""

    def weight(ngram: tuple[str, ...]) -> float:
        return math.log(clips) - math.log(max(1, frequency[ngram]))

    return [{ngram: n * weight(ngram) for ngram, n in order.items()} for order in counts]


def _gap(answer: _Ngrams, reference: _Ngrams) -> int:
    """By how many tokens the lengths differ; the tools count them as bigrams."""
    return sum(answer[1].values()) - sum(reference[1].values())


def _similarity(answer: _Ngrams, reference: _Ngrams, gap: int) -> float:
    """The mean over the orders of the clipped cosine, less for another length."""
    cosines = []
    for said, wanted in zip(answer, reference, strict=True):
        both = [(weight, wanted[ngram]) for ngram, weight in said.items() if ngram in wanted]
        shared = sum(min(pair) * pair[1] for pair in both)
        norms = _norm(said) * _norm(wanted)
        cosines.append(shared / norms if norms else 0.0)
    return sum(cosines) / ORDER * math.exp(-(gap**2) / (2 * SIGMA**2))


def _norm(weights: dict[tuple[str, ...], float]) -> float:
    return math.sqrt(sum(weight**2 for weight in weights.values()))
