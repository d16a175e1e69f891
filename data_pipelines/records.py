"""Records, the shards that hold them, and the index beside the shards.

A corpus is a folder in TFDS's own layout (ArrayRecord shards, `features.json`,
`dataset_info.json`), so `tfds.builder_from_directory(folder).as_data_source()` reads it too. Beside
the shards lie `SPLIT.index.jsonl`, one line a record in shard order with everything but the audio,
and `tokenizer/`, the corpus's vocabulary. TensorFlow is not needed for any of it.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

SPLITS = ("train", "validation")
RECORDS_PER_SHARD = 8192
INFO_FILE = "dataset_info.json"
"""TFDS's description of the folder: its splits and how many records each shard has."""

_NAME = "corpus"


@dataclasses.dataclass(frozen=True)
class Record:
    """One labelled example.

    Attributes:
        id: unique within its corpus.
        task: a key of `qwen_audio_jax.tasks.TASKS`.
        audio: encoded clips (FLAC, WAV, Ogg or MP3 bytes, as they came).
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


class CorpusError(ValueError):
    """A corpus folder that cannot be used. The message names the folder and the mend."""


class ShardWriter:
    """Writes one split of a corpus: shards and index. A context manager.

    A further split may be added to a folder that has one already. A split that is broken off
    leaves shards without an index, so write into a `staging.staged` folder. The same records give
    the same bytes.
    """

    def __init__(self, folder: pathlib.Path, split: str):
        """Args: folder: an existing folder. split: "train" or "validation"."""
        self._folder = folder
        self._split = split
        self._features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "task": tfds.features.Text(),
                # TFDS's Text is any bytes; its Audio would pull in TensorFlow.
                "audio": tfds.features.Sequence(tfds.features.Text()),
                "annotation": tfds.features.Text(),
            }
        )
        self._serializer = ExampleSerializer(self._features.get_serialized_info())
        self._shard: ArrayRecordWriter | None = None
        self._lengths: list[int] = []
        self._bytes = 0
        self._index = (folder / f"{split}.index.jsonl").open("w", encoding="utf-8")

    def add(self, record: Record, samples: tuple[int, ...]) -> None:
        """Appends a record; `samples` are its clips' lengths at 16 kHz."""
        annotation = json.dumps(record.annotation, ensure_ascii=False, sort_keys=True)
        self._write(
            {
                "id": record.id,
                "task": record.task,
                "audio": list(record.audio),
                "annotation": annotation,
            }
        )
        row = {"id": record.id, "task": record.task, "samples": samples}
        head = json.dumps(row, ensure_ascii=False)[:-1]
        self._index.write(f'{head}, "annotation": {annotation}}}\n')

    def _write(self, example: dict[str, Any]) -> None:
        if self._shard is None or self._lengths[-1] == RECORDS_PER_SHARD:
            self._close_shard()
            # The group size that TFDS uses: a record is read without its neighbours.
            self._shard = ArrayRecordWriter(
                str(self._shard_path(len(self._lengths))), "group_size:1"
            )
            self._lengths.append(0)
        proto = self._serializer.get_tf_example(self._features.encode_example(example))
        # Protobuf, and so TFDS's own writer, orders the fields differently in every process.
        data = proto.SerializeToString(deterministic=True)
        self._shard.write(data)
        self._lengths[-1] += 1
        self._bytes += len(data)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *error) -> None:
        self._index.close()
        self._close_shard()
        for number in range(len(self._lengths)):
            shard = self._shard_path(number)
            shard.rename(f"{shard}-of-{len(self._lengths):05d}")
        self._write_info()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def _shard_path(self, number: int) -> pathlib.Path:
        """A shard's path while it is not known how many there will be."""
        return self._folder / f"{_NAME}-{self._split}.array_record-{number:05d}"

    def _write_info(self) -> None:
        """Adds the split to what TFDS knows of the folder."""
        identity = tfds.core.DatasetIdentity(
            name=_NAME,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(self._folder),
            module_name="data_pipelines.records",
        )
        info = tfds.core.DatasetInfo(builder=identity, features=self._features)
        if (self._folder / INFO_FILE).is_file():
            info.read_from_directory(self._folder)
        else:
            info.set_file_format("array_record")
        template = tfds.core.ShardedFileTemplate(
            data_dir=self._folder,
            dataset_name=_NAME,
            split=self._split,
            filetype_suffix="array_record",
        )
        split = tfds.core.splits.SplitInfo(
            name=self._split,
            shard_lengths=self._lengths,
            num_bytes=self._bytes,
            filename_template=template,
        )
        info.set_splits(tfds.core.splits.SplitDict([*info.splits.values(), split]))
        info.write_to_directory(self._folder)


class Corpus:
    """A built corpus: its index, and random access to its records from any thread or process."""

    def __init__(self, path: pathlib.Path | str):
        """Args: path: the folder.

        Raises:
            FileNotFoundError: no corpus is there; the sentence says how to build one.
        """
        self.path = pathlib.Path(path)
        if not (self.path / INFO_FILE).is_file():
            raise FileNotFoundError(
                f"{self.path}: no corpus there; build one with "
                f"`python -m data_pipelines.build --source=... --out={self.path}`"
            )
        self.splits = tuple(
            split for split in SPLITS if (self.path / f"{split}.index.jsonl").is_file()
        )

    @functools.cache  # noqa: B019  (a run opens a handful of corpora and keeps them)
    def index(self, split: str) -> tuple[IndexRow, ...]:
        """The index of a split, in shard order.

        Raises:
            FileNotFoundError: the corpus has no such split.
            CorpusError: shards and index do not belong together.
        """
        if split not in self.splits:
            have = ", ".join(self.splits) or "none"
            raise FileNotFoundError(
                f"{self.path}: has no {split} split (it has: {have}); add one with "
                f"data_pipelines.build --split={split}"
            )
        rows = []
        with (self.path / f"{split}.index.jsonl").open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                samples = tuple(row["samples"])
                rows.append(IndexRow(row["id"], row["task"], samples, row["annotation"]))
        self._check_shards(split, len(rows))
        return tuple(rows)

    def _check_shards(self, split: str, records: int) -> None:
        info = json.loads((self.path / INFO_FILE).read_text(encoding="utf-8"))
        shards = {s["name"]: [int(n) for n in s["shardLengths"]] for s in info["splits"]}
        lengths = shards.get(split, [])
        found = len(list(self.path.glob(f"{info['name']}-{split}.array_record-*")))
        if sum(lengths) != records or len(lengths) != found:
            raise CorpusError(
                f"{self.path}: the {split} split is incomplete ({found} of {len(lengths)} shards; "
                f"{records} records in the index, {sum(lengths)} in the shards); build it again "
                "with data_pipelines.build --overwrite"
            )

    @functools.cache  # noqa: B019
    def _source(self, split: str):
        return tfds.builder_from_directory(str(self.path)).as_data_source(split=split)

    def record(self, split: str, number: int) -> Record:
        """Reads one record of a split."""
        raw = self._source(split)[number]
        return Record(
            id=raw["id"].decode(),
            task=raw["task"].decode(),
            audio=tuple(raw["audio"]),
            annotation=json.loads(raw["annotation"]),
        )

    def __reduce__(self):
        return Corpus, (self.path,)
