"""Further music tasks of the synthetic corpus: melodies, moods, rhythms, singers, questions."""

from typing import Any

import numpy as np

from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.notes import INSTRUMENTS, frequency, note
from data_pipelines.sources.synthetic.sounds import SAMPLE_RATE, clock, noise, place, sweep
from data_pipelines.sources.synthetic.split import choose, is_validation
from data_pipelines.sources.synthetic.vocal_sounds import voiced

Made = tuple[tuple[bytes, ...], dict[str, Any]]
Line = list[tuple[float, float, int]]  # onset and length in beats, MIDI number

TUNES = {
    "Ode to Joy": ((64, 1), (64, 1), (65, 1), (67, 1), (67, 1), (65, 1), (64, 1), (62, 1)),
    "Frère Jacques": ((60, 1), (62, 1), (64, 1), (60, 1), (60, 1), (62, 1), (64, 1), (60, 1)),
    "Twinkle, Twinkle, Little Star": (
        (60, 1),
        (60, 1),
        (67, 1),
        (67, 1),
        (69, 1),
        (69, 1),
        (67, 2),
    ),
    "Mary Had a Little Lamb": ((64, 1), (62, 1), (60, 1), (62, 1), (64, 1), (64, 1), (64, 2)),
    "London Bridge": ((67, 1.5), (69, 0.5), (67, 1), (65, 1), (64, 1), (65, 1), (67, 2)),
    "Row, Row, Row Your Boat": ((60, 1.5), (60, 1.5), (60, 1), (62, 0.5), (64, 1.5), (64, 1)),
}
"""First bars of songs long in the public domain: (MIDI number, beats)."""

# Vowel, how much smaller the vocal tract is than a man's, transposition, vibrato in Hz and cents.
SINGERS = {
    "Singer 1": ("a", 1.0, -12, 5.0, 30),
    "Singer 2": ("o", 1.0, -7, 6.5, 70),
    "Singer 3": ("a", 1.18, 0, 5.5, 60),
    "Singer 4": ("i", 1.18, 5, 4.5, 20),
}

# Steps of the scale, beats per minute, how much of its beat a note lasts, velocity.
MOODS = {
    "happy": ((0, 4, 7, 4, 9, 7, 12), (150, 180), 0.6, 100),
    "sad": ((0, 3, 2, 0, -1, 0), (75, 90), 1.0, 50),
    "calm": ((0, 7, 4, 2, 0), (70, 85), 1.0, 50),
    "tense": ((0, 1, 6, 5, 6, 1, 0, 6, 7, 6), (190, 220), 0.9, 127),
}

# One bar: beats of kick, snare and hat, bass as (onset, length, step), beats of the bar, tempo.
GENRES = {
    "waltz": ((0,), (), (1, 2), ((0, 1, 0), (1, 0.5, 7), (2, 0.5, 7)), 3, (150, 180)),
    "march": ((0, 2), (1, 3, 3.5), (), ((0, 0.9, 0), (2, 0.9, -5)), 4, (110, 124)),
    "rock": (
        (0, 2, 2.5),
        (1, 3),
        tuple(i / 2 for i in range(8)),
        tuple((i / 2, 0.4, 0) for i in range(8)),
        4,
        (115, 140),
    ),
    "techno": (
        (0, 1, 2, 3),
        (),
        (0.5, 1.5, 2.5, 3.5),
        tuple((i + 0.25 * j, 0.2, (0, 0, 12)[j - 1]) for i in range(4) for j in (1, 2, 3)),
        4,
        (125, 140),
    ),
    "blues": (
        (0, 2),
        (1, 3),
        tuple(i + s for i in range(4) for s in (0, 0.67)),
        tuple(
            (i + s, 0.3, step)
            for i, pair in enumerate(((0, 0), (4, 4), (7, 7), (9, 10)))
            for s, step in zip((0, 0.67), pair, strict=True)
        ),
        4,
        (100, 120),
    ),
}


def _tempo(bounds: tuple[int, int], rng: np.random.Generator) -> float:
    return float(rng.uniform(*bounds))


