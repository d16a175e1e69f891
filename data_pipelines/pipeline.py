"""Shards -> mixture -> packed rows -> batches, prefetched by Grain."""

import logging
import math
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np

from data_pipelines.examples import (
    Example,
    Preprocessor,
    augmented,
    batch_bytes,
    empty_batch,
    fill_row,
)
from data_pipelines.packing import PackPlan, RowShape
from data_pipelines.pairs import pair_fields
from data_pipelines.record_lengths import RecordLengths
from data_pipelines.records import Corpus, CorpusError
from data_pipelines.selection import ALL, Selection
from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment

_ENDLESS = 1 << 60


class PackedBatches(grain.sources.RandomAccessDataSource):
    """Random access to the batches of a pack plan from a slot on: this host's rows of each.

    Beside the arrays of the Batch contract, one holds what the run logs of it: `slot`, its number
    in the plan; `epochs`, float64, how often each component has been gone through then; `dropped`,
    how many of its records could not be used.
    """

    def __init__(
        self,
        corpora: Mapping[str, Corpus],
        preprocessor: Preprocessor,
        plan: PackPlan,
        local_rows: Mapping[RowShape, slice],
        first_slot: int = 0,
        *,
        augment: SpecAugment = OFF,
        seed: int = 0,
        max_bad_share: float = 0.01,
        references: Sequence[np.ndarray] | None = None,
    ):
        """Args:
        corpora: the components of the mixture.
        preprocessor: how records become examples.
        plan: of all batches.
        local_rows: which rows of a batch of each shape this host makes.
        first_slot: 0, or one past the last batch that was trained on.
        augment: what is done to the clips.
        seed: of that; what becomes of a clip depends on it and on the clip's place in the plan.
        max_bad_share: see `DroppedRecords`.
        references: of pairs, by component, the log-probabilities of their answers that the batch
            brings, float32 [n, 2]; zeros if None. A record without any, which is NaN, is dropped.
        """
        self._corpora = [corpora[name] for name in plan.components]
        self._preprocessor = preprocessor
        self._plan = plan
        self._local_rows = dict(local_rows)
        self._first_slot = first_slot
        self._augment = augment
        self._seed = seed
        self._dropped = DroppedRecords(max_bad_share)
        self._references = references

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, number: SupportsIndex) -> dict[str, np.ndarray]:
        slot = self._plan.slot_of(int(number), self._first_slot)
        planned = self._plan.batch(slot)
        shape, mine = planned.shape, range(planned.shape.rows)[self._local_rows[planned.shape]]
        batch = empty_batch(len(mine), shape.tokens, shape.frames, self._preprocessor.mel_bins)
        if layout := self._preprocessor.layout:
            batch |= pair_fields(len(mine), shape.tokens, layout)
        dropped = self._too_large(slot)
        for row, number in enumerate(mine):
            examples = []
            for place, (component, record) in enumerate(planned.rows[number]):
                random = np.random.default_rng([self._seed, slot, number, place])
                example = self._example(slot, component, record, random)
                if example is None:
                    dropped += 1
                    examples.append(None)
                    continue
                examples.append(augmented(example, self._augment, random))
                if self._references is not None:
                    batch["references"][row, place] = self._references[component][record]
            fill_row(batch, row, examples)
        return batch | {
            "slot": np.int64(slot),
            "epochs": self._plan.epochs(slot + 1),
            "dropped": np.int64(dropped),
        }

    def _example(
        self, slot: int, component: int, number: int, random: np.random.Generator
    ) -> Example | None:
        corpus = self._corpora[component]
        row = corpus.index("train")[number]
        try:
            if self._references is not None and np.isnan(self._references[component][number, 0]):
                raise ValueError("it has no reference, since it could not be used before")
            record = corpus.record("train", number)
            variant = self._plan.variant_at(slot, component, number)
            example = self._preprocessor.example(record, row.samples, variant, random)
        except ValueError as error:
            self._dropped.drop(corpus, row.id, str(error))
            return None
        self._dropped.keep()
        return example

    def _too_large(self, slot: int) -> int:
        """Tells, with a window's first batch, of the window's records that no row can hold."""
        window, place = divmod(slot, self._plan.slots_per_window)
        if place:
            return 0
        too_large = self._plan.window(window).too_large
        for component, number in too_large:
            corpus = self._corpora[component]
            row = corpus.index("train")[number]
            self._dropped.drop(corpus, row.id, self._preprocessor.too_large(row))
        return len(too_large)


