"""Kinds of fields: the type and the range of what an annotation says, and what is mended of it.

A kind has a `name` and says in `says` what it takes, for docs/tasks.md. `read(value, notes)` gives
the value as it is stored: the same, or mended where it can only have been meant one way, with a
note of that. It raises AnnotationError with the end of a sentence that begins with the field's
name. What is accepted is read back from an exact answer by the task's `parse`.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol

MAX_SECONDS = 3600
"""No time can be later; nor is any clip longer, see `audio.decode`."""

# White space and what no font shows: no scorer would see them, and some strip them.
_STRAY = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + "\u200b\u2060\ufeff"
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""Fillers, and what chooses a form of the sign before it; by their category they would be seen."""
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})
_LANGUAGE_CODE = re.compile(r"(?!sil|itn)[a-z]{2,3}|zh_tr|unknown")
_SHOWN = 40

Notes = list[str]


class AnnotationError(ValueError):
    """A record whose annotation does not fit its task. The message names field and fix."""


class Field(Protocol):
    """A kind of field."""

    name: str
    says: str

    def read(self, value: Any, notes: Notes) -> Any:
        """The value as it is stored. Raises AnnotationError."""


def shown(value: Any) -> str:
    """A value as a sentence tells it, by JSON's names and not too long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < 1e15 else "a number"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
    return {list: "a list", dict: "an object"}.get(type(value), f"a {type(value).__name__}")


def without_stray(text: str) -> str:
    """The text without what cannot be seen at its ends."""
    return text.strip(_STRAY)


def is_seen(text: str) -> bool:
    """Whether a text has anything in it that can be seen."""
    return any(c not in _UNSEEN and unicodedata.category(c) not in _UNSEEN_CATEGORIES for c in text)


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that says something.

    Numbers are not taken for one: how they were written (007, 1.50) is lost in JSON.

    Attributes:
        forbidden: signs that would end it, or begin a tag, where an answer is read back.
        verbatim: whether blanks at its ends belong to it.
    """

    name: str
    says: str
    forbidden: tuple[str, ...] = ()
    verbatim: bool = False

    def read(self, value: Any, notes: Notes) -> str:
        if not isinstance(value, str):
            is_number = type(value) in (int, float) and abs(value) < 1e15
            hint = f'; write "{value}"' if is_number else ""
            raise AnnotationError(f"must be a text, not {shown(value)}{hint}")
        text = value if self.verbatim else value.strip(_STRAY)
        if not is_seen(text):
            raise AnnotationError(f"has nothing in it that can be seen ({shown(value)})")
        for sign in self.forbidden:
            if sign in text:
                raise AnnotationError(f"must be {self.says}, not {shown(value)}")
        if len(text) < len(value):
            notes.append("blanks at the ends of a text left out")
        return text


