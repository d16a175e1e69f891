"""Evaluation: greedy answers to a validation split, scored by each task's own metric."""

import dataclasses
import functools
import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from data_pipelines.examples import Example, Preprocessor, empty_batch, fill_row
from data_pipelines.records import Corpus, IndexRow, Record
from qwen_audio_jax.audio.lengths import WINDOW_SAMPLES
from qwen_audio_jax.evaluation.selection import UNFIT, reason, spread
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.metrics import Answer, score_by_language
from qwen_audio_jax.parallel.sharding import local_rows, place_rows, row_shards
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Result:
    """What one record was answered.

    Attributes:
        record: the record.
        prompt: what it was asked, without the audio's placeholders.
        reference: the label's text, tags written out.
        hypothesis: the model's, likewise.
    """

    record: Record
    prompt: str
    reference: str
    hypothesis: str


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Answers and scores a split.

    Attributes:
        corpus: where the records lie.
        split: which of its splits.
        preprocessor: how records become prompts.
        graph: of the model.
        mesh: to run on.
        options: how many records and tokens; rows are rounded up to what the mesh divides.
    """

    corpus: Corpus
    split: str
    preprocessor: Preprocessor
    graph: nnx.GraphDef
    mesh: Mesh
    options: EvaluateConfig

    def __call__(self, parameters: Any) -> tuple[list[dict[str, Any]], list[Result]]:
        """Returns (rows of the table: task, metric, value, baseline, n; all results)."""
        results: list[Result] = []
        numbers = self._numbers()
        waiting: deque[tuple[list[Record], list[Any], jax.Array]] = deque()

        def read():
            records, questions, ids = waiting.popleft()
            texts = self._texts(ids, len(records))
            for record, (example, reference), text in zip(records, questions, texts, strict=True):
                results.append(Result(record, self._prompt_text(example), reference, text))
            bar.update(len(records))

        with tqdm(
            total=len(numbers),
            desc="evaluating",
            unit="example",
            leave=False,
            disable=jax.process_index() > 0 or None,  # None: unless it is not a terminal
        ) as bar:
            for rows, records, questions in self._groups(numbers):
                examples = [example for example, _ in questions]
                # A group is on its way before the answers of the one before are read, so clips are
                # decoded while the devices write.
                waiting.append((records, questions, self._answer(parameters, examples, rows)))
                if len(waiting) > 1:
                    read()
            while waiting:
                read()
        by_task = defaultdict(list)
        for result in results:
            answer = Answer(result.record.annotation, result.hypothesis)
            by_task[result.record.task].append(answer)
        rows = [row for task in sorted(by_task) for row in score_by_language(task, by_task[task])]
        return rows, results

    def _numbers(self) -> list[int]:
        """Record numbers in the order of their length, so that a group pads little.

        Those longer than `config.data.max_seconds` are named and dropped.
        """
        index = self.corpus.index(self.split)
        asked = [i for i, row in enumerate(index) if self._is_asked(row)]
        chosen = spread(asked, self.options.limit)
        return sorted(chosen, key=lambda i: (sum(index[i].samples), i))

    def _is_asked(self, row: IndexRow) -> bool:
        if row.task in TASKS and self.preprocessor.too_long(row):
            logging.warning("record %s is dropped: %s", row.id, self.preprocessor.too_large(row))
            return False
        return row.task in TASKS

    def _groups(self, numbers: Sequence[int]) -> Iterator[tuple[int, list[Record], list[Any]]]:
        """(rows to answer them in, records, their questions and references)."""
        index, first = self.corpus.index(self.split), 0
        while first < len(numbers):
            longest = numbers[first : first + self.options.rows][-1]
            rows = rows_for(sum(index[longest].samples), self.options.rows)
            rows = min(rows, len(numbers))
            group, first = numbers[first : first + rows], first + rows
            records, questions = [], []
            for number in group:
                record = self.corpus.record(self.split, number)
                try:
                    questions += self.preprocessor.questions(record)
                except UNFIT as error:
                    logging.warning("record %s is dropped: %s", record.id, reason(record, error))
                    continue
                records.append(record)
            if records:
                yield rows, records, questions

    def _answer(self, parameters: Any, examples: Sequence[Example], rows: int) -> jax.Array:
        """Ids of the answers, int32 [rows, max_new_tokens], on their way."""
        rows = -(-rows // row_shards(self.mesh)) * row_shards(self.mesh)
        tokens = _round_up(max(len(example.text.tokens) for example in examples), 64)
        frames = _round_up(max(sum(map(len, example.clips)) for example in examples), 256)
        batch = empty_batch(rows, tokens, frames, self.preprocessor.mel_bins)
        for row, example in enumerate(examples):
            fill_row(batch, row, [example])
        mine = local_rows(rows, self.mesh)
        placed = place_rows({name: array[mine] for name, array in batch.items()}, self.mesh)
        return self._greedy(parameters, placed)

    def _texts(self, ids: jax.Array, number: int) -> list[str]:
        """The first answers as texts, each up to its end."""
        tokenizer = self.preprocessor.tokenizer
        # By id: a text may say "<|endoftext|>" and go on.
        rows = np.asarray(ids)[:number].tolist()
        return [tokenizer.decode(_up_to(row, tokenizer.end_of_text)) for row in rows]

    @functools.cached_property
    def _greedy(self):
        def answer(parameters, batch):
            return generate(
                self.graph,
                parameters,
                batch,
                stop=(self.preprocessor.tokenizer.end_of_text,),
                max_new_tokens=self.options.max_new_tokens,
            )

        # Whole on every host, so that each can score.
        return jax.jit(answer, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def _prompt_text(self, example: Example) -> str:
        text = example.text
        return self.preprocessor.tokenizer.decode(text.tokens[text.audio < 0])


def _up_to(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def rows_for(samples: int, rows: int) -> int:
    """How many of `rows` records that are this long are answered together.

    Attention takes the square of the length, so fewer of those of over 30 s: as many as take no
    more memory than `rows` of 30 s.
    """
    return max(1, rows // max(1, -(-samples // WINDOW_SAMPLES)) ** 2)


def _round_up(length: int, least: int) -> int:
    """The next of least, 2 least, 4 least ...: few shapes, so few compilations."""
    while least < length:
        least *= 2
    return least
