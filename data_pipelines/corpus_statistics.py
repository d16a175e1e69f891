"""What a corpus holds, counted in one pass over its index."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from data_pipelines.records import IndexRow

RATE = 16_000  # Hz, of the index's sample counts
SAMPLE = 8192
"""Records whose text is counted; a corpus with more is sampled."""

COUNTED = ("task", "language", "source")


@dataclasses.dataclass(frozen=True)
class CorpusStatistics:
    """Attributes:
    seconds: of audio in each record, float32 [n].
    records: for each of COUNTED, how many records have which value.
    hours: likewise, hours of audio.
    by_task: the numbers of each task's records.
    """

    seconds: np.ndarray
    records: dict[str, collections.Counter[str]]
    hours: dict[str, collections.Counter[str]]
    by_task: dict[str, list[int]]

    def sample(self) -> np.ndarray:
        """Numbers of the records to take for all: the longest, and others at random."""
        if len(self.seconds) <= SAMPLE:
            return np.arange(len(self.seconds))
        drawn = np.random.default_rng(0).choice(len(self.seconds), SAMPLE - 1, replace=False)
        return np.unique([*drawn, self.seconds.argmax()])


def corpus_statistics(index: Sequence[IndexRow]) -> CorpusStatistics:
    """Counts a split."""
    seconds = np.empty(len(index), np.float32)
    records = {what: collections.Counter() for what in COUNTED}
    hours = {what: collections.Counter() for what in COUNTED}
    by_task = collections.defaultdict(list)
    bar = tqdm(index, "reading", unit=" records", leave=False, delay=2, disable=None)
    for number, row in enumerate(bar):
        seconds[number] = sum(row.samples) / RATE
        by_task[row.task].append(number)
        for what in COUNTED:
            value = str(row.task if what == "task" else row.annotation.get(what, "not told"))
            records[what][value] += 1
            hours[what][value] += float(seconds[number]) / 3600
    return CorpusStatistics(seconds, records, hours, dict(by_task))
