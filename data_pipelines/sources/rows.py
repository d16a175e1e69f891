"""A record whose audio lies in files: what most sources list, and how it is read."""

import dataclasses
import itertools
import pathlib
from typing import Any

from data_pipelines.records import Record, RejectedRecord
from data_pipelines.sources import recordings
from data_pipelines.sources.segments import Segment


@dataclasses.dataclass(frozen=True)
class Row:
    """A usable row.

    Attributes:
        line: its number in the source, from 1.
        id, task, annotation: the record's.
        paths: where its clips lie.
        segments: which part of each file is the clip; None, or none at all, is the whole.
    """

    line: int
    id: str
    task: str
    paths: tuple[pathlib.Path, ...]
    annotation: dict[str, Any]
    segments: tuple[Segment | None, ...] = ()


def row_of(row: Row) -> int:
    """The row's number."""
    return row.line


def size_of(row: Row) -> int:
    """Bytes of the row's clips, about; files that are not there have none."""
    return sum(
        recordings.size_of(path, segment) if segment else path.stat().st_size
        for path, segment in _clips(row)
        if path.is_file()
    )


def make(row: Row) -> Record:
    """Reads the row's audio files, and cuts out what the row names of them."""
    audio = tuple(clip(path, segment) for path, segment in _clips(row))
    return Record(row.id, row.task, audio, row.annotation)


def clip(path: pathlib.Path, segment: Segment | None) -> bytes:
    """A file's bytes, or a part of it as a file. Raises RejectedRecord if it cannot be read."""
    try:
        return recordings.clip_of(path, segment) if segment else path.read_bytes()
    except OSError as error:
        raise RejectedRecord(
            f"field 'audio': {path} cannot be read ({error.strerror or error})"
        ) from error


def _clips(row: Row) -> list[tuple[pathlib.Path, Segment | None]]:
    return list(itertools.zip_longest(row.paths, row.segments))
