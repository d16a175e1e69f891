"""Shards -> mixture -> packed rows -> batches, prefetched by Grain."""

import logging
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import SupportsIndex

import grain
import numpy as np

from data_pipelines.examples import Example, ExampleMaker, augmented, empty_batch, fill_row
from data_pipelines.packing import PackPlan, RowShape
from data_pipelines.records import Corpus, IndexRow
from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment

MAX_BAD_RECORDS = 20
"""Records that may turn out unreadable in one process before training stops."""

_ENDLESS = 1 << 60


class PackedBatches(grain.sources.RandomAccessDataSource):
    """Random access to the batches of a pack plan from a slot on: this host's rows of each.

    A record that cannot be read leaves its place in the row empty, is logged with its id and
    counted; more than MAX_BAD_RECORDS stop the run.
    """

    def __init__(
        self,
        corpora: Mapping[str, Corpus],
        maker: ExampleMaker,
        plan: PackPlan,
        local_rows: Mapping[RowShape, slice],
        first_slot: int = 0,
        augment: SpecAugment = OFF,
        seed: int = 0,
    ):
        """Args:
        corpora: the components of the mixture.
        maker: how records become examples.
        plan: of all batches.
        local_rows: which rows of a batch of each shape this host makes.
        first_slot: 0, or one past the last batch that was trained on.
        augment: what is done to the clips.
        seed: of that; what becomes of a clip depends on it and on the clip's place in the plan.
        """
        self._corpora = [corpora[name] for name in plan.components]
        self._maker = maker
        self._plan = plan
        self._local_rows = dict(local_rows)
        self._first_slot = first_slot
        self._augment = augment
        self._seed = seed
        self._bad = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, number: SupportsIndex) -> dict[str, np.ndarray]:
        slot = self._plan.slot_of(int(number), self._first_slot)
        planned = self._plan.batch(slot)
        shape, mine = planned.shape, range(planned.shape.rows)[self._local_rows[planned.shape]]
        batch = empty_batch(len(mine), shape.tokens, shape.frames, self._maker.mel_bins)
        for row, number in enumerate(mine):
            examples = []
            for place, (component, record) in enumerate(planned.rows[number]):
                example = self._example(component, record)
                if example is not None:
                    random = np.random.default_rng([self._seed, slot, number, place])
                    examples.append(augmented(example, self._augment, random))
            fill_row(batch, row, examples)
        return batch | {"slot": np.int64(slot)}

    def _example(self, component: int, number: int) -> Example | None:
        corpus = self._corpora[component]
        try:
            return self._maker.example(corpus.record("train", number))
        except ValueError as error:
            name = corpus.index("train")[number].id
            logging.warning("%s: record %s is left out: %s", corpus.path, name, error)
            with self._lock:
                self._bad += 1
                if self._bad > MAX_BAD_RECORDS:
                    raise RuntimeError(
                        f"{corpus.path}: more than {MAX_BAD_RECORDS} unreadable records, the last "
                        f"one {name}; build the corpus again"
                    ) from error
            return None

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())


def open_mixture(root: str | pathlib.Path, mixture: Mapping[str, float]) -> dict[str, Corpus]:
    """The corpora of a mixture, each a folder below `root` (or an absolute path).

    Raises:
        ValueError: an empty mixture or a weight that is not positive.
        FileNotFoundError: a corpus is not there; the sentence says how to build it.
    """
    if not mixture:
        raise ValueError("config.data.mixture: is empty; name at least one corpus and its weight")
    for name, weight in mixture.items():
        if not weight > 0:
            raise ValueError(f"config.data.mixture: the weight of {name!r} must be above 0")
    return {name: Corpus(pathlib.Path(root) / name) for name in mixture}


def make_plan(
    corpora: Mapping[str, Corpus],
    weights: Mapping[str, float],
    maker: ExampleMaker,
    shapes: Sequence[RowShape],
    seed: int,
) -> PackPlan:
    """Plans the training split of a mixture.

    Raises:
        ValueError: a record is larger than the largest row shape; the sentence names it.
    """
    indices = {name: corpus.index("train") for name, corpus in corpora.items()}
    lengths = {name: maker.lengths(rows) for name, rows in indices.items()}
    plan = PackPlan(lengths, weights, shapes, seed)
    for name, rows in indices.items():
        _check_fit(name, rows, lengths[name], plan)
    return plan


def _check_fit(name: str, rows: Sequence[IndexRow], lengths: np.ndarray, plan: PackPlan) -> None:
    too_long = [i for i, length in enumerate(lengths) if plan.shape_of(length) is None]
    if too_long:
        tokens, frames = lengths[too_long].max(axis=0)
        raise ValueError(
            f"corpus {name!r}: {len(too_long)} records, such as {rows[too_long[0]].id}, are larger "
            f"than every row shape; config.data.shapes needs one of at least {tokens} tokens and "
            f"{-(-frames // 4) * 4} frames"
        )


def batches(source: PackedBatches, workers: int) -> Iterator[dict[str, np.ndarray]]:
    """The parts of the batches that fall to this host; each carries its `slot`.

    Args:
        source: the planned batches, from where training goes on.
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
