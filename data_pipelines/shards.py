"""Writing a split: shard by shard, each complete or not there, then all of them joined.

A shard in the making lies in a `staging.staged` folder as three files: the ArrayRecord file, its
part of the index, and, written last, what was done: a shard with that file need not be done again.
The same records give the same bytes.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from data_pipelines.records import INFO_FILE, CorpusError, Record

_NAME = "corpus"
_RATE = 16_000

Rejection = dict[str, Any]


@dataclasses.dataclass
class ShardSummary:
    """What a shard, or a split, came to.

    Attributes:
        bytes: of its records.
        lengths: of each shard, in records.
        records, seconds: by task.
        rejected: rows that could not be used: {"row", "reason"}.
        notes: what was mended in records, or is odd about them: how often each sentence was said.
        examples: the first record of each sentence, by its id.
    """

    bytes: int = 0
    lengths: list[int] = dataclasses.field(default_factory=list)
    records: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    seconds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    rejected: list[Rejection] = dataclasses.field(default_factory=list)
    notes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, other: "ShardSummary") -> None:
        """Counts another's in."""
        self.bytes += other.bytes
        self.lengths += other.lengths
        self.records.update(other.records)
        self.seconds.update(other.seconds)
        self.rejected += other.rejected
        self.notes.update(other.notes)
        self.examples = other.examples | self.examples

    @classmethod
    def read(cls, path: pathlib.Path) -> "ShardSummary":
        """What a file that `write` wrote says."""
        values = json.loads(path.read_text(encoding="utf-8"))
        names = ("records", "seconds", "notes")
        counters = {name: collections.Counter(values[name]) for name in names}
        return cls(**values | counters)

    def write(self, path: pathlib.Path) -> None:
        """Writes it, whole or not at all."""
        part = path.with_name(f"{path.name}.{_part()}")
        part.write_text(json.dumps(vars(self)), encoding="utf-8")
        part.replace(path)


