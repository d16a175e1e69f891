"""Greedy answers to a validation split."""

import dataclasses
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from data_pipelines.examples import Example, Preprocessor, asked, empty_batch, fill_row
from data_pipelines.records import Corpus, IndexRow, Record
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import WINDOW_SAMPLES
from qwen_audio_jax.evaluation.other_clips import others_of
from qwen_audio_jax.evaluation.selection import UNFIT, reason, spread
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.parallel.sharding import local_rows, place_rows, row_shards
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.tasks import CHAT, KINDS
from qwen_audio_jax.tasks.conversation import places
from qwen_audio_jax.text.control_tokens import IM_END

Asked = tuple[Record, "Question", Example, str]
"""A record, the question, its prompt and the reference."""

Waves = Callable[["Question", Record], Sequence[np.ndarray]]
"""What is heard in a question's clips, as many as it has."""

SILENCE, ANOTHER_CLIP = "silence", "another_clip"
CONTROLS = (SILENCE, ANOTHER_CLIP)
"""What conversations are heard with to see what their clips are worth: as much silence as each clip
lasts, and the clips of another conversation."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is answered: a record, or of a conversation one answer behind the turns before it.

    Attributes:
        number: of the record in its split.
        place: of the question among those of the record.
        annotation: it is asked by, see `data_pipelines.examples.asked`.
        samples: of the clips that are heard.
    """

    number: int
    place: int
    annotation: dict[str, Any]
    samples: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a question was answered.

    Attributes:
        record: the record.
        annotation: it was asked by: that of a conversation ends with the reference.
        prompt: what it was asked, without the audio's placeholders.
        reference: the label's text, tags written out.
        hypothesis: the model's, likewise.
        controls: what the model answered to other sound, by CONTROLS.
    """

    record: Record
    annotation: dict[str, Any]
    prompt: str
    reference: str
    hypothesis: str
    controls: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Answers a split.

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

    def __call__(self, parameters: Any, *, controls: bool = False) -> list[Result]:
        """All results.

        Args:
            parameters: the model's.
            controls: whether conversations are answered again with other sound.
        """
        questions = self._questions()
        results = self._results(parameters, questions, self._own, "evaluating")
        if not controls:
            return list(results.values())
        heard = [q for q in questions if q.samples and self._row(q).task == CHAT]
        for name, waves_of in zip(CONTROLS, (self._silence, self._others), strict=True):
            asked = [q for q in heard if name == SILENCE or q.number in self._other_clips]
            for key, one in self._results(parameters, asked, waves_of, name).items():
                if key in results:
                    results[key].controls[name] = one.hypothesis
        return list(results.values())

    def _results(
        self, parameters: Any, questions: Sequence[Question], waves_of: Waves, told: str
    ) -> dict[tuple[int, int], Result]:
        """Results by number and place."""
        results: dict[tuple[int, int], Result] = {}
        waiting: deque[tuple[list[Asked], jax.Array]] = deque()

        def read():
            group, ids = waiting.popleft()
            texts = self._texts(ids, len(group))
            for (record, question, example, reference), text in zip(group, texts, strict=True):
                results[question.number, question.place] = Result(
                    record, question.annotation, self._prompt_text(example), reference, text
                )
            bar.update(len(group))

        with tqdm(
            total=len(questions),
            desc=told.replace("_", " "),
            unit="answer",
            leave=False,
            disable=jax.process_index() > 0 or None,  # None: unless it is not a terminal
        ) as bar:
            for rows, group in self._groups(questions, waves_of):
                examples = [example for *_, example, _ in group]
                # A group is on its way before the answers of the one before are read, so clips are
                # decoded while the devices write.
                waiting.append((group, self._answer(parameters, examples, rows)))
                if len(waiting) > 1:
                    read()
            while waiting:
                read()
        return results

    def _row(self, question: Question) -> IndexRow:
        return self.corpus.index(self.split)[question.number]

    def _questions(self) -> list[Question]:
        """In the order of their length, so that a group pads little."""
        index, questions = self.corpus.index(self.split), []
        for number in self._numbers():
            row = index[number]
            try:
                for place, annotation in enumerate(asked(row.task, row.annotation)):
                    heard = places(annotation["messages"]) if row.task == CHAT else None
                    samples = row.samples[:heard]
                    questions.append(Question(number, place, annotation, samples))
            except UNFIT as error:
                logging.warning("record %s is dropped: %s", row.id, reason(row, error))
        return sorted(questions, key=lambda q: (sum(q.samples), q.number, q.place))

    def _numbers(self) -> list[int]:
        """Those records that are asked.

        Those longer than `config.data.max_seconds` are named and dropped.
        """
        index = self.corpus.index(self.split)
        numbers = [i for i, row in enumerate(index) if self._is_asked(row)]
        return spread(numbers, self.options.limit)

    def _is_asked(self, row: IndexRow) -> bool:
        known = row.task in KINDS and bool(KINDS[row.task].metric)
        if known and self.preprocessor.too_long(row):
            logging.warning("record %s is dropped: %s", row.id, self.preprocessor.too_large(row))
            return False
        return known

    def _groups(
        self, questions: Sequence[Question], waves_of: Waves
    ) -> Iterator[tuple[int, list[Asked]]]:
        """(rows to answer them in, what is asked)."""
        first, dropped = 0, set()
        while first < len(questions):
            longest = questions[first : first + self.options.rows][-1]
            rows = min(rows_for(sum(longest.samples), self.options.rows), len(questions))
            chosen, first = questions[first : first + rows], first + rows
            group = []
            for question in chosen:
                record = self.corpus.record(self.split, question.number)
                try:
                    waves = waves_of(question, record)
                    example, reference = self.preprocessor.question(
                        record.task, question.annotation, waves
                    )
                except UNFIT as error:
                    if question.number not in dropped:
                        told = reason(record, error)
                        logging.warning("record %s is dropped: %s", record.id, told)
                    dropped.add(question.number)
                    continue
                group.append((record, question, example, reference))
            if group:
                yield rows, group

    def _own(self, question: Question, record: Record) -> list[np.ndarray]:
        # Also where clips and places are not as many, which is told when it is rendered.
        heard = len(question.samples) if record.task == CHAT else None
        return [decode(clip) for clip in record.audio[:heard]]

    def _silence(self, question: Question, record: Record) -> list[np.ndarray]:
        return [np.zeros(n, np.float32) for n in question.samples]

    def _others(self, question: Question, record: Record) -> list[np.ndarray]:
        other = self.corpus.record(self.split, self._other_clips[question.number])
        return [decode(clip) for clip in other.audio[: len(question.samples)]]

    @functools.cached_property
    def _other_clips(self) -> dict[int, int]:
        """Whose clips each conversation with clips is heard with."""
        index = self.corpus.index(self.split)
        numbers = [n for n in self._numbers() if index[n].task == CHAT and index[n].samples]
        return others_of(self.corpus, self.split, numbers, self.preprocessor.conditioning)

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

    @property
    def _stop(self) -> tuple[int, ...]:
        """What ends an answer: a text's end, and a message's, of a vocabulary that has it."""
        tokenizer = self.preprocessor.tokenizer
        message = tokenizer.control_ids.get(IM_END)
        return (tokenizer.end_of_text, *([] if message is None else [message]))

    def _texts(self, ids: jax.Array, number: int) -> list[str]:
        """The first answers as texts, each up to its end."""
        # By id: a text may say "<|endoftext|>" and go on.
        rows = np.asarray(ids)[:number].tolist()
        return [self.preprocessor.tokenizer.decode(_up_to(row, self._stop)) for row in rows]

    @functools.cached_property
    def _greedy(self):
        def answer(parameters, batch):
            return generate(
                self.graph,
                parameters,
                batch,
                stop=self._stop,
                max_new_tokens=self.options.max_new_tokens,
            )

        # Whole on every host, so that each can score.
        return jax.jit(answer, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def _prompt_text(self, example: Example) -> str:
        text = example.text
        return self.preprocessor.tokenizer.decode(text.tokens[text.audio < 0])


def _up_to(ids: list[int], ends: tuple[int, ...]) -> list[int]:
    return list(itertools.takewhile(lambda token: token not in ends, ids))


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
