"""From rows of a list, a JSON object each, to items: what all lists have in common."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from data_pipelines.records import RejectedRecord, legible
from data_pipelines.sources import rows
from data_pipelines.sources.json_rows import Ids, check_values, numbered_lines, parsed, read_list
from data_pipelines.sources.paths import audio_file
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.evaluation.benchmarks.item import Item, LeftOut
from qwen_audio_jax.tasks import AnnotationError

_ANCESTORS = 4
"""Folders above a list's own that its paths may begin at: published lists are written from the
folder that a script was started in."""

Fields = dict[str, Any]
IdOf = Callable[[int, Fields], str]
"""A row's id, of its number from 1 and its fields; raises RejectedRecord where it has none."""


def rows_of(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """The rows of a JSONL file, or of a JSON file that holds one list, with numbers from 1.

    Raises:
        RejectedRecord: it cannot be read.
    """
    data = read_list(path)
    if data.lstrip()[:1] != b"[":
        yield from numbered_lines(data)
        return
    try:
        listed = json.loads(data)
    except ValueError as error:
        raise RejectedRecord(f"{path}: is not valid JSON ({error})") from None
    for number, row in enumerate(listed, start=1):
        yield number, json.dumps(row).encode()


def first_row(path: pathlib.Path) -> Fields:
    """The first row; none if there is none, or it is no object. Raises RejectedRecord."""
    for _, line in rows_of(path):
        row = parsed(line)
        return row if isinstance(row, dict) else {}
    return {}


def read_rows(
    path: pathlib.Path, id_of: IdOf, make: Callable[[str, Fields], Item]
) -> tuple[list[Item], list[LeftOut]]:
    """The items of a list, and its rows that cannot be asked.

    Args:
        path: the list.
        id_of: the id of a row; a second row with one is left out.
        make: an item of a row's id and fields; raises RejectedRecord or AnnotationError.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    items, left_out, ids = [], [], Ids("row")
    for number, line in rows_of(path):
        try:
            fields = _fields(line)
            name = id_of(number, fields)
            # Before anything else of the row is looked at, so that an id is always its first row's.
            ids.add(name, number)
            items.append(make(name, fields))
        except (RejectedRecord, AnnotationError) as error:
            left_out.append(LeftOut(number, legible(str(error))))
    return items, left_out


def rows_by_id(path: pathlib.Path, id_of: IdOf) -> dict[str, Fields]:
    """The rows that `read_rows` makes items of, by the items' ids, and those it cannot ask.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    found: dict[str, Fields] = {}
    for number, line in rows_of(path):
        with contextlib.suppress(RejectedRecord):
            fields = _fields(line)
            found.setdefault(id_of(number, fields), fields)
    return found


def _fields(line: bytes) -> Fields:
    fields = parsed(line)
    if not isinstance(fields, dict):
        raise RejectedRecord("must be a JSON object")
    check_values(fields, line)
    return fields


def text(fields: Fields, name: str) -> str:
    """A field that must be a text. Raises RejectedRecord."""
    value = fields.get(name)
    if not isinstance(value, str):
        known = ", ".join(map(repr, fields))
        raise RejectedRecord(f"field {name!r}: must be a text; the row has {known}")
    return value


def clips_of(
    path: pathlib.Path, name: str, fields: Fields | None = None
) -> Callable[[], tuple[bytes, ...]]:
    """Reads the clip that a row names.

    Args:
        path: the list.
        name: of the file, from the list's folder or one above it.
        fields: where they may say which part of the file it is, see `sources.segments`.

    Raises:
        RejectedRecord: there is no such file.
    """
    file = _found(path.parent, name)
    segments = segments_of(fields, 1) if fields else ()
    row = rows.Row(0, name, "", (file,), {}, segments)
    return functools.partial(_read, row)


def _read(row: rows.Row) -> tuple[bytes, ...]:
    return rows.make(row).audio


def _found(folder: pathlib.Path, name: str) -> pathlib.Path:
    try:
        return audio_file(folder, name)
    except RejectedRecord:
        for above in folder.absolute().parents[:_ANCESTORS]:
            with contextlib.suppress(RejectedRecord):
                return audio_file(above, name)
        raise
