"""What an annotation must hold to be rendered as its task."""

import difflib
from typing import Any

from qwen_audio_jax.tasks.table import KINDS
from qwen_audio_jax.tasks.task import Annotation

MAX_SECONDS = 3600
"""No time can be later; nor is any clip longer, see `audio.decode`."""


class AnnotationError(ValueError):
    """A record whose annotation does not fit its task. The message names field and fix."""


def check_annotation(task: str, annotation: Annotation, clips: int) -> None:
    """Raises AnnotationError unless the annotation has what `task` needs, in usable form."""
    if task not in KINDS:
        near = difflib.get_close_matches(str(task), KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(sorted(KINDS))}"
        raise AnnotationError(f"field 'task': unknown task {task!r}; {hint}")
    row = KINDS[task]
    for field in row.fields:
        if annotation.get(field) in (None, "", []):
            raise AnnotationError(f"field {field!r}: missing or empty; task {task!r} needs it")
    if clips != row.clips:
        raise AnnotationError(
            f"field 'audio': {clips} clips given; task {task!r} takes {row.clips}"
        )
    for field in (*row.fields, *row.optional):
        if annotation.get(field) not in (None, "", []):
            _CHECKS.get(field, _anything)(field, annotation[field])


def _anything(field: str, value: Any) -> None:
    del field, value


def _midi_number(field: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= 127:
        raise AnnotationError(f"field {field!r}: must be a MIDI number from 0 to 127")


def _one_word(field: str, value: Any) -> None:
    # Where an answer lists such fields, commas and tags part them.
    if not isinstance(value, str) or set(value) & set(',<"'):
        raise AnnotationError(f'field {field!r}: must be text without comma, < and "')


def _words(field: str, value: Any) -> None:
    if not isinstance(value, list):
        raise AnnotationError(f"field {field!r}: must be a list of texts")
    for word in value:
        _one_word(field, word)


def _utterances(field: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(x, str) and x.strip() for x in value):
        raise AnnotationError(f"field {field!r}: must be a list of what each speaker says")
    if not 2 <= len(value) <= 6:
        raise AnnotationError(f"field {field!r}: must have 2 to 6 utterances, not {len(value)}")


def _entities(field: str, value: Any) -> None:
    need = f"field {field!r}: must be a list of {{'type': text, 'value': text}}"
    if not isinstance(value, list):
        raise AnnotationError(need)
    for entity in value:
        if not isinstance(entity, dict) or not {"type", "value"} <= entity.keys():
            raise AnnotationError(need)
        if not isinstance(entity["value"], str) or not entity["value"].strip():
            raise AnnotationError(need)
        _one_word(field, entity["type"])


def _timeline(key: str, *, one_after_another: bool = False):
    """The check of a list of units with times.

    Args:
        key: what each has beside its times; "" for nothing.
        one_after_another: whether a unit may begin only where the one before it ends.
    """

    def check(field: str, units: Any) -> None:
        form = f"{key!r}: text, " if key else ""
        need = f"field {field!r}: must be a list of {{{form}'start': s, 'end': s}}"
        if not isinstance(units, list):
            raise AnnotationError(need)
        clock = 0.0
        for number, unit in enumerate(units, start=1):
            if not isinstance(unit, dict) or not {"start", "end", *([key] * bool(key))} <= set(
                unit
            ):
                raise AnnotationError(need)
            name = repr(unit[key]) if key else f"number {number}"
            if not all(type(unit[edge]) in (int, float) for edge in ("start", "end")):
                raise AnnotationError(
                    f"field {field!r}: start and end of {name} must be numbers, in seconds"
                )
            if not 0 <= unit["start"] <= unit["end"] <= MAX_SECONDS:
                raise AnnotationError(
                    f"field {field!r}: times of {name} must rise within 0..{MAX_SECONDS:g} s"
                )
            if unit["start"] < clock - 0.005:
                raise AnnotationError(f"field {field!r}: {name} begins before its predecessor")
            clock = unit["end"] if one_after_another else unit["start"]

    return check


_CHECKS = {
    "pitch": _midi_number,
    "velocity": _midi_number,
    "scenario": _one_word,
    "action": _one_word,
    "qualities": _words,
    "texts": _utterances,
    "entities": _entities,
    "words": _timeline("word", one_after_another=True),
    "events": _timeline("event"),
    "turns": _timeline("speaker"),
    "segments": _timeline("", one_after_another=True),
}
