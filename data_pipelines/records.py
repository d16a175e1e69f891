"""Records, the shards that hold them, and the index beside the shards.

A corpus is a folder in TFDS's own layout (ArrayRecord shards, `features.json`,
`dataset_info.json`), so `tfds.builder_from_directory(folder).as_data_source()` reads it too. Beside
the shards lie `SPLIT.index.jsonl`, one line a record in shard order with everything but the audio,
and `tokenizer/`, the corpus's vocabulary. TensorFlow is not needed for any of it.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.selection import ALL, Kinds, Selection

SPLITS = ("train", "validation")
INFO_FILE = "dataset_info.json"
"""TFDS's description of the folder: its splits and how many records each shard has."""

_MEND = "build it again with data_pipelines.build --overwrite"


@dataclasses.dataclass(frozen=True)
class Record:
    """One labelled example.

    Attributes:
        id: unique within its corpus.
        task: a key of `qwen_audio_jax.tasks.KINDS`.
        audio: encoded clips, of any kind that `audio.decode` reads, as they came.
        annotation: the label fields that the task names, and `source`, `license`, ...; JSON types.
    """

    id: str
    task: str
    audio: tuple[bytes, ...]
    annotation: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class IndexRow:
    """What is known of a record without reading its audio.

    Attributes:
        id, task, annotation: the record's.
        samples: samples of each clip at 16 kHz.
    """

    id: str
    task: str
    samples: tuple[int, ...]
    annotation: dict[str, Any]


class RejectedRecord(ValueError):
    """A source row that cannot become a Record. The message is the reason, one sentence."""


def told_of(error: Exception, folder: pathlib.Path) -> str:
    """The error of a command that writes into a folder, as its last line.

    Where a file that is open cannot grow, since the disk is full, the system names none.
    """
    if isinstance(error, OSError) and error.errno and not error.filename:
        return f"{folder}: cannot be written ({error.strerror})"
    return str(error)


def told(error: Exception) -> str:
    """What a library's exception says, in words and on one line."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:200] or type(error).__name__


def legible(text: str) -> str:
    """The text on one line, with what cannot be seen or written spelled out."""
    if text.isprintable():
        return text
    spelled = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(spelled)


class CorpusError(ValueError):
    """A corpus folder that cannot be used. The message names the folder and the fix."""


class NothingChosen(CorpusError):
    """No record of a split is of the tasks and languages that a mixture takes."""


class Index(Sequence):
    """The index of a split, or of some of its records. A row is read when it is asked for.

    Any thread may read it, and it can be pickled.
    """

    def __init__(self, path: pathlib.Path, chosen: np.ndarray | None = None):
        """Args:
        path: SPLIT.index.jsonl.
        chosen: int64 [n], lines of it to take, rising; None takes all.
        """
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._ends = _line_ends(path)
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._ends if self._chosen is None else self._chosen)

    def place(self, number: int) -> int:
        """Which of the split's records, in shard order, has a number here."""
        return number if self._chosen is None else int(self._chosen[number])

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = self.place(number)
        start = int(self._ends[place - 1]) if place else 0
        line = os.pread(self._file.fileno(), int(self._ends[place]) - start, start)
        return self._row(place, line)

    def __iter__(self) -> Iterator[IndexRow]:
        """The rows in turn, read in one go."""
        with self.path.open("rb") as file:
            lines = enumerate(itertools.islice(file, len(self._ends)))
            if self._chosen is not None:
                taken = np.zeros(len(self._ends), bool)
                taken[self._chosen] = True
                lines = itertools.compress(lines, taken)
            for place, line in lines:
                yield self._row(place, line)

    def _row(self, place: int, line: bytes) -> IndexRow:
        try:
            row = json.loads(line)
            return IndexRow(row["id"], row["task"], tuple(row["samples"]), row["annotation"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{self.path}, line {place + 1}: is damaged; {_MEND}") from error

    def digests(self) -> np.ndarray:
        """uint64 [n]: of each row, all that the index says of its record."""
        with self.path.open("rb") as file:
            lines = itertools.islice(file, len(self._ends))
            joined = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in lines)
        digests = np.frombuffer(joined, np.uint64)
        return digests if self._chosen is None else digests[self._chosen]

    def __reduce__(self):
        return Index, (self.path, self._chosen)


def _kinds(index: Index) -> Kinds:
    return Kinds([(row.task, row.annotation.get("language")) for row in index])


def _line_ends(path: pathlib.Path) -> np.ndarray:
    """int64: where each line of a file ends. A last one that was broken off does not count."""
    ends, done = [], 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1 + done)
            done += len(block)
    return np.concatenate([np.empty(0, np.int64), *ends])


