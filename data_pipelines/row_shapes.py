"""Which row shapes suit a corpus: candidates, what each wastes, and which to take."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines.packing import PackPlan, RowShape

_CUTS = ((), (0.5,), (0.75,), (0.9,), (1 / 3, 2 / 3), (0.5, 0.9))
_ROOM = (1, 2, 4)
_STEP = (16, 32)  # tokens and frames of a row are multiples, as accelerators' tiles are
_AS_GOOD = 0.005


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """Row shapes and what of their batches is not padding.

    Attributes:
        shapes: one to three.
        tokens, frames: shares, 0 to 1, over all batches of one epoch.
    """

    shapes: tuple[RowShape, ...]
    tokens: float
    frames: float

    @property
    def least(self) -> float:
        """The smaller share: what holds a step back."""
        return min(self.tokens, self.frames)


def packing_efficiency(
    lengths: np.ndarray, shapes: Sequence[RowShape], seed: int = 0
) -> Efficiency:
    """Packs records as training would, one window of the plan.

    Args:
        lengths: int [n, 2], tokens and packed frames of each record.
        shapes: the largest must hold every record.
        seed: of the order.
    """
    plan = PackPlan({"": lengths}, {"": 1.0}, shapes, seed)
    batches = itertools.takewhile(bool, map(plan.batch, itertools.count()))
    used, room = np.zeros(2), np.zeros(2)
    for batch in batches:
        shape = batch.shape
        room += shape.rows * np.array([shape.tokens, shape.frames])
        used += lengths[[record for row in batch.rows for _, record in row]].sum(axis=0)
    tokens, frames = used / room
    return Efficiency(plan.shapes, float(tokens), float(frames))


def candidates(lengths: np.ndarray, batch_tokens: int) -> Iterator[tuple[RowShape, ...]]:
    """Sets of one to three shapes for records of these lengths.

    Records are parted by size; the row of a part holds its largest record one, two or four times,
    with tokens and frames in the proportion that the part has of them.

    Args:
        lengths: int [n, 2], tokens and packed frames of each record.
        batch_tokens: about how many tokens a batch has; more than one row's.
    """
    size = (lengths / np.maximum(lengths.mean(axis=0), 1)).max(axis=1)
    seen = set()
    for cuts, room in itertools.product(_CUTS, _ROOM):
        edges = [0, *np.quantile(size, cuts), size.max()]
        shapes = tuple(
            _row_shape(part, room, batch_tokens)
            for low, high in itertools.pairwise(edges)
            if len(part := lengths[(size > low) & (size <= high)])
        )
        if shapes not in seen:
            seen.add(shapes)
            yield shapes


def _row_shape(lengths: np.ndarray, room: int, batch_tokens: int) -> RowShape:
    least, proportion = room * lengths.max(axis=0), np.maximum(lengths.sum(axis=0), 1)
    row = proportion * (least / proportion).max()
    tokens, frames = (int(-(-n // step) * step) for n, step in zip(row, _STEP, strict=True))
    return RowShape(max(1, round(batch_tokens / tokens)), tokens, frames)


def recommend(tried: Sequence[Efficiency]) -> Efficiency:
    """The one with least padding; of those as good, the one with fewest shapes, shortest rows."""
    best = max(one.least for one in tried)
    good = [one for one in tried if one.least > best - _AS_GOOD]
    return min(good, key=lambda one: (len(one.shapes), one.shapes[-1].tokens))
