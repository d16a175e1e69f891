"""The loss on records that are not trained on, with their own clips and with those of others."""

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from data_pipelines.examples import Preprocessor
from data_pipelines.one_pass import OnePass, packed_once
from data_pipelines.packing import PlannedBatch, RowShape
from data_pipelines.pipeline import batches
from data_pipelines.records import Corpus, IndexRow
from qwen_audio_jax.evaluation.other_clips import others_of
from qwen_audio_jax.evaluation.selection import UNFIT, reason, spread
from qwen_audio_jax.metrics import part_of
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.parallel.sharding import place_rows
from qwen_audio_jax.tasks import KINDS

_SEGMENTS = 16
"""Examples of a row are summed in multiples of so many: few programs, which corpora share."""

Losses = Callable[[Any, dict[str, jax.Array]], jax.Array]
"""(parameters, batch) -> what each position gives to the loss, float32 [B, L]."""

ALL = "all"
"""Stands for a task in the rows that are of all records."""


@dataclasses.dataclass(frozen=True)
class RecordLoss:
    """Attributes:
    tokens: that are learned, their loss weights added up.
    loss: sum over them, in nats.
    other: the same with another record's clips in place of its own; None if it has none.
    """

    tokens: float
    loss: float
    other: float | None = None


@dataclasses.dataclass(frozen=True)
class HeldOutLoss:
    """Measures the loss of each record of a split, as training would: labels, packing, model.

    Attributes:
        corpus: where the records lie.
        split: which of its splits.
        preprocessor: how records become examples.
        local_rows: training's row shapes, and which rows of a batch of each this host makes.
        losses: what each position of a batch gives.
        mesh: to run on.
        limit: records at most, spread evenly over the split; 0 is all.
    """

    corpus: Corpus
    split: str
    preprocessor: Preprocessor
    local_rows: Mapping[RowShape, slice]
    losses: Losses
    mesh: Mesh
    limit: int = 0

    def __call__(self, parameters: Any) -> dict[int, RecordLoss]:
        """The losses by number of the record. One that cannot be read is named and left out."""
        own, other = self._passes
        total = len(own.planned) + len(other.planned)
        with tqdm(
            total=total,
            desc="held-out loss",
            unit="batch",
            leave=False,
            disable=jax.process_index() > 0 or None,
        ) as bar:
            found = {
                number: RecordLoss(tokens, loss)
                for number, (loss, tokens) in self._measured(parameters, own, bar).items()
                if tokens
            }
            for number, (loss, tokens) in self._measured(parameters, other, bar).items():
                if tokens and number in found:
                    found[number] = dataclasses.replace(found[number], other=loss)
        return dict(sorted(found.items()))

    def _measured(
        self, parameters: Any, source: OnePass, bar: tqdm
    ) -> dict[int, tuple[float, float]]:
        """(sum of losses, sum of weights) by number of the record."""
        found: dict[int, tuple[float, float]] = {}
        waiting: collections.deque = collections.deque()

        def read():
            planned, sums = waiting.popleft()
            losses, weights = np.asarray(jax.device_get(sums), np.float64)
            for row, places in enumerate(planned.rows):
                for segment, (_, place) in enumerate(places):
                    number, _ = source.records[place]
                    found[number] = float(losses[row, segment]), float(weights[row, segment])
            bar.update()

        for planned, batch in zip(source.planned, batches(source, 0), strict=True):
            # A batch is on its way before the sums of the one before are read.
            waiting.append((planned, self._sums(parameters, place_rows(batch, self.mesh))))
            if len(waiting) > 1:
                read()
        while waiting:
            read()
        return found

    def _sums(self, parameters: Any, batch: dict[str, jax.Array]) -> jax.Array:
        own, other = self._passes
        most = max(len(row) for one in (own, other) for batch in one.planned for row in batch.rows)
        return _sums_of(self.losses, self.mesh)(parameters, batch, _round_up(most))

    @functools.cached_property
    def _passes(self) -> tuple[OnePass, OnePass]:
        """All records with their own clips, and those with others' that have them."""
        numbers = self._numbers()
        others = self._others([number for number in numbers if self.row(number).samples])
        return self._pass([(n, n) for n in numbers]), self._pass(sorted(others.items()))

    def _pass(self, records: Sequence[tuple[int, int]]) -> OnePass:
        lengths = np.array([self._length(*one) for one in records]).reshape(-1, 2)
        planned: list[PlannedBatch] = list(packed_once(lengths, list(self.local_rows)))
        return OnePass(
            self.corpus, self.split, self.preprocessor, records, planned, self.local_rows
        )

    def row(self, number: int) -> IndexRow:
        """What is known of a record."""
        return self.corpus.index(self.split)[number]

    def _numbers(self) -> list[int]:
        """Records that can be measured; others are named and left out."""
        index, known = self.corpus.index(self.split), []
        for number in range(len(index)):
            row = index[number]
            if row.task not in KINDS:
                continue
            try:
                fits = self._fits(number, number)
                why = "" if fits else self.preprocessor.too_large(row)
            except UNFIT as error:
                why = reason(row, error)
            if why:
                logging.warning("record %s has no held-out loss: %s", row.id, why)
            else:
                known.append(number)
        return spread(known, self.limit)

    @functools.cached_property
    def _length(self) -> Callable[[int, int], tuple[int, int]]:
        """Tokens and frames of a record with the clips of another."""

        @functools.cache
        def length(number: int, heard: int) -> tuple[int, int]:
            row = dataclasses.replace(self.row(number), samples=self.row(heard).samples)
            ((tokens, frames),) = self.preprocessor.lengths([row])
            return int(tokens), int(frames)

        return length

    def _fits(self, number: int, heard: int) -> bool:
        tokens, frames = self._length(number, heard)
        return any(tokens <= one.tokens and frames <= one.frames for one in self.local_rows)

    def _others(self, numbers: Sequence[int]) -> dict[int, int]:
        """Whose clips each record with clips is heard with."""
        conditioning = self.preprocessor.conditioning
        others = others_of(self.corpus, self.split, numbers, conditioning, self._fits)
        if alone := [self.row(n).id for n in numbers if n not in others]:
            logging.warning(
                "%d records have no others' clips of another sound to be heard with, such as %s; "
                "their loss counts alike in both",
                len(alone),
                alone[0],
            )
        return others


