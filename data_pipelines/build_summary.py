"""What a build says at its end, and keeps beside the shards: rows rejected, and what was mended."""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.shards import ShardSummary

REJECTED_FILE = "rejected.jsonl"
NOTES_FILE = "notes.jsonl"
"""What was mended in records, or is odd about them."""

SHOWN = 5
"""Lines that a list has on the terminal, at most."""


def listed_notes(done: ShardSummary) -> list[dict[str, Any]]:
    """What was mended or is odd, the most frequent first."""
    ordered = sorted(done.notes.items(), key=lambda note: (-note[1], note[0]))
    return [
        {"note": note, "records": count, "example": done.examples[note]} for note, count in ordered
    ]


def write_listed(
    name: str,
    folder: pathlib.Path,
    out: pathlib.Path,
    listed: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Writes a list of rows by split into the folder, keeping what `out` has of other splits."""
    rows = []
    if (out / name).is_file():
        lines = (out / name).read_text(encoding="utf-8").split("\n")
        rows = [
            row for row in map(json.loads, filter(None, lines)) if row.get("split") not in listed
        ]
    rows += [{"split": split, **row} for split, part in listed.items() for row in part]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")


def show(out: pathlib.Path, made: Mapping[str, ShardSummary]) -> None:
    """Prints what was built, what was not, and what was mended."""
    table = Table(title=Text(str(out)))  # not str: rich would read square brackets as markup
    table.add_column("task")
    table.add_column("records", justify="right")
    table.add_column("hours", justify="right")
    total = ShardSummary()
    for done in made.values():
        total.add(done)
    rows = [(t, n, total.seconds[t]) for t, n in sorted(total.records.items())]
    rows.append(("all", total.records.total(), sum(total.seconds.values())))
    for task, records, seconds in rows:
        table.add_row(task, f"{records:,}", f"{seconds / 3600:.2f}")
    Console().print(table)
    for split, done in made.items():
        lines = [f"line {r['row']}: {r['reason']}" for r in done.rejected]
        _show_some(f"{split}: {len(lines)} rows rejected", out / REJECTED_FILE, lines)
        lines = [
            f"{n['records']:,} x {n['note']} (as in {n['example']})" for n in listed_notes(done)
        ]
        _show_some(f"{split}: mended or odd", out / NOTES_FILE, lines)


def _show_some(head: str, path: pathlib.Path, lines: Sequence[str]) -> None:
    if lines:
        more = ["..."] if len(lines) > SHOWN else []
        text = "\n  ".join([f"{head}, listed in {path}:", *lines[:SHOWN], *more])
        print(text, file=sys.stderr)
