"""What people ask and tell the assistant aloud, and the one answer that each has.

A closed world: sums, opposites, days, spelling, and commands whose answer names what was told. So
every answer is certain, and no sentence needs anything but itself.
"""

import dataclasses

from data_pipelines.sources.synthetic.command_tasks import VALUES


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A sentence said aloud, in English as eSpeak NG gets it, and its answer."""

    said: str
    answer: str


NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_OPPOSITES = (
    ("up", "down"),
    ("left", "right"),
    ("on", "off"),
    ("yes", "no"),
    ("stop", "go"),
)
OPPOSITES = {word: other for pair in _OPPOSITES for word, other in (pair, pair[::-1])}
ROOMS = VALUES["room"]
_SPELLED = ("dog", "cat", "pig", "cow", "car", "box")


def _sums() -> list[Spoken]:
    first = NUMBERS[:3]
    return [
        Spoken(f"what is {one} plus {other}", f"That is {NUMBERS[i + j + 1]}.")
        for i, one in enumerate(first)
        for j, other in enumerate(first)
    ]


def _days() -> list[Spoken]:
    following = (*DAYS[1:], DAYS[0])
    return [
        Spoken(f"what day comes after {day}", f"It is {after.capitalize()}.")
        for day, after in zip(DAYS, following, strict=True)
    ]


def lights(room: str, state: str) -> Spoken:
    """The lights of a room turned "on" or "off"."""
    return Spoken(f"turn {state} the lights in the {room}", lit(room, state))


def lit(room: str, state: str) -> str:
    """What is answered when lights were turned on or off."""
    return f"The lights in the {room} are {state}."


FAMILIES: dict[str, tuple[Spoken, ...]] = {
    "sum": tuple(_sums()),
    "lights": tuple(lights(room, state) for room in ROOMS for state in ("on", "off")),
    "opposite": tuple(
        Spoken(f"what is the opposite of {word}", f"The opposite is {other}.")
        for word, other in OPPOSITES.items()
    ),
    "music": tuple(
        spoken
        for genre in VALUES["genre"]
        for spoken in (
            Spoken(f"play some {genre}", f"Now {genre} is playing."),
            Spoken(f"stop the {genre}", f"The {genre} has stopped."),
        )
    ),
    "day": tuple(_days()),
    "spelling": tuple(
        Spoken(f"how do you spell {word}", f"It is spelled {' '.join(word.upper())}.")
        for word in _SPELLED
    ),
}
"""By what they are about, in the order of turns."""

WHICH_SOUND, WHAT_ABOUT = "which sound do you hear", "what did they talk about"
"""Asked aloud about what else the clip holds."""

_ALL = [spoken.said for family in FAMILIES.values() for spoken in family]
_NUMBERS = {said: number for number, said in enumerate([*_ALL, WHICH_SOUND, WHAT_ABOUT])}


def number_of(said: str) -> int:
    """Of a sentence among all that begin a talk, which the split goes by."""
    return _NUMBERS[said]
