"""Speech understanding in the synthetic corpus: commands with slots, sentences with names."""

import string
from typing import Any

import numpy as np

from data_pipelines.sources.synthetic.speech_tasks import Made, recorded, say, speaker
from data_pipelines.sources.synthetic.split import is_validation_set

VALUES = {
    "time": ("one", "two", "three", "four", "six", "seven", "nine", "ten"),
    "day": ("today", "tomorrow", "monday", "tuesday", "friday", "sunday"),
    "city": ("berlin", "london", "paris", "rome", "madrid", "tokyo", "oslo", "vienna"),
    "person": ("anna", "peter", "maria", "david", "julia", "thomas", "laura", "martin"),
    "room": ("kitchen", "bedroom", "garage", "office", "hall", "garden"),
    "genre": ("jazz", "rock", "folk", "opera", "blues", "techno"),
}
"""What a slot of each type can hold, in the order that the split goes by."""

# (scenario, action): what is said.
COMMANDS = {
    ("alarm", "set"): "wake me at {time} {day}",
    ("alarm", "remove"): "cancel the alarm at {time} {day}",
    ("music", "play"): "play some {genre} in the {room}",
    ("music", "stop"): "stop the {genre} in the {room}",
    ("lights", "on"): "turn on the lights in the {room} at {time}",
    ("lights", "off"): "turn off the lights in the {room} at {time}",
    ("weather", "query"): "what is the weather in {city} {day}",
    ("call", "make"): "call {person} at {time}",
    ("message", "send"): "send a message to {person} in {city}",
    ("ticket", "book"): "book a ticket to {city} for {person}",
}

_STATEMENTS = (
    "{person} lives in {city}",
    "{person} comes back from {city}",
    "the train to {city} leaves {day}",
    "{person} has a birthday {day}",
    "{city} is larger than it was",
    "{day} we visit {person}",
)


def _spoken(
    template: str, validation: bool, rng: np.random.Generator
) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """The template with drawn values; two values in one sentence are a pair of this split."""
    types = [field for _, field, _, _ in string.Formatter().parse(template) if field]
    while True:
        chosen = [int(rng.integers(len(VALUES[kind]))) for kind in types]
        first, *others = chosen
        # One alone is no pair: it counts as one with the length of the sentence.
        pair = (first, 10 + (others[0] if others else len(template)))
        if is_validation_set(pair) == validation:
            break
    values = {kind: VALUES[kind][i] for kind, i in zip(types, chosen, strict=True)}
    text, by = template.format(**values), speaker(rng)
    audio, _ = recorded(say(text, "en", by), rng)
    entities = [{"type": kind, "value": value} for kind, value in values.items()]
    return (audio,), {
        "transcript": text,
        "entities": entities,
        "language": "en",
        **by.labels(),
    }


def commanded(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """intent_classification and slot_filling: validation has pairs of values new to commands."""
    scenario, action = tuple(COMMANDS)[ordinal % len(COMMANDS)]
    audio, told = _spoken(COMMANDS[scenario, action], validation, rng)
    return audio, {**told, "scenario": scenario, "action": action}


def entities_recognised(validation: bool, ordinal: int, rng: np.random.Generator) -> Made:
    """entity_recognition: persons, cities and days, one or two a sentence."""
    return _spoken(_STATEMENTS[ordinal % len(_STATEMENTS)], validation, rng)
