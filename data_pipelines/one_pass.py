"""Each record of a split once, packed as training packs: for what is measured on it."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import SupportsIndex

import grain
import numpy as np

from data_pipelines.examples import Example, Preprocessor, empty_batch, fill_row
from data_pipelines.packing import WINDOW, PackPlan, PlannedBatch, RowShape
from data_pipelines.pairs import pair_fields
from data_pipelines.records import Corpus
from qwen_audio_jax.rendering import Tokens

NOTHING = Example(
    Tokens(np.zeros(1, np.int32), np.zeros(1, np.float32), np.full(1, -1, np.int32)), (), ()
)
"""Stands for a record that cannot be read, so that the others of its row keep their numbers."""


def packed_once(lengths: np.ndarray, shapes: Sequence[RowShape]) -> Iterator[PlannedBatch]:
    """The batches of a pass over records; component 0, and each record by its place.

    Args:
        lengths: int [n, 2], tokens and packed frames of each record.
        shapes: row shapes; one that none of them holds is in no batch.
    """
    for first in range(0, len(lengths), WINDOW):
        plan = PackPlan({"": lengths[first : first + WINDOW]}, {"": 1.0}, shapes, seed=0)
        for batch in plan.window(0).batches:
            rows = (tuple((0, first + place) for _, place in row) for row in batch.rows)
            yield dataclasses.replace(batch, rows=tuple(rows))


class OnePass(grain.sources.RandomAccessDataSource):
    """Random access to the batches of a pass: this host's rows of each. Nothing is augmented.

    Attributes:
        records: (number, number of the one whose clips are heard), usually twice the same.
        planned: the batches over all hosts. The n-th record of a row has segment n + 1, or is its
            n-th pair, and has no loss where it cannot be read.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        preprocessor: Preprocessor,
        records: Sequence[tuple[int, int]],
        planned: Sequence[PlannedBatch],
        local_rows: Mapping[RowShape, slice],
    ):
        """Args:
        corpus, split: where the records lie.
        preprocessor: how they become examples.
        records: see above.
        planned: by their places in `records`.
        local_rows: which rows of a batch of each shape this host makes.
        """
        self._corpus, self._split, self._preprocessor = corpus, split, preprocessor
        self.records, self.planned, self._local_rows = records, planned, local_rows

    def __len__(self) -> int:
        return len(self.planned)

    def __getitem__(self, number: SupportsIndex) -> dict[str, np.ndarray]:
        planned = self.planned[int(number)]
        shape, mine = planned.shape, planned.rows[self._local_rows[planned.shape]]
        batch = empty_batch(len(mine), shape.tokens, shape.frames, self._preprocessor.mel_bins)
        if layout := self._preprocessor.layout:
            batch |= pair_fields(len(mine), shape.tokens, layout)
        for row, places in enumerate(mine):
            fill_row(batch, row, [self._example(*self.records[place]) for _, place in places])
        return batch

    def _example(self, number: int, heard: int) -> Example:
        record = self._corpus.record(self._split, number)
        other = record if heard == number else self._corpus.record(self._split, heard)
        samples = self._corpus.index(self._split)[heard].samples
        try:
            heard_with = dataclasses.replace(record, audio=other.audio)
            return self._preprocessor.example(heard_with, samples)
        except ValueError as error:
            logging.warning("record %s has no loss: clips of %s: %s", record.id, other.id, error)
            return NOTHING
