"""The pack plan: which records share a row, which rows share a batch.

Decided from lengths alone, window by window, as a pure function of (seed, window, mixture). No
audio is read, so any batch of any epoch can be found without those before it.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

WINDOW = 16384
"""Records planned together: many enough to pack tightly, few enough to plan in a second."""

_COUNTED = 4 * WINDOW
"""Records that are planned at most to find out how many batches some epochs make."""


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


@dataclasses.dataclass(frozen=True)
class PlannedWindow:
    """The batches of a window, and its records that are larger than every row shape."""

    batches: tuple[PlannedBatch, ...]
    too_large: tuple[tuple[int, int], ...]


class Lengths(Protocol):
    """Tokens and frames of a component's records, by their numbers; an array is one."""

    def __len__(self) -> int:
        """Number of records."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """Tokens and frames, int [n, 2], of the records with these numbers, int [n].

        Where a plan has variants, it asks for [numbers, variants].
        """


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
    A window has fewer batches than slots; the slots left over are empty. Lengths are asked for
    window by window, so a plan of millions of records begins as soon as one of thousands.
    """

    def __init__(
        self,
        lengths: Mapping[str, Lengths],
        weights: Mapping[str, float],
        shapes: Sequence[RowShape],
        seed: int,
        variants: int = 1,
    ):
        """Args:
        lengths: per component of the mixture.
        weights: the component's share of records, relative to the others'.
        shapes: row shapes; every record goes into the smallest that holds it.
        seed: of the order.
        variants: in how many ways a record may be heard, of different lengths; each time that it
            comes, one is drawn.
        """
        self.components = tuple(lengths)
        self.shapes = tuple(sorted(shapes, key=lambda shape: (shape.frames, shape.tokens)))
        self.seed, self.variants = seed, variants
        self._lengths = tuple(lengths.values())
        self.sizes = tuple(map(len, self._lengths))
        shares = np.asarray([weights[name] for name in self.components], np.float64)
        self._shares = shares / shares.sum()
        self.records = sum(self.sizes)
        self.size = min(WINDOW, self.records)
        least_rows = min(shape.rows for shape in self.shapes)
        self.slots_per_window = -(-self.size // least_rows) + len(self.shapes)
        self._counts: dict[int, int] = {}
        self.window = functools.lru_cache(maxsize=2)(self._plan_window)
        self._order = functools.lru_cache(maxsize=2 * len(self.components))(self._order_uncached)

    def batch(self, slot: int) -> PlannedBatch | None:
        """The batch at a slot; None where the slot is empty."""
        window, place = divmod(slot, self.slots_per_window)
        batches = self.window(window).batches
        return batches[place] if place < len(batches) else None

    def slot_of(self, number: int, first_slot: int) -> int:
        """The slot of the batch with this number, counted from 0 at `first_slot`."""
        window, place = divmod(first_slot, self.slots_per_window)
        empty = 0
        while number >= (left := max(self._count(window) - place, 0)):
            # Not a single record of one whole epoch: without this, an endless search.
            empty = 0 if left else empty + 1
            if empty * self.size > 2 * self.records:
                raise ValueError("no record fits any row shape")
            number, window, place = number - left, window + 1, 0
        return window * self.slots_per_window + place + number

    def batches_of(self, epochs: float) -> tuple[int, bool]:
        """How many batches the first epochs of the mixture make.

        An epoch is as many records as the mixture has, each component with its share of them.

        Returns:
            (batches, whether they were counted). Of more than a few windows, the later ones are
            taken to have as many batches as those, on average.
        """
        windows = epochs * self.records / self.size
        planned = min(math.ceil(windows), max(1, _COUNTED // self.size))
        counts = [self._count(window) for window in reversed(range(planned))]  # the first stays
        if planned < windows:
            return math.ceil(windows * sum(counts) / planned), False
        left_out = (planned - windows) * counts[0]
        return max(1, sum(counts) - math.floor(left_out + 1e-6)), True

    def _count(self, window: int) -> int:
        """How many batches a window has."""
        if window not in self._counts:
            self._counts[window] = len(self.window(window).batches)
        return self._counts[window]

    def epochs(self, slot: int) -> np.ndarray:
        """How often each component has been gone through when a slot is reached, float64 [n]."""
        window, place = divmod(slot, self.slots_per_window)
        part = min(place / max(self._count(window), 1), 1.0)
        return (window + part) * self.size * self._shares / self.sizes

    def variant(self, window: int, component: int, records: np.ndarray) -> np.ndarray:
        """Which of the variants each record comes in, in a window, int [n]."""
        salt = np.random.SeedSequence([self.seed, component, window]).generate_state(1, np.uint64)
        # SplitMix64: any record's number is drawn without those before it.
        mixed = (np.asarray(records).astype(np.uint64) + salt) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(self.variants)).astype(np.int64)

    def variant_at(self, slot: int, component: int, record: int) -> int:
        """Which of the variants a record comes in at a slot."""
        window = slot // self.slots_per_window
        return int(self.variant(window, component, np.array([record]))[0])

    def shape_of(self, lengths: np.ndarray) -> np.ndarray:
        """Which of the shapes, smallest first, holds each record, int [n]; -1 if none does."""
        room = np.array([[shape.tokens, shape.frames] for shape in self.shapes])
        fits = (np.asarray(lengths)[:, None] <= room).all(axis=2)
        return np.where(fits.any(axis=1), fits.argmax(axis=1), -1)

    def __reduce__(self):
        lengths = dict(zip(self.components, self._lengths, strict=True))
        weights = dict(zip(self.components, self._shares, strict=True))
        return PackPlan, (lengths, weights, self.shapes, self.seed, self.variants)

    def _order_uncached(self, component: int, epoch: int) -> np.ndarray:
        """The order of a component's records in one of its epochs."""
        key = np.random.SeedSequence([self.seed, component, epoch])
        generator = np.random.Generator(np.random.Philox(key))
        return generator.permutation(len(self._lengths[component]))

    def _drawn(self, window: int) -> np.ndarray:
        """The window's (component, record)s, int [n, 2]: each component's next, by its share."""
        drawn = [np.empty((0, 2), np.int64)]
        edges = np.floor(self._shares[:, None] * self.size * np.array([window, window + 1]))
        for component, (start, stop) in enumerate(edges.astype(np.int64)):
            epochs, places = np.divmod(np.arange(start, stop), len(self._lengths[component]))
            for epoch in np.unique(epochs):
                records = self._order(component, int(epoch))[places[epochs == epoch]]
                drawn.append(np.stack([np.full_like(records, component), records], axis=1))
        return np.concatenate(drawn)

    def _plan_window(self, window: int) -> PlannedWindow:
        generator = np.random.Generator(
            np.random.Philox(np.random.SeedSequence([self.seed, len(self.components), window]))
        )
        drawn = generator.permutation(self._drawn(window))
        lengths = np.zeros((len(drawn), 2), np.int64)
        for component, known in enumerate(self._lengths):
            here = drawn[:, 0] == component
            numbers = drawn[here, 1]
            if self.variants > 1:
                lengths[here] = known[numbers, self.variant(window, component, numbers)]
            else:
                lengths[here] = known[numbers]
        members = [(component, record) for component, record in drawn.tolist()]
        shape_of = self.shape_of(lengths)
        batches = []
        for number, shape in enumerate(self.shapes):
            (here,) = np.nonzero(shape_of == number)
            rows = best_fit(lengths[here], (shape.tokens, shape.frames))
            rows = [
                tuple(members[i] for i in here[rows[j]]) for j in generator.permutation(len(rows))
            ]
            for first in range(0, len(rows), shape.rows):
                filled = tuple(rows[first : first + shape.rows])
                empty = ((),) * (shape.rows - len(filled))
                batches.append(PlannedBatch(shape, filled + empty))
        too_large = tuple(members[i] for i in np.nonzero(shape_of < 0)[0])
        order = generator.permutation(len(batches))
        return PlannedWindow(tuple(batches[i] for i in order), too_large)
