"""How far long work is: a bar in a terminal, and lines in a file or a pipe."""

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm


def bar(
    told: str,
    total: int | None,
    done: int = 0,
    *,
    over: Iterable | None = None,
    unit: str = "",
    quiet: bool = False,
    stays: bool = False,
) -> tqdm:
    """A bar in a terminal; elsewhere the first and the last line, and one every ten seconds.

    Args:
        told: what is done.
        total: how much there is; None if nobody knows.
        done: how much of it was done before.
        over: what is iterated over, if anything.
        unit: of `total`.
        quiet: whether nothing is told.
        stays: whether the bar stays in the terminal when it has ended.
    """
    in_terminal = sys.stderr.isatty()
    return tqdm(
        over,
        total=total,
        initial=done,
        desc=told,
        unit=unit,
        leave=stays or not in_terminal,
        disable=quiet,
        mininterval=0.1 if in_terminal else 10,
        file=sys.stderr if in_terminal else _Lines(sys.stderr),
    )


class _Lines:
    """Makes a line of each state of a bar, which tqdm would write over the one before."""

    def __init__(self, file: TextIO):
        self._file, self._last = file, ""
        self.encoding = file.encoding  # by which tqdm chooses the bar's characters

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:
            self._file.write(line + "\n")
            self._last = line

    def flush(self) -> None:
        self._file.flush()