def _in_turn(pitches: list[int], beats: list[float]) -> Line:
    onsets = np.cumsum([0, *beats[:-1]]).tolist()
    return list(zip(onsets, beats, pitches, strict=True))


def _play(
    line: Line, instrument: str, tempo: float, velocity: int, rng: np.random.Generator
) -> np.ndarray:
    """[S]; every note rings a little beyond its beats."""
    beat = 60 / tempo
    size = int((max(at + length for at, length, _ in line) * beat + 0.15) * SAMPLE_RATE)
    return place(
        size,
        [
            (at * beat, note(instrument, pitch, velocity, max(0.12, length * beat + 0.05), rng))
            for at, length, pitch in line
        ],
    )


def _clip(wave: np.ndarray, rng: np.random.Generator) -> bytes:
    return clip(np.concatenate((silence(rng.uniform(0, 0.08)), wave)), rng)


def _pair(validation: bool, row: int, columns: int, rng: np.random.Generator) -> int:
    """A column that goes with the row in this split alone."""
    return choose([i for i in range(columns) if is_validation(row, i) == validation], rng)


def tune_recognised(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """music_recognition: validation has tunes on instruments that never played them."""
    row = ordinal % len(TUNES)
    name = tuple(TUNES)[row]
    instrument = INSTRUMENTS[_pair(validation, row, len(INSTRUMENTS), rng)]
    key, tempo = int(rng.integers(-3, 10)), _tempo((170, 220), rng)
    pitches, beats = zip(*TUNES[name], strict=True)
    line = _in_turn([pitch + key for pitch in pitches], list(beats))
    return (_clip(_play(line, instrument, tempo, 90, rng), rng),), {
        "text": name,
        "instrument": instrument,
        "key": key,
        "beats_per_minute": round(tempo),
    }


def mood_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """music_emotion: scale, tempo, articulation and loudness make it; instruments are held out."""
    row = ordinal % len(MOODS)
    name = tuple(MOODS)[row]
    steps, bounds, held, velocity = MOODS[name]
    instrument = INSTRUMENTS[_pair(validation, row, len(INSTRUMENTS), rng)]
    key, tempo = int(rng.integers(60, 72)), _tempo(bounds, rng)
    line = [(float(i), held, key + step) for i, step in enumerate(steps)]
    return (_clip(_play(line, instrument, tempo, velocity, rng), rng),), {
        "text": name,
        "instrument": instrument,
        "beats_per_minute": round(tempo),
    }


def _drum(kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "kick":
        t = clock(0.16)
        return np.sin(sweep(45 + 90 * np.exp(-t / 0.03))) * np.exp(-t / 0.06)
    length, low, level = {"snare": (0.14, 400, 0.25), "hat": (0.05, 5000, 0.1)}[kind]
    t = clock(length)
    return level * noise(length, low, 7500, rng) * np.exp(-3 * t / length)


def genre_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """genre_classification: two bars of its rhythm; validation has bass instruments new to it."""
    row = ordinal % len(GENRES)
    name = tuple(GENRES)[row]
    *drums, bass, beats, bounds = GENRES[name]
    instrument = INSTRUMENTS[_pair(validation, row, len(INSTRUMENTS), rng)]
    key, tempo = int(rng.integers(40, 50)), _tempo(bounds, rng)
    bars = range(1 if name in ("blues", "march") else 2)
    line = [(bar * beats + at, length, key + step) for bar in bars for at, length, step in bass]
    wave = _play(line, instrument, tempo, 90, rng)
    hits = [
        ((bar * beats + at) * 60 / tempo, _drum(kind, rng))
        for kind, ats in zip(("kick", "snare", "hat"), drums, strict=True)
        for bar in bars
        for at in ats
    ]
    wave = wave + place(wave.size, hits)
    return (_clip(wave, rng),), {
        "text": name,
        "instrument": instrument,
        "beats_per_minute": round(tempo),
    }


def music_captioned(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """music_captioning: instrument, tempo, mode and direction; validation has unheard mixes."""
    row = ordinal % len(INSTRUMENTS)
    column = _pair(validation, row, 8, rng)
    fast, major, rising = bool(column & 1), bool(column & 2), bool(column & 4)
    steps = (0, 2, 4, 7, 12) if major else (0, 2, 3, 7, 12)
    key = int(rng.integers(60, 70))
    pitches = [key + step for step in (steps if rising else steps[::-1])]
    line = _in_turn(pitches, [1.0] * len(pitches))
    tempo = _tempo((200, 260) if fast else (100, 115), rng)
    text = (
        f"a {'fast' if fast else 'slow'} {'rising' if rising else 'falling'} melody in "
        f"{'major' if major else 'minor'}, played on the {INSTRUMENTS[row]}"
    )
    return (_clip(_play(line, INSTRUMENTS[row], tempo, 90, rng), rng),), {"text": text}


def singer_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """singer_identification: validation has songs that the singer never sang in training."""
    row = ordinal % len(SINGERS)
    name = tuple(SINGERS)[row]
    vowel, tract, lower, rate, depth = SINGERS[name]
    song = tuple(TUNES)[_pair(validation, row, len(TUNES), rng)]
    beat, parts = 60 / _tempo((170, 210), rng), []
    for pitch, beats in TUNES[song]:
        t = clock(beats * beat)
        sway = depth * np.sin(2 * np.pi * rate * t + rng.uniform(0, 6.3)) / 1200
        swell = np.minimum(1, t / 0.04) * np.minimum(1, (t[-1] - t) / 0.04)
        parts.append(voiced(frequency(pitch + lower) * 2**sway, vowel, tract) * swell)
    return (_clip(np.concatenate(parts), rng),), {"text": name, "song": song}


def _direction(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    answer = ("rise", "fall")[ordinal % 2]
    steps = np.cumsum([0, *rng.integers(1, 4, 4)])
    return _answered(
        "Does the melody rise or fall?",
        answer,
        steps if answer == "rise" else -steps,
        [1.0] * 5,
        validation,
        ordinal,
        rng,
    )


def _wandering(number: int, rng: np.random.Generator) -> np.ndarray:
    """Steps of a melody, [number]; none comes twice running, for that could be heard as one."""
    steps = [int(rng.integers(-5, 6))]
    while len(steps) < number:
        if (step := int(rng.integers(-5, 6))) != steps[-1]:
            steps.append(step)
    return np.array(steps)


def _speed(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    answer = ("faster", "slower")[ordinal % 2]
    beats = [1.6, 1.3, 1.0, 0.75, 0.55, 0.4]
    return _answered(
        "Does the tempo get faster or slower?",
        answer,
        _wandering(6, rng),
        beats if answer == "faster" else beats[::-1],
        validation,
        ordinal,
        rng,
    )


def _how_many_notes(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    number = ordinal % 4 + 2
    return _answered(
        "How many notes are played?",
        ("two", "three", "four", "five")[number - 2],
        _wandering(number, rng),
        [1.0] * number,
        validation,
        ordinal,
        rng,
    )


def _mode(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    answer = ("major", "minor")[ordinal % 2]
    steps = np.array([0, 4 if answer == "major" else 3, 7, 12])
    return _answered(
        "Is the chord major or minor?",
        answer,
        rng.permutation(steps),
        [1.0] * 4,
        validation,
        ordinal,
        rng,
    )


def _answered(
    question: str,
    answer: str,
    steps: np.ndarray,
    beats: list[float],
    validation: bool,
    ordinal: int,
    rng: np.random.Generator,
) -> Made:
    """A melody on an instrument that goes with its lowest note in this split alone."""
    key = int(rng.integers(64, 76))
    instrument = INSTRUMENTS[_pair(validation, key, len(INSTRUMENTS), rng)]
    line = _in_turn([key + int(step) for step in steps], beats)
    return (_clip(_play(line, instrument, _tempo((130, 170), rng), 90, rng), rng),), {
        "question": question,
        "text": answer,
        "instrument": instrument,
        "key": key,
    }


_QUESTIONS = (_direction, _speed, _how_many_notes, _mode)


def music_asked(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """music_question_answering: four kinds of question in turn, each with balanced answers."""
    kind = _QUESTIONS[ordinal % len(_QUESTIONS)]
    return kind(validation, ordinal // len(_QUESTIONS), rng)
