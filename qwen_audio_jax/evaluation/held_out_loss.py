"""The loss on records that are not trained on, with their own clips and with those of others."""

import collections
import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
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
from qwen_audio_jax.evaluation.other_clips import Heard, other_clips
from qwen_audio_jax.evaluation.selection import UNFIT, reason, spread
from qwen_audio_jax.metrics import language_of
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.parallel.sharding import place_rows
from qwen_audio_jax.rendering import render
from qwen_audio_jax.tasks import KINDS

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

    @functools.cached_property
    def _sums(self):
        own, other = self._passes
        most = max(len(row) for one in (own, other) for batch in one.planned for row in batch.rows)

        def sums(parameters, batch):
            """Sums of losses and of weights by example, float32 [2, B, most]."""
            losses = self.losses(parameters, batch)
            mine = batch["segments"][..., None] == jnp.arange(1, most + 1)
            both = jnp.stack([losses, batch["loss_weights"]])[..., None]
            return jnp.sum(jnp.where(mine, both, 0), axis=2)

        # Whole on every host, so that each has the same table.
        return jax.jit(sums, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    @functools.cached_property
    def _passes(self) -> tuple[OnePass, OnePass]:
        """All records with their own clips, and those with others' that have them."""
        numbers = self._numbers()
        others = self._others([number for number in numbers if self._row(number).samples])
        return self._pass([(n, n) for n in numbers]), self._pass(sorted(others.items()))

    def _pass(self, records: Sequence[tuple[int, int]]) -> OnePass:
        lengths = np.array([self._length(*one) for one in records]).reshape(-1, 2)
        planned: list[PlannedBatch] = list(packed_once(lengths, list(self.local_rows)))
        return OnePass(
            self.corpus, self.split, self.preprocessor, records, planned, self.local_rows
        )

    def _row(self, number: int) -> IndexRow:
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
            row = dataclasses.replace(self._row(number), samples=self._row(heard).samples)
            ((tokens, frames),) = self.preprocessor.lengths([row])
            return int(tokens), int(frames)

        return length

    def _fits(self, number: int, heard: int) -> bool:
        tokens, frames = self._length(number, heard)
        return any(tokens <= one.tokens and frames <= one.frames for one in self.local_rows)

    def _others(self, numbers: Sequence[int]) -> dict[int, int]:
        """Whose clips each record with clips is heard with."""
        sounds = self._sounds(numbers)
        heard = []
        for number in numbers:
            row = self._row(number)
            _, label = render(row.task, row.annotation, self.preprocessor.conditioning)
            clips, language = len(row.samples), language_of(row.task, row.annotation)
            kinds = ((clips, row.task, language), (clips, row.task), (clips,))
            text = "".join(span.tag or span.text for span in label)
            heard.append(Heard(number, sum(row.samples), text, sounds[number], kinds))
        others = other_clips(heard, self._fits)
        if alone := [self._row(n).id for n in numbers if n not in others]:
            logging.warning(
                "%d records have no others' clips of another sound to be heard with, such as %s; "
                "their loss counts alike in both",
                len(alone),
                alone[0],
            )
        return others

    def _sounds(self, numbers: Sequence[int]) -> dict[int, Hashable]:
        """What is equal where clips are: of those that are equally long, a digest."""
        lengths = {number: self._row(number).samples for number in numbers}
        common = collections.Counter(lengths.values())
        return {
            number: (samples, self._digest(number) if common[samples] > 1 else b"")
            for number, samples in lengths.items()
        }

    def _digest(self, number: int) -> bytes:
        clips = self.corpus.record(self.split, number).audio
        return b"".join(hashlib.blake2b(clip, digest_size=16).digest() for clip in clips)

    def rows(self, found: Mapping[int, RecordLoss]) -> list[dict[str, Any]]:
        """Rows "loss" of the table, of each task and of all, with the task's languages if several.

        The value is nats a token; the baseline is that with other records' clips. Records without
        another's, such as text, count alike in both; where none has one, there is no baseline.
        """
        by_task = collections.defaultdict(list)
        for number, loss in found.items():
            by_task[self._row(number).task].append((number, loss))
        rows = []
        for task in sorted(by_task):
            by_language = collections.defaultdict(list)
            for number, loss in by_task[task]:
                by_language[language_of(task, self._row(number).annotation)].append(loss)
            rows.append(_loss_row(task, "loss", [loss for _, loss in by_task[task]]))
            by_language.pop("", None)
            if len(by_language) > 1:
                rows += [
                    _loss_row(task, f"loss/{language}", by_language[language])
                    for language in sorted(by_language)
                ]
        return [*rows, _loss_row(ALL, "loss", list(found.values()))]


def _loss_row(task: str, metric: str, losses: Sequence[RecordLoss]) -> dict[str, Any]:
    """Sums divided once."""
    tokens = sum(one.tokens for one in losses)
    value = baseline = None
    if tokens:
        value = sum(one.loss for one in losses) / tokens
    if any(one.other is not None for one in losses):
        baseline = sum(one.loss if one.other is None else one.other for one in losses) / tokens
    return {"task": task, **table_row(metric, value, baseline, len(losses))}
