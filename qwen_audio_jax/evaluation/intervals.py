"""How sure the scores of an evaluation are, and those of its slices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.slices import Slice
from qwen_audio_jax.evaluation.statistics import bootstrap
from qwen_audio_jax.evaluation.summed_scores import value_of


def interval(
    metric: str, counts: np.ndarray, clusters: Sequence[str | None], options: Options
) -> dict[str, float | None]:
    """The ends of a score's interval, "low" and "high"; nothing of no answers.

    Args:
        metric: as rows name it.
        counts: of each answer, [N, C].
        clusters: of each answer, see `statistics.bootstrap`.
        options: how many draws, and how sure.
    """
    if not len(counts):
        return {}
    found = bootstrap(
        counts,
        value_of(metric),
        clusters=clusters,
        draws=options.draws,
        seed=options.seed,
        confidence=options.confidence,
    )
    return {"low": found.low, "high": found.high}


def slice_scores(
    metric: str,
    counts: np.ndarray,
    parts: Sequence[Slice],
    clusters: Sequence[str | None],
    options: Options,
) -> list[dict[str, Any]]:
    """The score of each slice: "slice" (its name), "value", "n", "low", "high".

    Args:
        parts: the slices.
        metric, counts, clusters, options: as for `interval`.
    """
    value = value_of(metric)
    found = []
    for part in parts:
        of_part = counts[list(part.items)]
        score = float(value(of_part.sum(0, keepdims=True))[0])
        named = {"slice": part.name, "value": score if np.isfinite(score) else None}
        within = interval(metric, of_part, [clusters[i] for i in part.items], options)
        found.append(named | {"n": len(part.items)} | within)
    return found
