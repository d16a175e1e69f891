"""From what a source says of a clip to the annotation that is stored."""

from typing import Any

from qwen_audio_jax.rendering.language_codes import language_code
from qwen_audio_jax.tasks import AnnotationError, check_annotation
from qwen_audio_jax.tasks.check import EVERYWHERE
from qwen_audio_jax.tasks.fields import without_stray


def stored_annotation(
    task: str, annotation: dict[str, Any], clips: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The annotation as it is stored, and a sentence for each thing that was mended in it.

    Args:
        task: a key of `qwen_audio_jax.tasks.KINDS`.
        annotation: JSON of any form.
        clips: how many the record has.

    Raises:
        AnnotationError: it does not fit the task, or names no language, or more than one.
    """
    codes, notes = {}, []
    for field in EVERYWHERE:
        given = annotation.get(field)
        if not isinstance(given, str) or not given:
            continue
        try:
            codes[field] = language_code(without_stray(given))
        except ValueError as error:
            raise AnnotationError(f"field {field!r}: {error}") from None
        if codes[field] != given:
            notes.append(f"field {field!r}: {given!r} read as {codes[field]!r}")
    stored, mended = check_annotation(task, {**annotation, **codes}, clips)
    return stored, (*notes, *mended)
