"""A record whose audio lies in files: what most sources list, and how it is read."""

import dataclasses
import pathlib
from typing import Any

from data_pipelines.records import Record, RejectedRecord


@dataclasses.dataclass(frozen=True)
class Row:
    """A usable row: `line` is its number in the source, from 1; the rest is the record's."""

    line: int
    id: str
    task: str
    paths: tuple[pathlib.Path, ...]
    annotation: dict[str, Any]


def row_of(row: Row) -> int:
    """The row's number."""
    return row.line


def size_of(row: Row) -> int:
    """Bytes of the row's audio files; those that are not there have none."""
    return sum(path.stat().st_size for path in row.paths if path.is_file())


def make(row: Row) -> Record:
    """Reads the row's audio files."""
    try:
        audio = tuple(path.read_bytes() for path in row.paths)
    except OSError as error:
        raise RejectedRecord(f"{error.filename}: cannot be read ({error.strerror})") from error
    return Record(row.id, row.task, audio, row.annotation)
