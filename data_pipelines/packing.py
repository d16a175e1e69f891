"""The pack plan: which records share a row, which rows share a batch.

Decided from lengths alone, window by window, as a pure function of (seed, window, mixture). No
audio is read, so any batch of any epoch can be found without those before it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

WINDOW = 65536
"""Records planned together: many enough to pack tightly, few enough to plan in a few seconds."""


@dataclasses.dataclass(frozen=True)
class RowShape:
    """A static batch shape. XLA compiles once for each, so there are one to three.

    Attributes:
        rows: B, rows of a batch over all hosts.
        tokens: L.
        frames: F, log-mel frames; a multiple of 4.
    """

    rows: int
    tokens: int
    frames: int


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """A batch to be made: for each row, its records as (component, record) numbers."""

    shape: RowShape
    rows: tuple[tuple[tuple[int, int], ...], ...]


def best_fit(lengths: np.ndarray, capacity: tuple[int, int]) -> list[list[int]]:
    """Packs items of two lengths into rows of two capacities.

    Each item goes, in the order given, into the row where it leaves least room, or opens one.

    Args:
        lengths: int [n, 2], none above the capacity.
        capacity: of a row, per column.

    Returns:
        Item numbers, row by row, rows in the order in which they were opened.
    """
    rows: list[list[int]] = []
    scale = 1.0 / np.asarray(capacity)
    smallest = lengths.min(axis=0) if len(lengths) else np.zeros(2)
    room = np.empty((0, 2), np.int64)
    numbers = np.empty(0, np.int64)
    for item, need in enumerate(lengths):
        slack = room - need
        fits = (slack >= 0).all(axis=1)
        if fits.any():
            left = np.where(fits, (slack * scale).sum(axis=1), np.inf)
            best = int(left.argmin())
            rows[numbers[best]].append(item)
            room[best] = slack[best]
            if (room[best] < smallest).any():
                room, numbers = np.delete(room, best, axis=0), np.delete(numbers, best)
        else:
            rows.append([item])
            room = np.vstack([room, np.asarray(capacity) - need])
            numbers = np.append(numbers, len(rows) - 1)
    return rows


class PackPlan:
    """The endless sequence of batches of a mixture.

    A batch has a fixed number, its slot: window number * `slots_per_window` + place in the window.
    A window has fewer batches than slots; the slots left over are empty.
    """

    def __init__(
        self,
        lengths: Mapping[str, np.ndarray],
        weights: Mapping[str, float],
        shapes: Sequence[RowShape],
        seed: int,
    ):
        """Args:
        lengths: per component of the mixture, int [n, 2]: tokens and frames of each record.
        weights: the component's share of records, relative to the others'.
        shapes: row shapes; every record goes into the smallest that holds it.
        seed: of the order.
        """
        self.components = tuple(lengths)
        self.shapes = tuple(sorted(shapes, key=lambda shape: (shape.frames, shape.tokens)))
        self.seed = seed
        self._lengths = [np.asarray(lengths[name]) for name in self.components]
        shares = np.asarray([weights[name] for name in self.components], np.float64)
        self._shares = shares / shares.sum()
        self.records = sum(len(one) for one in self._lengths)
        self.window = min(WINDOW, self.records)
        least_rows = min(shape.rows for shape in self.shapes)
        self.slots_per_window = -(-self.window // least_rows) + len(self.shapes)
        self._counts: dict[int, int] = {}
        self._plan_window = functools.lru_cache(maxsize=2)(self._plan_window_uncached)
        self._order = functools.lru_cache(maxsize=2 * len(self.components))(self._order_uncached)

    def batch(self, slot: int) -> PlannedBatch | None:
        """The batch at a slot; None where the slot is empty."""
        window, place = divmod(slot, self.slots_per_window)
        batches = self._plan_window(window)
        return batches[place] if place < len(batches) else None

    def slot_of(self, number: int, first_slot: int) -> int:
        """The slot of the batch with this number, counted from 0 at `first_slot`."""
        window, place = divmod(first_slot, self.slots_per_window)
        while number >= (left := max(self._count(window) - place, 0)):
            number, window, place = number - left, window + 1, 0
        return window * self.slots_per_window + place + number

    def _count(self, window: int) -> int:
        """How many batches a window has."""
        if window not in self._counts:
            self._counts[window] = len(self._plan_window(window))
        return self._counts[window]

    def epochs(self, slot: int) -> dict[str, float]:
        """How often each component has been gone through when a slot is reached."""
        records = slot // self.slots_per_window * self.window
        return {
            name: records * share / len(lengths)
            for name, share, lengths in zip(
                self.components, self._shares, self._lengths, strict=True
            )
        }

    def shape_of(self, length: np.ndarray) -> RowShape | None:
        """The smallest row shape that holds a record; None if none does."""
        for shape in self.shapes:
            if length[0] <= shape.tokens and length[1] <= shape.frames:
                return shape
        return None

    def __reduce__(self):
        lengths = dict(zip(self.components, self._lengths, strict=True))
        weights = dict(zip(self.components, self._shares, strict=True))
        return PackPlan, (lengths, weights, self.shapes, self.seed)

    def _order_uncached(self, component: int, epoch: int) -> np.ndarray:
        """The order of a component's records in one of its epochs."""
        key = np.random.SeedSequence([self.seed, component, epoch])
        generator = np.random.Generator(np.random.Philox(key))
        return generator.permutation(len(self._lengths[component]))

    def _records(self, window: int) -> list[tuple[int, int]]:
        """The window's records: each component's next ones, in the mixture's shares."""
        drawn = []
        edges = np.floor(self._shares[:, None] * self.window * np.array([window, window + 1]))
        for component, (start, stop) in enumerate(edges.astype(np.int64)):
            for position in range(start, stop):
                epoch, place = divmod(position, len(self._lengths[component]))
                drawn.append((component, int(self._order(component, epoch)[place])))
        return drawn

    def _plan_window_uncached(self, window: int) -> list[PlannedBatch]:
        generator = np.random.Generator(
            np.random.Philox(np.random.SeedSequence([self.seed, len(self.components), window]))
        )
        records = self._records(window)
        records = [records[i] for i in generator.permutation(len(records))]
        by_shape: dict[RowShape, list[tuple[int, int]]] = {shape: [] for shape in self.shapes}
        for component, record in records:
            by_shape[self.shape_of(self._lengths[component][record])].append((component, record))
        batches = []
        for shape, members in by_shape.items():
            lengths = np.array([self._lengths[c][r] for c, r in members]).reshape(-1, 2)
            rows = best_fit(lengths, (shape.tokens, shape.frames))
            rows = [tuple(members[i] for i in rows[j]) for j in generator.permutation(len(rows))]
            for first in range(0, len(rows), shape.rows):
                filled = tuple(rows[first : first + shape.rows])
                empty = ((),) * (shape.rows - len(filled))
                batches.append(PlannedBatch(shape, filled + empty))
        return [batches[i] for i in generator.permutation(len(batches))]
