"""Groups of items by what is annotated of them, so that a score can be told for each."""

import bisect
import collections
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

DURATIONS = (2, 5, 10, 20, 30)
"""Seconds at which one bucket ends; a clip of just so many belongs to it."""
SNRS = (0, 5, 10, 15, 20)
"""Decibels, likewise."""

Place = tuple[float, str]
"""Where a value stands among those of its field, and what it is called."""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Items that have something in common.

    Attributes:
        field: of the annotation, a key of FIELDS.
        value: what they have there, or the bucket that it falls into, as "5-10 s".
        items: their numbers, ascending.
    """

    field: str
    value: str
    items: tuple[int, ...]

    @property
    def name(self) -> str:
        """As "language=fr"."""
        return f"{self.field}={self.value}"


def slices(annotations: Sequence[Mapping[str, Any]], least: int = 50) -> list[Slice]:
    """The slices of `least` items or more, by FIELDS and then by value.

    An item without a field, or with a value of another type, is in none of that field's slices. One
    that would hold every item is left out.

    Args:
        annotations: of each item; keys that FIELDS lacks are passed over.
        least: how many items a slice must have.
    """
    found = []
    for field, place_of in FIELDS.items():
        groups: dict[Place, list[int]] = collections.defaultdict(list)
        for number, annotation in enumerate(annotations):
            place = place_of(annotation.get(field))
            if place is not None:
                groups[place].append(number)
        found += [
            Slice(field, place[1], tuple(groups[place]))
            for place in sorted(groups)
            if least <= len(groups[place]) < len(annotations)
        ]
    return found


def _text(value: Any) -> Place | None:
    """Texts without case, in the order of the alphabet."""
    text = " ".join(value.split()).casefold() if isinstance(value, str) else ""
    return (0, text) if text else None


def _bucket(ends: Sequence[int], unit: str) -> Callable[[Any], Place | None]:
    def place_of(value: Any) -> Place | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return None
        number = bisect.bisect_left(ends, value)
        if number == 0:
            return 0, f"to {ends[0]}{unit}"
        if number == len(ends):
            return number, f"over {ends[-1]}{unit}"
        return number, f"{ends[number - 1]}-{ends[number]}{unit}"

    return place_of


def _age(value: Any) -> Place | None:
    """Years, in decades; or what people call it, as "twenties"."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1000:
        return None
    decade = int(value) // 10 * 10
    return decade, f"{decade}-{decade + 9}"


FIELDS: dict[str, Callable[[Any], Place | None]] = {
    "source": _text,
    "modality": _text,
    "category": _text,
    "sub_category": _text,
    "task_name": _text,
    "difficulty": _text,
    "language": _text,
    "spoken_language": _text,
    "gender": _text,
    "age": _age,
    "accent": _text,
    "duration": _bucket(DURATIONS, " s"),
    "noise": _text,
    "snr": _bucket(SNRS, " dB"),
}
"""What items are grouped by: `duration` in seconds, `snr` in decibels, `age` in years or words."""
