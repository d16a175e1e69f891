"""The music tasks of the synthetic corpus, and the question that compares two notes."""

from typing import Any

import numpy as np

from data_pipelines.sources.synthetic.clips import flac, silence
from data_pipelines.sources.synthetic.notes import INSTRUMENTS, PITCHES, VELOCITIES, note
from data_pipelines.sources.synthetic.split import choose, is_validation, is_validation_set

Made = tuple[tuple[bytes, ...], dict[str, Any]]


def at_own_level(wave: np.ndarray, rng: np.random.Generator) -> bytes:
    """At its own level, for the velocity is heard in it; noise 60 dB below full scale or less."""
    floor = 10 ** (-rng.uniform(60, 75) / 20)
    return flac(wave + floor * rng.standard_normal(wave.size))


def note_analysed(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """note_analysis: validation has pitches that the instrument never played in training."""
    row = ordinal % len(PITCHES)
    able = [i for i in range(len(INSTRUMENTS)) if is_validation(row, i) == validation]
    instrument = INSTRUMENTS[choose(able, rng)]
    velocity = VELOCITIES[ordinal // len(PITCHES) % len(VELOCITIES)]
    wave = note(instrument, PITCHES[row], velocity, rng.uniform(0.5, 0.8), rng)
    wave = np.concatenate((silence(rng.uniform(0, 0.08)), wave))
    return (at_own_level(wave, rng),), {
        "pitch": PITCHES[row],
        "velocity": velocity,
        "instrument": instrument,
    }


def instrument_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """instrument_classification: the same rule as for note_analysis."""
    column = ordinal % len(INSTRUMENTS)
    able = [p for i, p in enumerate(PITCHES) if is_validation(i, column) == validation]
    pitch, velocity = choose(able, rng), choose(VELOCITIES, rng)
    wave = note(INSTRUMENTS[column], pitch, velocity, rng.uniform(0.5, 0.9), rng)
    wave = np.concatenate((silence(rng.uniform(0, 0.1)), wave))
    return (at_own_level(wave, rng),), {
        "text": INSTRUMENTS[column],
        "pitch": pitch,
        "velocity": velocity,
    }


def higher_note(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """audio_question_answering: two notes of one instrument, at least three steps apart."""
    options = [
        (low, high)
        for low in range(len(PITCHES))
        for high in range(low + 3, len(PITCHES))
        if is_validation_set((low, high)) == validation
    ]
    low, high = choose(options, rng)
    answer = ("first", "second")[ordinal % 2]
    order = (high, low) if answer == "first" else (low, high)
    instrument, velocity = choose(INSTRUMENTS, rng), choose(VELOCITIES[2:], rng)
    notes = [note(instrument, PITCHES[i], velocity, 0.4, rng) for i in order]
    wave = np.concatenate((notes[0], silence(0.1), notes[1]))
    return (at_own_level(wave, rng),), {
        "question": "Which note is higher, the first or the second?",
        "text": answer,
        "pitches": [PITCHES[i] for i in order],
        "instrument": instrument,
    }
