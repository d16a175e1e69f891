"""The clips that talks are about, each with the facts of it, and what one turn of a talk is."""

import dataclasses
from typing import Any

import numpy as np

from data_pipelines.sources.synthetic import music_tasks, sound_tasks, speaker_tasks, speech_tasks
from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.notes import INSTRUMENTS, PITCHES, note
from data_pipelines.sources.synthetic.phrases import KEYWORDS
from data_pipelines.sources.synthetic.scenes import SCENES
from data_pipelines.sources.synthetic.sound_tasks import NAMES, PLURALS
from data_pipelines.sources.synthetic.sounds import SAMPLE_RATE, event, struck
from data_pipelines.sources.synthetic.sounds import place as placed
from data_pipelines.sources.synthetic.speaker_tasks import EMOTIONS
from data_pipelines.sources.synthetic.speech_tasks import CODES
from data_pipelines.sources.synthetic.split import choose, is_validation, size
from data_pipelines.sources.synthetic.spoken_questions import NUMBERS
from data_pipelines.sources.synthetic.vocal_sounds import VOCAL_SOUNDS, vocal_sound_named

Draw = np.random.Generator

VOICE_SOUNDS = tuple(VOCAL_SOUNDS)
_STROKES_SECONDS = 1.45
FAR_APART = 5
"""Steps of the scale between two notes of which one is said to be higher."""


@dataclasses.dataclass(frozen=True)
class Heard:
    """A clip and what is in it.

    Attributes:
        audio: FLAC.
        facts: JSON types; all that an answer can be found from.
    """

    audio: bytes
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the user says, and the answer.

    Attributes:
        asks: the kind of question.
        clips: the user's, in front of the text.
        text: written by the user; "" where the clips say everything.
        answer: the assistant's.
    """

    asks: str
    clips: tuple[Heard, ...]
    text: str
    answer: str


def sound(name: str, validation: bool, rng: Draw) -> Heard:
    """One of NAMES, 0.6 to 1.3 s."""
    (audio,), told = sound_tasks.event_named(validation, NAMES.index(name), rng)
    return Heard(audio, {"sound": name, "size": told["size"]})


def sound_of(seconds: float, name: str, validation: bool, rng: Draw) -> Heard:
    """One of NAMES that lasts about so long; the facts say how long."""
    u = size(validation, rng)
    wave = event(name, u, seconds, rng)
    padded = np.concatenate((silence(0.03), wave, silence(0.03)))
    facts = {"sound": name, "size": round(u, 3), "seconds": round(wave.size / SAMPLE_RATE, 2)}
    return Heard(clip(padded, rng), facts)


def sounds_in_turn(names: list[str], validation: bool, rng: Draw) -> Heard:
    """One sound after another in one clip."""
    wave = sound_tasks.mixed(sound_tasks.one_after_another(names, validation, rng))
    return Heard(clip(wave, rng), {"sounds": list(names)})


def strokes(name: str, count: int, validation: bool, rng: Draw) -> Heard:
    """So many (1 to 4) knocks, barks or beeps; `name` is a key of PLURALS.

    Somewhere in a clip of one length, which therefore does not tell how many they are.
    """
    u = size(validation, rng)
    wave = struck(name, count, u, rng)
    room = _STROKES_SECONDS - wave.size / SAMPLE_RATE
    line = placed(int(_STROKES_SECONDS * SAMPLE_RATE), [(rng.uniform(0, room), wave)])
    return Heard(clip(line, rng), {"sound": name, "count": count, "size": round(u, 3)})


def counted(name: str, count: int) -> str:
    """Such as "three knocks", "one bark"."""
    strokes = PLURALS[name]
    return f"{NUMBERS[count - 1]} {strokes.removesuffix('s') if count == 1 else strokes}"


def single_note(column: int, row: int, velocity: int, rng: Draw) -> Heard:
    """A note by its instrument's and its pitch's number."""
    instrument, pitch = INSTRUMENTS[column], PITCHES[row]
    wave = note(instrument, pitch, velocity, rng.uniform(0.5, 0.8), rng)
    facts = {"instrument": instrument, "pitch": pitch, "velocity": velocity}
    return Heard(music_tasks.at_own_level(wave, rng), facts)


def instrument(column: int, validation: bool, rng: Draw) -> Heard:
    """A note of an instrument by its number."""
    (audio,), told = music_tasks.instrument_named(validation, column, rng)
    facts = {"instrument": told["text"], "pitch": told["pitch"], "velocity": told["velocity"]}
    return Heard(audio, facts)


def two_notes(column: int, validation: bool, rng: Draw, velocities: tuple[int, int]) -> list[Heard]:
    """Two notes far apart, the first by this instrument and the second by another one."""
    rows, columns = range(len(PITCHES)), range(len(INSTRUMENTS))
    options = [
        (row, other, other_row)
        for row in rows
        for other in columns
        for other_row in rows
        if other != column
        and abs(row - other_row) >= FAR_APART
        and is_validation(row, column) == is_validation(other_row, other) == validation
    ]
    row, other, other_row = choose(options, rng)
    return [
        single_note(column, row, velocities[0], rng),
        single_note(other, other_row, velocities[1], rng),
    ]


def turn_of(ordinal: int, period: int, ways: int) -> int:
    """Which of several ways an ordinal takes: in turn, and each with all that takes turns beside.

    Args:
        ordinal: counts the talks of a kind of question.
        period: after how many of them what is asked for comes round.
        ways: how many there are.
    """
    return (ordinal + ordinal // period) % ways


def higher_of(one: Heard, other: Heard) -> str:
    """The instrument of the higher note."""
    return max((one, other), key=lambda heard: heard.facts["pitch"]).facts["instrument"]


def place(row: int, validation: bool, rng: Draw) -> Heard:
    """A scene by its number."""
    (audio,), told = sound_tasks.scene_named(validation, row, rng)
    return Heard(audio, {"scene": tuple(SCENES)[row], "sounds": told["sounds"]})


def voice_sound(row: int, validation: bool, rng: Draw) -> Heard:
    """Laughter and the like, by its number in VOICE_SOUNDS."""
    (audio,), told = vocal_sound_named(validation, row, rng)
    return Heard(audio, {"voice_sound": told["text"], "size": told["size"]})


def mood(row: int, validation: bool, rng: Draw) -> Heard:
    """An English sentence in a mood by its number in EMOTIONS."""
    (audio,), told = speaker_tasks.emotion_named(validation, row, rng)
    kept = {key: told[key] for key in ("transcript", "voice")}
    return Heard(audio, {"emotion": tuple(EMOTIONS)[row], **kept})


def speech(language: str, gender: str, validation: bool, rng: Draw) -> Heard:
    """A sentence in one of CODES, by a "female" or a "male" voice."""
    ordinal = ("female", "male").index(gender) + 2 * CODES.index(language)
    (audio,), told = speech_tasks.gender_named(validation, ordinal, rng)
    kept = ("language", "gender", "transcript", "voice")
    return Heard(audio, {key: told[key] for key in kept})


def word(row: int, validation: bool, rng: Draw) -> Heard:
    """One of KEYWORDS, by its number."""
    (audio,), told = speech_tasks.keyword(validation, row, rng)
    return Heard(audio, {"word": KEYWORDS[row], "voice": told["voice"]})