class ShardWriter:
    """Writes one shard. A context manager: what is left by an error does not count as a shard."""

    def __init__(self, folder: pathlib.Path, split: str, number: int):
        """Args: folder: an existing folder. split: "train" or "validation". number: from 0."""
        self._files = ShardFiles(folder, split, number)
        # Names of its own: a cluster may make a shard twice at once.
        self._part = f".{_part()}"
        self._serializer = ExampleSerializer(_features().get_serialized_info())
        self._done = ShardSummary()

    def __enter__(self) -> "ShardWriter":
        # The group size that TFDS uses: a record is read without its neighbours.
        self._shard = ArrayRecordWriter(f"{self._files.shard}{self._part}", "group_size:1")
        self._index = open(f"{self._files.index}{self._part}", "w", encoding="utf-8")
        return self

    def add(self, record: Record, samples: tuple[int, ...], notes: Iterable[str] = ()) -> None:
        """Appends a record.

        Args:
            record: complete.
            samples: its clips' lengths at 16 kHz.
            notes: what is to be told of it in the build's summary.
        """
        annotation = json.dumps(record.annotation, ensure_ascii=False, sort_keys=True)
        example = {
            "id": record.id,
            "task": record.task,
            "audio": list(record.audio),
            "annotation": annotation,
        }
        proto = self._serializer.get_tf_example(_features().encode_example(example))
        # Protobuf, and so TFDS's own writer, orders the fields differently in every process.
        data = proto.SerializeToString(deterministic=True)
        with self._told():
            self._shard.write(data)
        row = {"id": record.id, "task": record.task, "samples": samples}
        head = json.dumps(row, ensure_ascii=False)[:-1]
        self._index.write(f'{head}, "annotation": {annotation}}}\n')
        self._done.bytes += len(data)
        self._done.records[record.task] += 1
        self._done.seconds[record.task] += sum(samples) / _RATE
        for note in notes:
            self._done.notes[note] += 1
            self._done.examples.setdefault(note, record.id)

    def reject(self, rejection: Rejection) -> None:
        """Notes a row that could not be used."""
        self._done.rejected.append(rejection)

    def __exit__(self, kind, *error) -> None:
        self._index.close()
        with self._told() if kind is None else contextlib.suppress(RuntimeError, ValueError):
            self._shard.close()
        if kind is None:
            for path in (self._files.shard, self._files.index):
                pathlib.Path(f"{path}{self._part}").replace(path)
            self._done.lengths = [self._done.records.total()]
            self._done.write(self._files.done)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """ArrayRecord has its own errors for a full disk."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise OSError(f"{self._files.shard}: cannot be written ({error})") from error


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """Where a shard in the making lies."""

    folder: pathlib.Path
    split: str
    number: int

    @property
    def shard(self) -> pathlib.Path:
        return self.folder / f"{_NAME}-{self.split}.array_record-{self.number:05d}"

    @property
    def index(self) -> pathlib.Path:
        return self.folder / f"{self.split}-{self.number:05d}.index.jsonl"

    @property
    def done(self) -> pathlib.Path:
        return self.folder / f"{self.split}-{self.number:05d}.done.json"

    def is_done(self) -> bool:
        """Whether all of it is there."""
        return self.done.is_file() and self.shard.is_file() and self.index.is_file()


def joined(folder: pathlib.Path, split: str) -> pathlib.Path:
    """The file that says that a split is joined, or that it is being."""
    return folder / f"{split}.joined.json"


def join_shards(folder: pathlib.Path, split: str, shards: int) -> ShardSummary:
    """Makes a split of its shards: one index, final names, TFDS's description.

    A shard without any record is dropped. A further split may be added to a folder that has one.
    It may be called again, also after it was broken off, until `joined` is deleted.

    Raises:
        CorpusError: two records have the same id.
    """
    every = [ShardFiles(folder, split, number) for number in range(shards)]
    if not joined(folder, split).is_file():
        _join_indices(folder / f"{split}.index.jsonl", split, every)
        total = ShardSummary()
        for files in every:
            total.add(ShardSummary.read(files.done))
        total.write(joined(folder, split))
    total = ShardSummary.read(joined(folder, split))
    kept = [files for files, length in zip(every, total.lengths, strict=True) if length]
    for number, files in enumerate(kept):
        if files.shard.is_file():
            name = f"{_NAME}-{split}.array_record-{number:05d}-of-{len(kept):05d}"
            files.shard.replace(folder / name)
    _write_info(folder, split, [length for length in total.lengths if length], total.bytes)
    for files in every:
        for path in (files.done, files.index, files.shard):
            path.unlink(missing_ok=True)
    for path in folder.glob("*.part"):
        path.unlink()
    return total


def _join_indices(index: pathlib.Path, split: str, shards: Iterable[ShardFiles]) -> None:
    hashes = [np.empty(0, np.int64)]
    with index.open("wb") as whole:
        for files in shards:
            with files.index.open("rb") as part:
                # Eight bytes per record, whatever its id: an equal pair is looked at again.
                hashes.append(np.array([hash(_id_of(line)) for line in part], np.int64))
                part.seek(0)
                shutil.copyfileobj(part, whole)
    _check_unique(index, split, np.concatenate(hashes))


def write_split(
    folder: pathlib.Path,
    split: str,
    records: Iterable[tuple[Record, tuple[int, ...]]],
    per_shard: int = 8192,
) -> None:
    """Writes a split of records and their clips' lengths, one shard after another."""
    shards = 0
    records = iter(records)
    following = next(records, None)
    while following is not None:
        with ShardWriter(folder, split, shards) as writer:
            for _ in range(per_shard):
                writer.add(*following)
                following = next(records, None)
                if following is None:
                    break
        shards += 1
    join_shards(folder, split, shards)
    joined(folder, split).unlink()


def _part() -> str:
    return f"{uuid.uuid4().hex[:8]}.part"


def _id_of(line: bytes) -> str:
    return json.loads(line)["id"]


def _check_unique(index: pathlib.Path, split: str, hashes: np.ndarray) -> None:
    values, counts = np.unique(hashes, return_counts=True)
    if (counts == 1).all():
        return
    twice = set(values[counts > 1].tolist())
    seen: set[str] = set()
    with index.open("rb") as lines:
        for line, hashed in zip(lines, hashes.tolist(), strict=True):
            if hashed in twice:
                if (name := _id_of(line)) in seen:
                    raise CorpusError(f"{split}: the source gave the id {name!r} twice")
                seen.add(name)


@functools.cache
def _features() -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "task": tfds.features.Text(),
            # TFDS's Text is any bytes; its Audio would pull in TensorFlow.
            "audio": tfds.features.Sequence(tfds.features.Text()),
            "annotation": tfds.features.Text(),
        }
    )


def _write_info(folder: pathlib.Path, split: str, lengths: list[int], size: int) -> None:
    """Adds the split to what TFDS knows of the folder."""
    identity = tfds.core.DatasetIdentity(
        name=_NAME,
        version=tfds.core.Version("1.0.0"),
        data_dir=str(folder),
        module_name="data_pipelines.records",
    )
    info = tfds.core.DatasetInfo(builder=identity, features=_features())
    if (folder / INFO_FILE).is_file():
        info.read_from_directory(folder)
    else:
        info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=_NAME, split=split, filetype_suffix="array_record"
    )
    made = tfds.core.splits.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
    )
    others = [old for name, old in info.splits.items() if name != split]
    info.set_splits(tfds.core.splits.SplitDict([*others, made]))
    info.write_to_directory(folder)
