"""Which records of a corpus a mixture takes: those of some tasks, in some languages."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

_MOST = 60  # values that an error lists


@dataclasses.dataclass(frozen=True)
class Selection:
    """Attributes:
    tasks: whose records are taken; () is all.
    languages: of the audio, the annotation's `language`; () is all, and what tells none.
    """

    tasks: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks or self.languages)

    def __str__(self) -> str:
        parts = (("task", self.tasks), ("language", self.languages))
        return " and ".join(f"{what} {', '.join(names)}" for what, names in parts if names)

    def takes(self, task: str, language: str | None) -> bool:
        """Whether a record is taken."""
        of_task = not self.tasks or task in self.tasks
        return of_task and (not self.languages or language in self.languages)


ALL = Selection()


@dataclasses.dataclass(frozen=True)
class Kinds:
    """What the records of a split are.

    Attributes:
        rows: (task, language) of each, in shard order; None where no language is told.
    """

    rows: Sequence[tuple[str, str | None]]

    def chosen(self, selection: Selection) -> np.ndarray:
        """int64 [n]: numbers of the records that a selection takes."""
        return np.flatnonzero([selection.takes(*row) for row in self.rows])

    def missing(self, selection: Selection) -> list[tuple[str, str]]:
        """("task" or "language", name) of each that no record has."""
        tasks = {task for task, _ in self.rows}
        languages = {language for _, language in self.rows}
        return [("task", name) for name in selection.tasks if name not in tasks] + [
            ("language", name) for name in selection.languages if name not in languages
        ]

    def told(self, what: str) -> str:
        """What it has, in words: "asr (40), text (3)"; of "task", "language" or "both"."""
        if what == "both":
            return _counted(f"{task} in {said or 'no language'}" for task, said in self.rows)
        place = ("task", "language").index(what)
        return _counted(row[place] or "none told" for row in self.rows)


def selections(
    tasks: Mapping[str, Sequence[str]], languages: Mapping[str, Sequence[str]]
) -> dict[str, Selection]:
    """Of each corpus that one of the two names."""
    return {
        name: Selection(tuple(tasks.get(name, ())), tuple(languages.get(name, ())))
        for name in tasks | languages
    }


def _counted(values: Iterable[str]) -> str:
    counts = collections.Counter(values)
    told = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(_MOST))
    return told + (f" and {len(counts) - _MOST} more" if len(counts) > _MOST else "")
