"""Tokens and frames of records, found when the pack plan asks for them."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.examples import Preprocessor
from data_pipelines.records import IndexRow


class RecordLengths:
    """Tokens and packed frames of the records of an index, found when they are asked for."""

    def __init__(self, index: Sequence[IndexRow], preprocessor: Preprocessor):
        """Args: index: the records. preprocessor: how they become examples."""
        self._index, self._preprocessor = index, preprocessor
        self._known = np.full((len(index), len(preprocessor.augment.speeds), 2), -1, np.int32)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: np.ndarray | tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Tokens and frames, int [n, 2], of records by number, or by (number, speed)."""
        numbers, variants = key if isinstance(key, tuple) else (key, np.zeros(len(key), np.int64))
        unknown = self._known[numbers, variants, 0] < 0
        if unknown.any():
            new, speeds = np.unique(np.stack([numbers, variants])[:, unknown], axis=1)
            rows = [self._index[int(i)] for i in new]
            self._known[new, speeds] = self._preprocessor.lengths(rows, speeds.tolist())
        return self._known[numbers, variants]

    def __reduce__(self):
        return RecordLengths, (self._index, self._preprocessor)
