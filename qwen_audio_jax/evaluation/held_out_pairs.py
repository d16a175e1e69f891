"""Of pairs that are not trained on, how often a model finds the chosen answer the likelier one.

Log-probabilities are those that the loss of pairs takes, of rows packed as there. They are also
compared with those of what the run starts from, which are measured before the first step and lie in
the run folder.
"""

import collections
import dataclasses
import functools
import json
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipelines.examples import Preprocessor
from data_pipelines.one_pass import OnePass, packed_once
from data_pipelines.packing import RowShape
from data_pipelines.pipeline import batches
from data_pipelines.records import Corpus, IndexRow
from qwen_audio_jax.evaluation.plan import replace
from qwen_audio_jax.evaluation.selection import UNFIT, reason, spread
from qwen_audio_jax.metrics import part_of
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.parallel.sharding import place_rows
from qwen_audio_jax.step_config import CHOSEN, REJECTED
from qwen_audio_jax.tasks import PREFERENCE

REFERENCES_FILE = "held_out_references.jsonl"

AnswersOf = Callable[[Any, dict[str, jax.Array]], Any]
"""(parameters, batch) -> `training.preference.Answers`."""


@dataclasses.dataclass(frozen=True)
class HeldOutPairs:
    """Measures the pairs of one validation split, packed as training packs them.

    Attributes:
        corpus: where the records lie.
        split: which of its splits.
        preprocessor: how records become examples; it has a layout of pairs.
        local_rows: training's row shapes, and which rows of a batch of each this host makes.
        answers: what a batch's answers come to.
        mesh: to run on.
        limit: records at most, spread evenly over the split; 0 is all.
        per_token: whether means over an answer's tokens are compared, as "ipo" does, or sums.
    """

    corpus: Corpus
    split: str
    preprocessor: Preprocessor
    local_rows: Mapping[RowShape, slice]
    answers: AnswersOf
    mesh: Mesh
    limit: int = 0
    per_token: bool = False

    def __call__(self, parameters: Any) -> dict[int, np.ndarray]:
        """By number of the record, float32 [2]: log-probabilities of its two answers.

        One that cannot be read is named and left out.
        """
        found, source = {}, self._pass
        compiled = _whole(self.answers, self.mesh)
        for planned, batch in zip(source.planned, batches(source, 0), strict=True):
            answers = jax.device_get(compiled(parameters, place_rows(batch, self.mesh)))
            values = answers.log_probabilities
            if self.per_token:
                values = values / np.maximum(answers.tokens, 1.0)
            for row, places in enumerate(planned.rows):
                for pair, (_, place) in enumerate(places):
                    if answers.tokens[row, pair, CHOSEN]:
                        found[source.records[place][0]] = values[row, pair]
        return dict(sorted(found.items()))

    def row(self, number: int) -> IndexRow:
        """What is known of a record."""
        return self.corpus.index(self.split)[number]

    @functools.cached_property
    def _pass(self) -> OnePass:
        lengths = {}
        for number in range(len(self.corpus.index(self.split))):
            if (row := self.row(number)).task == PREFERENCE:
                try:
                    (lengths[number],) = self.preprocessor.lengths([row])
                except UNFIT as error:
                    logging.warning("pair %s is not measured: %s", row.id, reason(row, error))
        numbers = spread([*lengths], self.limit)
        measured = np.array([lengths[number] for number in numbers]).reshape(-1, 2)
        planned = [*packed_once(measured, [*self.local_rows])]
        records = [(number, number) for number in numbers]
        return OnePass(
            self.corpus, self.split, self.preprocessor, records, planned, self.local_rows
        )


@functools.lru_cache(maxsize=8)
def _whole(answers: AnswersOf, mesh: Mesh) -> AnswersOf:
    """The compiled `answers` that all corpora of a run share; every host has the whole of it."""
    return jax.jit(answers, out_shardings=NamedSharding(mesh, PartitionSpec()))


Measured = Sequence[tuple[str, IndexRow, np.ndarray]]
"""(corpus, record, log-probabilities [2])."""


@dataclasses.dataclass(frozen=True)
class PreferenceAccuracy:
    """What the held-out pairs of a run come to.

    Attributes:
        measures: by corpus.
        workdir: the run folder, which keeps what the start gives.
    """

    measures: Mapping[str, HeldOutPairs]
    workdir: pathlib.Path

    def __call__(self, parameters: Any, *, start: bool = False) -> list[dict[str, Any]]:
        """Rows of the table.

        Args:
            parameters: the model's.
            start: whether they are those that the run starts from; what they give is kept.
        """
        found = [
            (corpus, measure.row(number), values)
            for corpus, measure in self.measures.items()
            for number, values in measure(parameters).items()
        ]
        if start and jax.process_index() == 0:
            write_references(self.workdir, found)
        # The start compared with itself says nothing.
        return accuracy_rows(found, {} if start else read_references(self.workdir))


def accuracy_rows(
    found: Measured, references: Mapping[tuple[str, str], np.ndarray]
) -> list[dict[str, Any]]:
    """Rows of the table, each followed by those of the kinds of pairs if there are several.

    "ranking_accuracy" is the share of pairs whose chosen answer is likelier than the rejected one,
    "reward_accuracy" that of pairs in which it has gained more since the start; equal is no
    success. Baseline: a coin.

    Args:
        found: what the model gives.
        references: what the start gave, by (corpus, record id).
    """
    gained = [
        (row, values - references[corpus, row.id])
        for corpus, row, values in found
        if (corpus, row.id) in references
    ]
    rows = _rows("ranking_accuracy", [(row, values) for _, row, values in found])
    return [{"task": PREFERENCE, **row} for row in rows + _rows("reward_accuracy", gained)]


def _rows(metric: str, found: Sequence[tuple[IndexRow, np.ndarray]]) -> list[dict[str, Any]]:
    right = [bool(values[CHOSEN] > values[REJECTED]) for _, values in found]
    by_kind = collections.defaultdict(list)
    for (row, _), one in zip(found, right, strict=True):
        by_kind[part_of(PREFERENCE, row.annotation)].append(one)
    by_kind.pop("", None)
    parts = {f"{metric}/{kind}": by_kind[kind] for kind in sorted(by_kind)}
    named = ({metric: right} if right else {}) | (parts if len(parts) > 1 else {})
    return [table_row(name, sum(some) / len(some), 0.5, len(some)) for name, some in named.items()]


def write_references(workdir: pathlib.Path, found: Measured) -> None:
    """Keeps what the start gives."""
    lines = (
        {"corpus": corpus, "id": row.id, "log_probabilities": values.tolist()}
        for corpus, row, values in found
    )
    replace(workdir / REFERENCES_FILE, (json.dumps(line) + "\n" for line in lines))


def read_references(workdir: pathlib.Path) -> dict[tuple[str, str], np.ndarray]:
    """What was kept, by (corpus, record id); nothing if nothing was."""
    path = workdir / REFERENCES_FILE
    lines = map(json.loads, path.read_text().splitlines()) if path.is_file() else ()
    return {
        (line["corpus"], line["id"]): np.array(line["log_probabilities"], np.float32)
        for line in lines
    }
