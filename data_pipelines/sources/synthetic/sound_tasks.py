"""The sound tasks of the synthetic corpus: events, mixtures of events, scenes and questions."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.music_tasks import higher_note
from data_pipelines.sources.synthetic.scenes import SCENES, scene
from data_pipelines.sources.synthetic.sounds import (
    EVENTS,
    SAMPLE_RATE,
    SUSTAINED,
    event,
    place,
    struck,
)
from data_pipelines.sources.synthetic.split import choose, is_validation_set, size

Made = tuple[tuple[bytes, ...], dict[str, Any]]
Timed = list[tuple[str, float, np.ndarray]]

NAMES = tuple(EVENTS)
COUNTS = ("one", "two", "three", "four")

# How a sound is told, and how it is asked for.
_CLAUSES = {
    "siren": "a siren wails",
    "bell": "a bell rings",
    "rain": "rain falls",
    "engine": "an engine runs",
    "knock": "someone knocks",
    "bird": "a bird sings",
    "alarm": "an alarm beeps",
    "thunder": "thunder rolls",
    "dog": "a dog barks",
    "clock": "a clock ticks",
    "wind": "wind blows",
    "whistle": "someone whistles",
}
PLURALS = {"knock": "knocks", "dog": "barks", "alarm": "beeps"}
_WITHOUT_ARTICLE = ("rain", "thunder", "wind")


def named(name: str) -> str:
    if name in _WITHOUT_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def mixture(
    validation: bool, members: int, rng: np.random.Generator, among: tuple[str, ...] = NAMES
) -> list[str]:
    """Names of a set of sounds that only this split has, in drawn order, first one of `among`."""
    first = choose(among, rng)
    options = [
        others
        for others in itertools.combinations(NAMES, members - 1)
        if first not in others
        and is_validation_set(NAMES.index(n) for n in (first, *others)) == validation
    ]
    return [first, *rng.permutation(choose(options, rng)).tolist()]


def one_after_another(names: Sequence[str], validation: bool, rng: np.random.Generator) -> Timed:
    """Each name with its onset in seconds and its sound, at levels within 6 dB."""
    timed, at = [], rng.uniform(0.05, 0.25)
    for name in names:
        wave = event(name, size(validation, rng), rng.uniform(0.4, 0.75), rng)
        at = round(at, 2)
        timed.append((name, at, wave * rng.uniform(0.5, 1)))
        at += wave.size / SAMPLE_RATE + rng.uniform(0.06, 0.25)
    return timed


def mixed(timed: Timed) -> np.ndarray:
    last = max(int(at * SAMPLE_RATE) + wave.size for _, at, wave in timed)
    return place(last + int(0.05 * SAMPLE_RATE), [(at, wave) for _, at, wave in timed])


def event_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """sound_event_classification: validation has unseen sizes of every sound."""
    name, u = NAMES[ordinal % len(NAMES)], size(validation, rng)
    wave = event(name, u, rng.uniform(0.6, 1.1), rng)
    wave = np.concatenate((silence(rng.uniform(0, 0.1)), wave, silence(rng.uniform(0, 0.1))))
    return (clip(wave, rng),), {"text": name, "size": round(u, 3)}


def events_detected(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """sound_event_detection: one to three sounds, times to 0.01 s; a third of the pairs overlap.

    One sound alone is no mixture that could be held out, so validation has two or three.
    """
    members = (2, 3, 2)[ordinal % 3] if validation else (1, 2, 3, 2)[ordinal % 4]
    timed = one_after_another(mixture(validation, members, rng), validation, rng)
    if members == 2 and ordinal // 4 % 3 == 0:
        (first, at, wave), (second, _, other) = timed
        timed = [(first, at, wave), (second, round(at + rng.uniform(0.1, 0.3), 2), other)]
    events = [
        {"event": name, "start": at, "end": round(at + wave.size / SAMPLE_RATE, 2)}
        for name, at, wave in timed
    ]
    return (clip(mixed(timed), rng),), {"events": events}


def grounded(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """audio_grounding: when one sound is heard, once or twice, with another before or between."""
    asked, other = mixture(validation, 2, rng, (NAMES[ordinal % len(NAMES)],))
    order = ((asked, other), (other, asked), (asked, other, asked))[ordinal // len(NAMES) % 3]
    timed = one_after_another(order, validation, rng)
    segments = [
        {"start": at, "end": round(at + wave.size / SAMPLE_RATE, 2)}
        for name, at, wave in timed
        if name == asked
    ]
    return (clip(mixed(timed), rng),), {
        "phrase": _CLAUSES[asked],
        "segments": segments,
        "sounds": [asked, other],
    }


def captioned(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """audio_captioning: one sound after another, or one while a sustained one goes on."""
    if ordinal % 2 == 0:
        names = mixture(validation, 2, rng)
        timed = one_after_another(names, validation, rng)
        text = f"{_CLAUSES[names[0]]}, then {_CLAUSES[names[1]]}"
    else:
        behind, front = SUSTAINED[0], SUSTAINED[0]
        while front in SUSTAINED:
            behind, front = mixture(validation, 2, rng, SUSTAINED)
        seconds = rng.uniform(1.3, 1.8)
        back = 0.35 * event(behind, size(validation, rng), seconds, rng)
        sound = event(front, size(validation, rng), rng.uniform(0.5, 0.8), rng)
        at = rng.uniform(0.2, seconds - 0.2 - sound.size / SAMPLE_RATE)
        timed = [(behind, 0.0, back), (front, at, sound)]
        names = [front, behind]
        text = f"{_CLAUSES[front]} while {_CLAUSES[behind]}"
    return (clip(mixed(timed), rng),), {"text": text, "sounds": names}


def scene_named(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """acoustic_scene_classification: validation has pairs of sounds unheard in that scene."""
    row = ordinal % len(SCENES)
    name = tuple(SCENES)[row]
    unheard = row % 3
    missing = unheard if validation else choose([i for i in range(3) if i != unheard], rng)
    wave, sounds = scene(name, missing, size(validation, rng), rng.uniform(1.4, 2.0), rng)
    return (clip(wave, rng),), {"text": name, "sounds": list(sounds)}


def _how_many(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    count = ordinal % len(COUNTS) + 1
    name = tuple(PLURALS)[ordinal // len(COUNTS) % len(PLURALS)]
    wave = struck(name, count, size(validation, rng), rng)
    wave = np.concatenate((silence(rng.uniform(0.03, 0.15)), wave, silence(0.05)))
    question = f"How many {PLURALS[name]} are heard?"
    return (clip(wave, rng),), {"question": question, "text": COUNTS[count - 1]}


def _is_heard(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    names = mixture(validation, 2, rng)
    there = ordinal % 2 == 0
    asked = choose(names if there else [n for n in NAMES if n not in names], rng)
    wave = mixed(one_after_another(names, validation, rng))
    return (clip(wave, rng),), {
        "question": f"Is {named(asked)} heard?",
        "text": "yes" if there else "no",
        "sounds": names,
    }


def _comes_first(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    names = mixture(validation, 2, rng, (NAMES[ordinal % len(NAMES)],))
    wave = mixed(one_after_another(names, validation, rng))
    return (clip(wave, rng),), {
        "question": "Which sound comes first?",
        "text": names[0],
        "sounds": names,
    }


_QUESTIONS = (_how_many, _is_heard, _comes_first, higher_note)


def asked(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """audio_question_answering: four kinds of question in turn, each with balanced answers."""
    kind = _QUESTIONS[ordinal % len(_QUESTIONS)]
    return kind(validation, ordinal // len(_QUESTIONS), rng)
