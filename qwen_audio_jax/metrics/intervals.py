"""Who is active when: time cut where anything changes, so that hours take no more than minutes."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def ticks(seconds: float) -> int:
    """Hundredths of a second, the grid of the vocabulary's times; rounded as labels write them."""
    return round(100 * round(float(seconds), 2))


def stretches(*sides: Sequence[dict[str, Any]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cuts time wherever a unit of any side begins or ends.

    Args:
        sides: units {"start", "end"}, in seconds, and "speaker", if they have one. One that does
            not end after its start is never active.

    Returns:
        How long each stretch is, in ticks, int64 [S]; and for each side, in which of them each of
        its speakers is active, bool [speakers, S], by the order of their first units.
    """
    units = [
        [(_name(unit), ticks(unit["start"]), ticks(unit["end"])) for unit in side] for side in sides
    ]
    edges = np.unique([time for side in units for _, *times in side for time in times])
    edges = edges.astype(np.int64)
    active = []
    for side in units:
        rows = {name: row for row, name in enumerate(dict.fromkeys(name for name, *_ in side))}
        lines = np.zeros((len(rows), max(0, len(edges) - 1)), bool)
        for name, start, end in side:
            lines[rows[name], slice(*np.searchsorted(edges, (start, end)))] = True
        active.append(lines)
    return np.diff(edges), active


def _name(unit: dict[str, Any]) -> str:
    return " ".join(str(unit.get("speaker", "")).split())
