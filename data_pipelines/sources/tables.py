"""A published corpus's tables and lists, read row by row; a sentence where one is missing."""

import csv
import pathlib
from collections.abc import Iterator

from data_pipelines.records import RejectedRecord


def rows(
    path: pathlib.Path, columns: tuple[str, ...], delimiter: str = ",", **dialect
) -> Iterator[dict[str, str]]:
    """The rows of a table with a header, as dicts of strings.

    Args:
        path: a CSV or TSV file in UTF-8.
        columns: which it must have.
        delimiter: between two cells.
        dialect: as `csv.reader` takes it.

    Raises:
        RejectedRecord: no such file, or a column is missing.
    """
    _check_there(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, delimiter=delimiter, **dialect)
        if missing := [name for name in columns if name not in (table.fieldnames or ())]:
            raise RejectedRecord(
                f"{path}: has no column {missing[0]!r}; it has {', '.join(table.fieldnames or ())}"
            )
        for row in table:
            if all(row[name] is not None for name in columns):
                yield row


def tab_separated(path: pathlib.Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The same of a table whose cells stand between tabs as they are, quotes included."""
    return rows(path, columns, "\t", quoting=csv.QUOTE_NONE)


def lines(path: pathlib.Path) -> Iterator[str]:
    """The lines of a text file in UTF-8, without their ends; empty ones are left out.

    Line feeds alone end them: a transcript may hold what `str.splitlines` takes for an end.

    Raises:
        RejectedRecord: no such file.
    """
    _check_there(path)
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            if line := line.rstrip("\r\n"):
                yield line


def _check_there(path: pathlib.Path) -> None:
    if not path.is_file():
        raise RejectedRecord(f"{path}: is not there; the corpus as published has it")


def first_file(folder: pathlib.Path, stems: tuple[str, ...]) -> pathlib.Path:
    """The audio file with the first of these stems that is there; else where it was looked for."""
    for stem in stems:
        for suffix in (".wav", ".flac", ".mp3", ".ogg"):
            if (path := folder / (stem + suffix)).is_file():
                return path
    return folder / (stems[0] + ".wav")