class DroppedRecords:
    """Records that a process could not use: each is logged by name, and too many stop the run.

    Too many is more than `max_share` of those that it has seen, or of the first thousand. Threads
    that read ahead may find more until the run has ended; they tell of that one again.
    """

    def __init__(self, max_share: float):
        """Args: max_share: 0 stops at the first one, 1 never."""
        self._max_share = max_share
        self._seen = self._bad = 0
        self._stopped_by = ""
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Counts a record that could be used."""
        with self._lock:
            self._seen += 1

    def drop(self, corpus: Corpus, name: str, reason: str) -> None:
        """Counts and names one that could not.

        Raises:
            CorpusError: that was one too many.
        """
        logging.warning("%s: record %s is dropped: %s", corpus.path, name, reason)
        with self._lock:
            self._seen += 1
            self._bad += 1
            if not self._stopped_by and self._bad > self._max_share * max(self._seen, 1000):
                self._stopped_by = (
                    f"{corpus.path}: {self._bad} records could not be used, more than "
                    f"config.data.max_bad_share = {self._max_share:g} of them; the last one, "
                    f"{name}: {reason}"
                )
            if self._stopped_by:
                raise CorpusError(self._stopped_by)

    def __reduce__(self):
        return DroppedRecords, (self._max_share,)


def open_mixture(
    root: str | pathlib.Path,
    mixture: Mapping[str, float],
    chosen: Mapping[str, Selection] | None = None,
) -> dict[str, Corpus]:
    """The corpora of a mixture, each a folder below `root` (or an absolute path).

    One with weight 0 is left out.

    Args:
        root: folder of the corpora.
        mixture: their weights.
        chosen: which records of a corpus are taken; all of those that are not in it.

    Raises:
        ValueError: an empty mixture, or a weight that is none.
        FileNotFoundError: a corpus is not there; the sentence says how to build it.
    """
    if not mixture:
        raise ValueError("config.data.mixture: is empty; name at least one corpus and its weight")
    for name, weight in mixture.items():
        if type(weight) not in (int, float) or not 0 <= weight < math.inf:
            raise ValueError(
                f"config.data.mixture: the weight of {name!r} must be a number, 0 or more, not "
                f"{weight!r}"
            )
    if not any(mixture.values()):
        raise ValueError("config.data.mixture: all weights are 0; one must be above")
    return {
        name: Corpus(pathlib.Path(root) / name, (chosen or {}).get(name, ALL))
        for name, weight in mixture.items()
        if weight > 0
    }


def make_plan(
    corpora: Mapping[str, Corpus],
    mixture: Mapping[str, float],
    preprocessor: Preprocessor,
    shapes: Sequence[RowShape],
    seed: int,
    *,
    temperature: float = 0.0,
    max_bad_share: float = 0.01,
) -> PackPlan:
    """Plans the training split of a mixture. Its first window is planned here.

    Args:
        corpora: the components.
        mixture: their weights.
        preprocessor: how records become examples.
        shapes: row shapes.
        seed: of the order.
        temperature: 0 takes the weights as they are; above, they are multiplied by the number of
            records to the power of 1 / temperature: 1 takes corpora by their size, more evens out.
        max_bad_share: see `DroppedRecords`.

    Raises:
        ValueError: too many records are larger than the largest row shape; the sentence names one.
    """
    indices = {name: corpus.index("train") for name, corpus in corpora.items()}
    weights = {name: mixture[name] * _size(len(indices[name]), temperature) for name in indices}
    lengths = {name: RecordLengths(index, preprocessor) for name, index in indices.items()}
    plan = PackPlan(lengths, weights, shapes, seed, len(preprocessor.augment.speeds))
    too_large = plan.window(0).too_large
    if len(too_large) > max_bad_share * plan.size:
        rows = [(plan.components[c], indices[plan.components[c]][i]) for c, i in too_large]
        name, longest = max(rows, key=lambda row: sum(row[1].samples))
        raise ValueError(
            f"{len(too_large)} of the first {plan.size} records cannot be packed, such as "
            f"{longest.id} of corpus {name!r}: {preprocessor.too_large(longest)}; "
            f"config.data.max_bad_share is {max_bad_share:g}"
        )
    return plan


def _size(records: int, temperature: float) -> float:
    return records ** (1 / temperature) if temperature else 1.0


def check_memory(local_rows: Mapping[RowShape, slice], mel_bins: int) -> None:
    """Raises ValueError where this host's rows of a batch take more memory than it has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for shape, mine in local_rows.items():
        rows = len(range(shape.rows)[mine])
        needed = batch_bytes(rows, shape.tokens, shape.frames, mel_bins)
        if needed > memory:
            raise ValueError(
                f"config.data.shapes: {rows:,} rows of {shape.tokens:,} tokens and "
                f"{shape.frames:,} frames, which this process makes, take {needed / 2**30:,.0f} "
                f"GiB, and this machine has {memory / 2**30:,.0f} GiB of memory; take fewer rows"
            )


def batches(
    source: grain.sources.RandomAccessDataSource, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    """The parts of the batches that fall to this host.

    Args:
        source: the planned batches, such as `PackedBatches` from where training goes on.
        workers: processes that make batches; 0 makes them in two threads of this process.
    """
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    dataset = grain.MapDataset.source(source).to_iter_dataset(options)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        # Copied, for Grain's workers hand over shared memory that is theirs.
        shared = dataset.mp_prefetch(options)
        return ({name: np.array(array) for name, array in batch.items()} for batch in shared)
    return iter(dataset)


def split_data_position(
    batch: dict[str, np.ndarray], components: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Parts what the model reads from the data position."""
    batch = dict(batch)
    position = {"slot": int(batch.pop("slot")), "dropped": int(batch.pop("dropped"))}
    epochs = zip(components, batch.pop("epochs").tolist(), strict=True)
    return batch, position | {f"epochs/{name}": epoch for name, epoch in epochs}