@dataclasses.dataclass(frozen=True)
class Language:
    """A language, by its code. Two small languages' are called as control tokens."""

    name: str
    says: str

    def read(self, value: Any, notes: Notes) -> str:
        if not isinstance(value, str):
            raise AnnotationError(f"must be a text, not {shown(value)}")
        if not _LANGUAGE_CODE.fullmatch(value):
            raise AnnotationError(f"must be a code of ISO 639, as 'en', not {shown(value)}")
        return value


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number from 0 to `last`. 60.0 is one: tables with gaps write all numbers so."""

    name: str
    says: str
    last: int

    def read(self, value: Any, notes: Notes) -> int:
        if type(value) not in (int, float) or not 0 <= value <= self.last or value != int(value):
            raise AnnotationError(f"must be {self.says}, not {shown(value)}")
        if type(value) is float:
            notes.append(f"numbers such as {value} read as whole ones")
        return int(value)


@dataclasses.dataclass(frozen=True)
class Listed:
    """A list of `least` to `most` items of one kind."""

    name: str
    says: str
    item: Field
    least: int
    most: int

    def read(self, value: Any, notes: Notes) -> list:
        if not isinstance(value, list):
            raise AnnotationError(f"must be {self.says}, not {shown(value)}")
        if not self.least <= len(value) <= self.most:
            raise AnnotationError(f"must have {self.least} to {self.most} items, not {len(value)}")
        return [_part(f"number {n}", self.item, item, notes) for n, item in enumerate(value, 1)]


@dataclasses.dataclass(frozen=True)
class Entries:
    """A list of objects, of which each has these keys; further ones are kept."""

    name: str
    says: str
    keys: Mapping[str, Field]

    def read(self, value: Any, notes: Notes) -> list:
        if not isinstance(value, list):
            raise AnnotationError(f"must be {self.says}, not {shown(value)}")
        read = []
        for number, entry in enumerate(value, 1):
            if not isinstance(entry, dict) or not self.keys.keys() <= entry.keys():
                raise AnnotationError(f"must be {self.says}; number {number} is not")
            parts = {
                key: _part(f"{key!r} of number {number}", kind, entry[key], notes)
                for key, kind in self.keys.items()
            }
            read.append(entry | parts)
        return read


@dataclasses.dataclass(frozen=True)
class Timeline:
    """A list of units with times, in the order in which they begin.

    Attributes:
        key: what each has beside its times; "" for nothing.
        kind: the kind of that.
        one_after_another: whether a unit may begin only where the one before it ends.
        lasting: whether one of them at least must last, to be scored.
    """

    name: str
    says: str
    key: str = ""
    kind: Field | None = None
    one_after_another: bool = False
    lasting: bool = False

    def read(self, value: Any, notes: Notes) -> list:
        if not isinstance(value, list):
            raise AnnotationError(f"must be {self.says}, not {shown(value)}")
        needed = {"start", "end", self.key} - {""}
        clock, read = 0.0, []
        for number, unit in enumerate(value, 1):
            if not isinstance(unit, dict) or not needed <= unit.keys():
                raise AnnotationError(f"must be {self.says}; number {number} is not")
            name, start, end = f"number {number}", unit["start"], unit["end"]
            if self.kind is not None:
                label = _part(f"{self.key!r} of {name}", self.kind, unit[self.key], notes)
                name = shown(label)
                if label != unit[self.key]:
                    unit = unit | {self.key: label}
            if type(start) not in (int, float) or type(end) not in (int, float):
                raise AnnotationError(f"start and end of {name} must be numbers, in seconds")
            if not 0 <= start <= end <= MAX_SECONDS:
                raise AnnotationError(f"times of {name} must rise within 0..{MAX_SECONDS:g} s")
            if start < clock - 0.005:
                raise AnnotationError(f"{name} begins before its predecessor")
            clock = end if self.one_after_another else start
            # abs: minus zero would be written as a time that no vocabulary has.
            read.append(unit if start else unit | {"start": abs(start), "end": abs(end)})
        if self.lasting and not any(round(u["end"], 2) > round(u["start"], 2) for u in read):
            raise AnnotationError("has nothing in it that lasts 0.01 s")
        return read

    def last(self, units: list[dict[str, Any]]) -> float:
        """When the last of the units ends, in seconds."""
        return max(unit["end"] for unit in units)


def _part(place: str, kind: Field, value: Any, notes: Notes) -> Any:
    try:
        return kind.read(value, notes)
    except AnnotationError as error:
        raise AnnotationError(f"{place} {error}") from None


LABEL = Text("label", "text that has no `<|` in it, which begins a tag", ("<|",))
QUESTION = Text("question", "text, put to the model as it is")
PASSAGE = Text("passage", "text, blanks at its ends included", verbatim=True)
NAME = Text(
    "name", 'text without `,`, `<` and `"`, which part such names in an answer', tuple(',<"')
)
INSTRUMENT = Text("instrument", 'text without `<` and `"`', tuple('<"'))
LANGUAGE = Language(
    "language",
    "a language's code of ISO 639, or `unknown`; a build reads what has one reading, such as `EN`, "
    "`en-US`, `eng` and `English`",
)
MIDI = Whole("MIDI number", "a MIDI number from 0 to 127", 127)
NAMES = Listed("names", "a list of names", NAME, 0, 100)
UTTERANCES = Listed("utterances", "a list of what each speaker says, 2 to 6 labels", LABEL, 2, 6)
ENTITIES = Entries(
    "entities",
    "a list of {'type': text, 'value': text}, a name and a label",
    {"type": NAME, "value": LABEL},
)
WORDS = Timeline(
    "words",
    "a list of {'word': text, 'start': s, 'end': s}, one after another",
    "word",
    LABEL,
    one_after_another=True,
)
EVENTS = Timeline(
    "events",
    "a list of {'event': text, 'start': s, 'end': s}, by their beginnings; they may overlap",
    "event",
    LABEL,
)
TURNS = Timeline(
    "turns",
    "a list of {'speaker': text, 'start': s, 'end': s}, by their beginnings; they may overlap",
    "speaker",
    LABEL,
    lasting=True,
)
SEGMENTS = Timeline(
    "segments",
    "a list of {'start': s, 'end': s}, one after another",
    one_after_another=True,
    lasting=True,
)