@functools.lru_cache(maxsize=8)
def _sums_of(losses: Losses, mesh: Mesh) -> Callable[[Any, dict[str, jax.Array], int], jax.Array]:
    """The compiled (parameters, batch, most) -> sums that all corpora of a run share."""

    def sums(parameters, batch, most):
        """Sums of losses and of weights by example, float32 [2, B, most]."""
        mine = batch["segments"][..., None] == jnp.arange(1, most + 1)
        both = jnp.stack([losses(parameters, batch), batch["loss_weights"]])[..., None]
        return jnp.sum(jnp.where(mine, both, 0), axis=2)

    # Whole on every host, so that each has the same table.
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(sums, static_argnums=2, out_shardings=whole)


def _round_up(segments: int) -> int:
    return -(-segments // _SEGMENTS) * _SEGMENTS


def loss_rows(found: Iterable[tuple[IndexRow, RecordLoss]]) -> list[dict[str, Any]]:
    """Rows "loss" of the table, of each task and of all, with the task's parts if several.

    The value is nats a token; the baseline is that with other records' clips. Records without
    another's, such as text, count alike in both; where none has one, there is no baseline.
    """
    by_task = collections.defaultdict(list)
    for row, loss in found:
        by_task[row.task].append((part_of(row.task, row.annotation), loss))
    rows = []
    for task in sorted(by_task):
        by_part = collections.defaultdict(list)
        for part, loss in by_task[task]:
            by_part[part].append(loss)
        rows.append(_loss_row(task, "loss", [loss for _, loss in by_task[task]]))
        by_part.pop("", None)
        if len(by_part) > 1:
            rows += [_loss_row(task, f"loss/{part}", by_part[part]) for part in sorted(by_part)]
    whole = [loss for losses in by_task.values() for _, loss in losses]
    return [*rows, _loss_row(ALL, "loss", whole)]


def _loss_row(task: str, metric: str, losses: Sequence[RecordLoss]) -> dict[str, Any]:
    """Sums divided once."""
    tokens = sum(one.tokens for one in losses)
    value = baseline = None
    if tokens:
        value = sum(one.loss for one in losses) / tokens
    if any(one.other is not None for one in losses):
        baseline = sum(one.loss if one.other is None else one.other for one in losses) / tokens
    return {"task": task, **table_row(metric, value, baseline, len(losses))}