class Corpus:
    """A built corpus: its index, and random access to its records from any thread or process."""

    def __init__(self, path: pathlib.Path | str, selection: Selection = ALL):
        """Args:
            path: the folder.
            selection: which of its records are taken; the others are as if they were not there.

        Raises:
            FileNotFoundError: no corpus is there; the sentence says how to build one.
        """
        self.path = pathlib.Path(path)
        self.selection = selection
        if not (self.path / INFO_FILE).is_file():
            others = sorted(p.parent.name for p in self.path.parent.glob(f"*/{INFO_FILE}"))
            raise FileNotFoundError(
                f"{self.path}: no corpus there; build one with "
                f"`python -m data_pipelines.build --source=... --out={self.path}`"
                + (f", or take one beside it: {', '.join(others)}" if others else "")
            )
        self.splits = tuple(
            split for split in SPLITS if (self.path / f"{split}.index.jsonl").is_file()
        )

    @property
    def evaluated(self) -> str:
        """The split to evaluate on: the held-out one, or the only one that there is."""
        return "validation" if "validation" in self.splits else self.splits[0]

    @functools.cache  # noqa: B019  (a run opens a handful of corpora and keeps them)
    def index(self, split: str) -> "Index":
        """The index of a split, in shard order.

        Raises:
            FileNotFoundError: the corpus has no such split.
            CorpusError: the index is missing, or shards and index do not belong together, or the
                selection names a task or a language that no record has.
            NothingChosen: the selection takes no record.
        """
        if split not in self.splits:
            if self._shard_lengths(split):
                raise CorpusError(
                    f"{self.path}: {split}.index.jsonl is missing, and the shards of that split "
                    f"are there; {_MEND}"
                )
            have = ", ".join(self.splits) or "none"
            raise FileNotFoundError(
                f"{self.path}: has no {split} split (it has: {have}); add one with "
                f"data_pipelines.build --split={split}"
            )
        index = Index(self.path / f"{split}.index.jsonl")
        self._check_shards(split, len(index))
        return Index(index.path, self._choose(split, index)) if self.selection else index

    def _choose(self, split: str, index: Index) -> np.ndarray:
        """Numbers of a split's records that the selection takes."""
        kinds = _kinds(index)
        missing = kinds.missing(self.selection)
        # Of names that are trained on, a small validation split may lack some.
        if missing and split != "train" and "train" in self.splits:
            train = _kinds(Index(self.path / "train.index.jsonl"))
            missing = [name for name in missing if name in train.missing(self.selection)]
        if missing:
            what, name = missing[0]
            raise CorpusError(
                f"config.data.{what}s: {self.path}: no record of the {split} split is of {what} "
                f"{name!r}; it has {kinds.told(what)}"
            )
        chosen = kinds.chosen(self.selection)
        if not len(chosen):
            raise NothingChosen(
                f"{self.path}: no record of the {split} split is of {self.selection} "
                f"(config.data.tasks, config.data.languages); it has {kinds.told('both')}"
            )
        return chosen

    def _check_shards(self, split: str, records: int) -> None:
        lengths = self._shard_lengths(split)
        name = json.loads((self.path / INFO_FILE).read_text(encoding="utf-8"))["name"]
        found = len(list(self.path.glob(f"{name}-{split}.array_record-*")))
        if sum(lengths) != records or len(lengths) != found:
            raise CorpusError(
                f"{self.path}: the {split} split is incomplete ({found} of {len(lengths)} shards; "
                f"{records} records in the index, {sum(lengths)} in the shards); {_MEND}"
            )
        for first in itertools.accumulate([0, *lengths[:-1]]):
            self._read(split, first)  # a shard that was cut off cannot be read at all

    def bytes(self, split: str) -> int:
        """Of a split's records, audio and all; 0 where only some of them are taken."""
        return 0 if self.selection else int(self._info(split).get("numBytes", 0))

    def _shard_lengths(self, split: str) -> list[int]:
        """Records of each shard."""
        return [int(length) for length in self._info(split).get("shardLengths", [])]

    def _info(self, split: str) -> dict[str, Any]:
        """What TFDS's description says of a split; nothing if it does not know it."""
        info = json.loads((self.path / INFO_FILE).read_text(encoding="utf-8"))
        return next((one for one in info["splits"] if one["name"] == split), {})

    @functools.cache  # noqa: B019
    def _source(self, split: str):
        return tfds.builder_from_directory(str(self.path)).as_data_source(split=split)

    def _read(self, split: str, number: int) -> dict[str, Any]:
        try:
            return self._source(split)[number]
        except (RuntimeError, ValueError, IndexError) as error:
            ends = np.cumsum(self._shard_lengths(split))
            shard = int(np.searchsorted(ends, number, side="right"))
            raise CorpusError(
                f"{self.path}: shard {shard} of the {split} split is damaged ({error}); {_MEND}"
            ) from error

    def record(self, split: str, number: int) -> Record:
        """Reads one record of a split.

        Raises:
            CorpusError: it is damaged, or another one than the index has at that place.
        """
        index = self.index(split)
        place, listed = index.place(number), index[number].id
        raw = self._read(split, place)
        name = raw["id"].decode()
        if name != listed:
            raise CorpusError(
                f"{self.path}: record {place} of the {split} split is {name}, and {listed} by "
                f"its index; {_MEND}"
            )
        return Record(
            id=name,
            task=raw["task"].decode(),
            audio=tuple(raw["audio"]),
            annotation=json.loads(raw["annotation"]),
        )

    def __reduce__(self):
        return Corpus, (self.path, self.selection)
