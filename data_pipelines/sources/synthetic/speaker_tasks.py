"""Further speech tasks of the synthetic corpus: dialects, moods, ages, several speakers."""

import functools
import itertools
from typing import Any

import numpy as np
import soxr

from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.phrases import spoken as _spoken
from data_pipelines.sources.synthetic.phrases import written
from data_pipelines.sources.synthetic.sounds import place
from data_pipelines.sources.synthetic.speech import SAMPLE_RATE, speak
from data_pipelines.sources.synthetic.speech_tasks import (
    CODES,
    FEMALE,
    VOICES,
    Made,
    say,
    sentence,
    speaker,
    unheard_voices,
)
from data_pipelines.sources.synthetic.split import choose, is_validation_set

# eSpeak NG's New York City is missing: it says every fifth sentence as its American does.
DIALECTS = {
    "American": "en-US",
    "Received Pronunciation": "en-GB-x-rp",
    "Scottish": "en-GB-scotland",
    "Lancashire": "en-GB-x-gbclan",
    "West Midlands": "en-GB-x-gbcwmd",
    "Caribbean": "en-029",
}

# Lowest and highest pitch, words per minute and pitch span, and how hard the voice is driven: what
# Murray & Arnott (1993) report of each, which is all that a synthesiser has of a mood.
EMOTIONS = {
    "neutral": ((45, 55), (160, 180), (45, 55), 0.0),
    "joy": ((75, 90), (190, 215), (85, 99), 0.0),
    "sadness": ((15, 30), (110, 130), (5, 20), 0.0),
    "anger": ((55, 70), (200, 225), (80, 99), 6.0),
}

AGES = ("child", "adult", "senior")
_SENIORS = ("grandma", "grandpa")
_SMALLER = (1.2, 1.3)  # a child's vocal tract, and with it every formant


def _padded(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate((silence(rng.uniform(0.02, 0.12)), wave, silence(0.05)))


def _in_dialect(validation: bool, ordinal: int, rng: np.random.Generator) -> tuple[bytes, dict]:
    row = ordinal % len(DIALECTS)
    name, meaning = tuple(DIALECTS)[row], sentence(validation, rng)
    by = speaker(rng, unheard_voices(validation, row, VOICES))
    said = say(_spoken("en", *meaning), DIALECTS[name], by)
    told = {"language": "en", "transcript": written("en", *meaning), "dialect": name}
    return clip(_padded(said.samples, rng), rng), {**told, **by.labels()}


def dialect_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """dialect_identification: validation has unseen sentences by voices new to the dialect."""
    audio, told = _in_dialect(validation, ordinal, rng)
    return (audio,), {**told, "text": told["dialect"]}


def dialect_transcribed(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """dialect_speech_recognition: the words are those of standard English."""
    audio, told = _in_dialect(validation, ordinal, rng)
    return (audio,), {**told, "text": told["transcript"]}


def emotion_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """emotion_recognition: validation has unseen sentences by voices new to the emotion."""
    row = ordinal % len(EMOTIONS)
    name, meaning = tuple(EMOTIONS)[row], sentence(validation, rng)
    *bounds, drive = EMOTIONS[name]
    pitch, rate, span = (int(rng.integers(low, high + 1)) for low, high in bounds)
    voice = choose(unheard_voices(validation, row, VOICES), rng)
    wave = speak(_spoken("en", *meaning), "en", voice, pitch, rate, span).samples
    if drive:  # a raised voice is flatter in spectrum, as one that is driven into saturation
        wave = np.tanh(drive * wave)
    return (clip(_padded(wave, rng), rng),), {
        "text": name,
        "language": "en",
        "transcript": written("en", *meaning),
        "voice": voice,
        "voice_pitch": pitch,
        "words_per_minute": rate,
    }


def age_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """speaker_age: a child is an adult voice with a smaller vocal tract; validation has unseen
    sentences, of children and adults by voices new to the age.
    """
    row, meaning = ordinal % len(AGES), sentence(validation, rng)
    age, language = AGES[row], CODES[ordinal // len(AGES) % len(CODES)]
    by = speaker(rng, unheard_voices(validation, row, FEMALE if age == "child" else VOICES))
    voice = choose(_SENIORS, rng) if age == "senior" else by.voice
    slower = {"child": 0.8, "adult": 1.0, "senior": 0.8}[age]
    wave = speak(_spoken(language, *meaning), language, voice, by.pitch, int(slower * by.rate))
    wave = wave.samples
    if age == "child":
        wave = soxr.resample(wave, SAMPLE_RATE * rng.uniform(*_SMALLER), SAMPLE_RATE)
    return (clip(_padded(wave, rng), rng),), {
        "text": age,
        "language": language,
        "transcript": written(language, *meaning),
        "voice": voice,
    }


@functools.cache
def rows_of_voices(validation: bool, number: int) -> list[tuple[str, ...]]:
    """All rows of voices, of both sexes in turn, whose neighbours are pairs of this split alone."""

    def fits(one: str, other: str) -> bool:
        pair = VOICES.index(one), VOICES.index(other)
        return (one in FEMALE) != (other in FEMALE) and is_validation_set(pair) == validation

    return [
        voices
        for voices in itertools.permutations(VOICES, number)
        if all(fits(*pair) for pair in itertools.pairwise(voices))
    ]


def overlapped(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """overlapped_speech_recognition: a woman and a man, the second before the first has ended."""
    language = CODES[ordinal % len(CODES)]
    first, second = sentence(validation, rng), sentence(validation, rng)
    voices = choose(rows_of_voices(validation, 2), rng)
    one, two = (
        say(_spoken(language, *meaning), language, speaker(rng, (voice,))).samples
        for meaning, voice in zip((first, second), voices, strict=True)
    )
    late = rng.uniform(0.25, 0.7) * len(one) / SAMPLE_RATE
    size = max(len(one), int(late * SAMPLE_RATE) + len(two))
    wave = place(size, [(0, one), (late, two * rng.uniform(0.6, 1.2))])
    return (clip(_padded(wave, rng), rng),), {
        "texts": [written(language, *first), written(language, *second)],
        "language": language,
        "voices": list(voices),
    }


def diarized(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """speaker_diarization: two or three turns of two speakers, or three of three; times to 0.01 s.

    Every third pair of turns overlaps.
    """
    order = ((0, 1), (0, 1, 0), (0, 1, 2))[ordinal % 3]
    language = CODES[ordinal // 3 % len(CODES)]
    by = [
        speaker(rng, (voice,)) for voice in choose(rows_of_voices(validation, max(order) + 1), rng)
    ]
    at, turns, pieces = round(rng.uniform(0.02, 0.12), 2), [], []
    for person in order:
        said: Any = say(_spoken(language, *sentence(validation, rng)), language, by[person])
        end = round(at + len(said.samples) / SAMPLE_RATE, 2)
        turns.append({"speaker": "ABC"[person], "start": at, "end": end})
        pieces.append((at, said.samples))
        gap = rng.uniform(-0.35, -0.15) if rng.random() < 1 / 3 else rng.uniform(0.1, 0.3)
        at = round(end + gap, 2)
    size = int((max(turn["end"] for turn in turns) + 0.05) * SAMPLE_RATE)
    return (clip(place(size, pieces), rng),), {
        "turns": turns,
        "language": language,
        "voices": [one.voice for one in by],
    }
