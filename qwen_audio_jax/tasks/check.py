"""What an annotation must hold to be rendered as its task, and to be scored in it."""

import difflib
import functools
from typing import Any

from qwen_audio_jax.tasks.conversation import PREFERENCE, check_pair, check_places
from qwen_audio_jax.tasks.fields import LANGUAGE, AnnotationError, Field, Timeline
from qwen_audio_jax.tasks.near_fields import near
from qwen_audio_jax.tasks.table import KINDS
from qwen_audio_jax.tasks.task import Annotation, Task

LATE = 0.1
"""Seconds that a time may lie past its clip's end, for how it was rounded.

Labels are written with one decimal at the coarsest, which is half of this; the other half is for a
clip whose codec or resampler gives another length than the one that was labelled (an MP3 frame is
26 ms at 44.1 kHz, a frame of aligners and of Whisper 10 to 20 ms).
"""

EVERYWHERE: dict[str, Field] = {"language": LANGUAGE, "target_language": LANGUAGE}
"""Fields that are of their kind wherever a record has them: a vocabulary has a tag for each."""

_GIVEN_OTHERWISE = ("audio", "task", "id")


def check_annotation(
    task: str, annotation: Annotation, clips: int
) -> tuple[Annotation, tuple[str, ...]]:
    """Checks an annotation, whatever JSON it holds.

    Args:
        task: a key of KINDS.
        annotation: the record's.
        clips: how many the record has.

    Returns:
        The annotation as it is to be stored, and a sentence for each thing that was mended in it.

    Raises:
        AnnotationError: it lacks what `task` needs, or has it in no usable form.
    """
    row = _row(task)
    for field in row.fields:
        if not _is_given(annotation.get(field)):
            raise AnnotationError(_missing(task, field, annotation))
    if row.clips is not None and clips != row.clips:
        raise AnnotationError(
            f"field 'audio': {clips} clips given; task {task!r} takes {row.clips}"
        )
    stored, mended = dict(annotation), []
    for field, kind in _kinds(task).items():
        if field in annotation:
            if annotation[field] is None or annotation[field] == "":
                del stored[field]
                mended.append(f"field {field!r}: empty, taken as not given")
                continue
            notes: list[str] = []
            try:
                stored[field] = kind.read(annotation[field], notes)
            except AnnotationError as error:
                raise AnnotationError(f"field {field!r}: {error}") from None
            mended += [f"field {field!r}: {note}" for note in dict.fromkeys(notes)]
        elif field in row.optional and (other := near(field, _others(row, annotation))):
            raise AnnotationError(
                f"field {other!r}: did you mean {field!r}? task {task!r} reads it"
            )
    if row.clips is None:
        try:
            check_places(stored["messages"], clips)
        except AnnotationError as error:
            raise AnnotationError(f"field 'messages': {error}") from None
    if task == PREFERENCE:
        check_pair(stored["chosen"], stored["rejected"])
    return stored, tuple(mended)


def check_times(task: str, annotation: Annotation, seconds: float) -> None:
    """Checks that nothing is said of a time at which its clip has ended.

    Args:
        task: a key of KINDS; those with times have one clip.
        annotation: one that `check_annotation` gave.
        seconds: how long the clip is.

    Raises:
        AnnotationError: a time is later.
    """
    for field, kind in KINDS[task].fields.items():
        if isinstance(kind, Timeline) and (last := kind.last(annotation[field])) > seconds + LATE:
            raise AnnotationError(
                f"field {field!r}: a time of {last:g} s, and the clip lasts {seconds:.2f} s; times "
                "are in seconds from its beginning"
            )


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, str | list) and not value)


@functools.cache
def _kinds(task: str) -> dict[str, Field]:
    return {**EVERYWHERE, **KINDS[task].optional, **KINDS[task].fields}


def _row(task: str) -> Task:
    if task not in KINDS:
        near_tasks = difflib.get_close_matches(task.strip().lower(), KINDS, n=1)
        hint = (
            f"did you mean {near_tasks[0]!r}?"
            if near_tasks
            else f"known tasks: {', '.join(sorted(KINDS))}"
        )
        raise AnnotationError(f"field 'task': unknown task {task[:80]!r}; {hint}")
    return KINDS[task]


def _missing(task: str, field: str, annotation: Annotation) -> str:
    other = near(field, _others(KINDS[task], annotation))
    hint = f"; if {other!r} is it, call it {field!r}" if other else ""
    return f"field {field!r}: missing or empty; task {task!r} needs it{hint}"


def _others(row: Task, annotation: Annotation) -> list[str]:
    """Names of fields that mean nothing to the task."""
    known = {*row.fields, *row.optional, *EVERYWHERE, *_GIVEN_OTHERWISE}
    return [name for name in annotation if name not in known]
