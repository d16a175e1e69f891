"""Any dataset of TensorFlow Datasets with audio in it, by name, as it lies prepared on disk.

    --source=tfds --dataset=speech_commands --tasks=keyword_spotting \
        --fields="text=label,language='en'"

The dataset must be prepared as ArrayRecord files (`tfds build --file_format=array_record`, or
`tfds convert_format`), so that any record can be read by itself. `--fields` says where a task's
fields come from: a feature by its name, or a text in quotes that all records share. A class is
written by its name, with spaces. Audio comes out of TFDS as samples, and goes into the shards as
FLAC, or as WAV if it is floating point. TFDS needs TensorFlow to decode it: extra [tfds].
"""

import dataclasses
import functools
import io
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile
import tensorflow_datasets as tfds

from data_pipelines.records import Record, RejectedRecord
from qwen_audio_jax.tasks import KINDS

_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev")}
_FIELD = re.compile(r"\s*(\w+)\s*=\s*(?:'([^']*)'|([\w/]+))\s*(?:,|$)")


@dataclasses.dataclass(frozen=True)
class Source:
    """What is read of a dataset.

    Attributes:
        root: the folder of the dataset's version.
        split: TFDS's name of the split.
        task: what its records become.
        audio: name of the feature with the clip.
        fields: annotation field -> name of a feature, a/b for one in a group.
        constants: annotation field -> a text.
    """

    root: str
    split: str
    task: str
    audio: str
    fields: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Jobs(Sequence):
    """(source, number) of each record."""

    source: Source
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.source, index


def jobs(
    dataset: str, data_dir: pathlib.Path | None, split: str, task: str, fields: str
) -> Jobs | None:
    """The records of a split; None if the dataset has none of that name.

    Args:
        dataset: its name, as TFDS spells it: NAME, NAME/CONFIG, NAME:VERSION.
        data_dir: TFDS's folder; None is ~/tensorflow_datasets.
        split: "train" or "validation".
        task: what the records become.
        fields: where the task's fields come from, see above.

    Raises:
        RejectedRecord: no such dataset, no audio, or a field or feature that is not there.
    """
    if task not in KINDS:
        raise RejectedRecord(f"--tasks: {task!r} is none of {', '.join(KINDS)}")
    root = _folder(dataset, data_dir)
    try:
        builder = _builder(root)
        features = _flat(builder.info.features)
    except ImportError as error:
        raise RejectedRecord(
            "TFDS needs TensorFlow to decode audio: pip install 'qwen-audio-jax[tfds]'"
        ) from error
    _check_format(root, builder)
    audio = [name for name, kind in features.items() if isinstance(kind, tfds.features.Audio)]
    if len(audio) != 1:
        raise RejectedRecord(f"{root}: has {len(audio)} audio features, and must have one")
    named, constants = _parse(fields)
    if not fields and "text" in KINDS[task].fields:
        named = {"text": _only_label(root, features)}
    for field, name in named.items():
        if name not in features:
            raise RejectedRecord(
                f"--fields: {root} has no feature {name!r} for {field!r}; it has "
                f"{', '.join(features)}"
            )
    found = next((name for name in _SPLITS[split] if name in builder.info.splits), None)
    if found is None:
        return None
    source = Source(root, found, task, audio[0], tuple(named.items()), tuple(constants.items()))
    return Jobs(source, builder.info.splits[found].num_examples)


def row_of(job: tuple[Source, int]) -> int:
    """A record's number in its split, from 1."""
    return job[1] + 1


def size_of(job: tuple[Source, int]) -> int:
    """Bytes of a record's samples, 16 bits each."""
    source, number = job
    return 2 * len(_value(_records(source.root, source.split)[number], source.audio))


def make(job: tuple[Source, int]) -> Record:
    """Reads a record."""
    source, number = job
    example = _records(source.root, source.split)[number]
    features = _flat(_builder(source.root).info.features)
    info = _builder(source.root).info
    annotation = {"source": info.name, "license": "see TFDS's page of the dataset"}
    annotation |= dict(source.constants)
    annotation |= {
        field: _label(features[name], _value(example, name)) for field, name in source.fields
    }
    clip = _encoded(_value(example, source.audio), features[source.audio].sample_rate or 16_000)
    name = f"{info.name}-{source.split}-{number:08d}-{source.task}"
    return Record(name, source.task, (clip,), annotation)


@functools.cache
def _builder(root: str):
    return tfds.builder_from_directory(root)


@functools.cache
def _records(root: str, split: str):
    return _builder(root).as_data_source(split=split)


def _folder(dataset: str, data_dir: pathlib.Path | None) -> str:
    """Where TFDS prepared the dataset; its newest version, unless one is named."""
    try:
        builder = tfds.core.read_only_builder.builder_from_files(dataset, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        place = data_dir or "~/tensorflow_datasets"
        raise RejectedRecord(
            f"--dataset: TFDS has prepared no {dataset!r} below {place}; "
            f"`tfds build {dataset} --file_format=array_record` prepares it"
        ) from error
    return str(builder.data_path)


def _check_format(root: str, builder) -> None:
    kind = builder.info.file_format
    if kind is None or kind.value != "array_record":
        raise RejectedRecord(
            f"{root}: is prepared as {kind.value if kind else 'unknown'} files; prepare it as "
            "array_record, with `tfds build --file_format=array_record` or `tfds convert_format`"
        )


def _flat(features: Any, prefix: str = "") -> dict[str, Any]:
    """Features by name, those of a group as group/name."""
    found: dict[str, Any] = {}
    for name, kind in features.items():
        if isinstance(kind, tfds.features.FeaturesDict):
            found |= _flat(kind, f"{prefix}{name}/")
        else:
            found[prefix + name] = kind
    return found


def _only_label(root: str, features: dict[str, Any]) -> str:
    kinds = (tfds.features.Text, tfds.features.ClassLabel)
    labels = [name for name, kind in features.items() if isinstance(kind, kinds)]
    if len(labels) != 1:
        raise RejectedRecord(
            f"--fields: {root} has several features that could be the text, or none: "
            f"{', '.join(labels) or 'none'}; say which, such as --fields=text=label"
        )
    return labels[0]


def _parse(fields: str) -> tuple[dict[str, str], dict[str, str]]:
    named, constants, end = {}, {}, 0
    for found in _FIELD.finditer(fields):
        if found.start() != end:
            break
        end = found.end()
        if found[3]:
            named[found[1]] = found[3]
        else:
            constants[found[1]] = found[2]
    if end != len(fields):
        raise RejectedRecord(
            f"--fields: {fields[end:]!r} is not field=feature or field='text', with commas between"
        )
    return named, constants


def _value(example: dict[str, Any], name: str) -> Any:
    for part in name.split("/"):
        example = example[part]
    return example


def _label(feature: Any, value: Any) -> Any:
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)).replace("_", " ")
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _encoded(samples: np.ndarray, rate: int) -> bytes:
    """Samples as TFDS has them: whole numbers of 16 bits, or floating point."""
    file = io.BytesIO()
    if np.issubdtype(samples.dtype, np.integer):
        soundfile.write(file, samples.astype(np.int16), rate, format="FLAC", subtype="PCM_16")
    else:
        soundfile.write(file, samples.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
