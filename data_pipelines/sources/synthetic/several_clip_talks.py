"""Talks about two or three clips: order, comparison, counting, and which one it is."""

from data_pipelines.sources.synthetic.notes import INSTRUMENTS
from data_pipelines.sources.synthetic.phrases import LANGUAGES
from data_pipelines.sources.synthetic.sound_tasks import NAMES, PLURALS, mixture, named
from data_pipelines.sources.synthetic.speech_tasks import CODES
from data_pipelines.sources.synthetic.split import choose
from data_pipelines.sources.synthetic.talk_clips import (
    Draw,
    Heard,
    Turn,
    counted,
    higher_of,
    sound,
    sound_of,
    speech,
    strokes,
    turn_of,
    two_notes,
)

PLACES = ("first", "second", "third")
_LOUD = (100, 127)


def compared(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """several_clips: validation has sets of sounds that training has in no talk."""
    kind = _KINDS[ordinal % len(_KINDS)]
    return kind(validation, ordinal // len(_KINDS), rng)


def _names(number: int, validation: bool, ordinal: int, rng: Draw) -> list[str]:
    """A set of sounds of this split, the first of them in turn."""
    return mixture(validation, number, rng, (NAMES[ordinal % len(NAMES)],))


def _sounds(names: list[str], validation: bool, rng: Draw) -> tuple[Heard, ...]:
    return tuple(sound(name, validation, rng) for name in names)


def _in_order(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    names = _names(2, validation, ordinal, rng)
    text = choose(("Name the sounds in order.", "Which sounds are these?"), rng)
    answer = f"First {named(names[0])}, then {named(names[1])}."
    return [Turn("order", _sounds(names, validation, rng), text, answer)]


def _one_of_three(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    names = _names(3, validation, ordinal, rng)
    at = turn_of(ordinal, len(NAMES), 3)
    # The name whose turn it is stands where it is asked for.
    names[0], names[at] = names[at], names[0]
    text = f"What is heard in the {PLACES[at]} clip?"
    answer = f"The {PLACES[at]} clip has {named(names[at])}."
    return [Turn("one_of_three", _sounds(names, validation, rng), text, answer)]


def _where(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    names = _names(3, validation, ordinal, rng)
    name, at = names[0], turn_of(ordinal, len(NAMES), 3)
    names[0], names[at] = names[at], names[0]
    text = choose((f"Which clip has the {name}?", f"Where is the {name}?"), rng)
    answer = f"The {name} is in the {PLACES[at]} clip."
    return [Turn("where", _sounds(names, validation, rng), text, answer)]


def _same(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    one, other = _names(2, validation, ordinal // 2, rng)
    if ordinal % 2:
        other, answer = one, f"Both clips have {named(one)}."
    else:
        answer = f"One has {named(one)}, the other {named(other)}."
    text = choose(("Are the two sounds the same?", "Do both clips have the same sound?"), rng)
    return [Turn("same", _sounds([one, other], validation, rng), text, answer)]


def _longer(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    names = _names(2, validation, ordinal, rng)
    seconds = [rng.uniform(0.3, 0.45), rng.uniform(1.1, 1.5)]
    clips = [sound_of(*pair, validation, rng) for pair in zip(seconds, names, strict=True)]
    if turn_of(ordinal, len(NAMES), 2):
        clips.reverse()
    text = choose(("Which sound is longer?", "Which of the two sounds lasts longer?"), rng)
    return [Turn("longer", tuple(clips), text, f"The {names[1]} is longer.")]


def _higher(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    velocities = (choose(_LOUD, rng), choose(_LOUD, rng))
    notes = two_notes(ordinal % len(INSTRUMENTS), validation, rng, velocities)
    text = choose(("Which instrument plays the higher note?", "Which instrument is higher?"), rng)
    return [Turn("higher", tuple(notes), text, f"The {higher_of(*notes)} is higher.")]


def _instruments(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    velocities = (choose(_LOUD, rng), choose(_LOUD, rng))
    notes = two_notes(ordinal % len(INSTRUMENTS), validation, rng, velocities)
    one, other = (named(heard.facts["instrument"]) for heard in notes)
    text = choose(("Name the instruments in order.", "Which instruments are these?"), rng)
    return [Turn("instruments", tuple(notes), text, f"First {one}, then {other}.")]


def _in_all(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    total, name = ordinal % 5 + 2, tuple(PLURALS)[ordinal // 5 % len(PLURALS)]
    first = choose([n for n in (1, 2, 3) if 1 <= total - n <= 3], rng)
    clips = [strokes(name, count, validation, rng) for count in (first, total - first)]
    text = f"How many {PLURALS[name]} are there in all?"
    return [Turn("total", tuple(clips), text, in_all(name, total))]


def in_all(name: str, total: int) -> str:
    """How many strokes several clips have together; at least two."""
    return f"There are {counted(name, total)} in all."


def _language(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    asked, at = CODES[ordinal % len(CODES)], ordinal % 3
    others = [code for code in CODES if code != asked]
    codes = [others[i] for i in rng.choice(len(others), 2, replace=False)]
    codes.insert(at, asked)
    clips = [speech(code, choose(("female", "male"), rng), validation, rng) for code in codes]
    name = LANGUAGES[asked]
    text = choose((f"Which clip is in {name}?", f"Where is {name} spoken?"), rng)
    answer = f"The {PLACES[at]} clip is in {name}."
    return [Turn("which_language", tuple(clips), text, answer)]


def _again(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """Two turns: a sound, and which of two further clips has it again."""
    names = _names(2, validation, ordinal, rng)
    first, at = names[0], turn_of(ordinal, len(NAMES), 2)
    if at:
        names.reverse()
    text = choose(("What sound is this?", "Which sound do you hear?"), rng)
    again = choose(("Which of these has it too?", "In which of these is it heard again?"), rng)
    return [
        Turn("sound", _sounds([first], validation, rng), text, f"It is {named(first)}."),
        Turn("again", _sounds(names, validation, rng), again, f"The {PLACES[at]} of them."),
    ]


_KINDS = (
    _in_order,
    _higher,
    _one_of_three,
    _language,
    _same,
    _in_all,
    _longer,
    _instruments,
    _where,
    _again,
)
