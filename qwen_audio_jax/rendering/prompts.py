"""Qwen2-Audio's conditioning: audio, then a natural-language prompt, then the answer.

As in the released base model, the prompt stands right after the audio, without a newline and
without ChatML.
"""

import functools
import re
from typing import Any

from qwen_audio_jax.rendering.languages import language_name
from qwen_audio_jax.rendering.spans import Span, fill
from qwen_audio_jax.tasks import KINDS

_LANGUAGE_NAME = re.compile(r"\{((target_)?language)_name(?:_(\w\w))?\}")


def render(
    task: str, annotation: dict[str, Any], wording: int = 0
) -> tuple[list[Span], list[Span]]:
    """Returns (prompt, answer); `wording` chooses among the task's prompts, counted round."""
    row = KINDS[task]
    template = row.prompts[wording % len(row.prompts)]
    named = {field: language_name(annotation[key], into) for field, key, into in _names(template)}
    prompt = [Span(clip=i) for i in range(row.clips)]
    prompt += fill(template, annotation | named, loss=False)
    answer = row.label if row.answer is None else row.answer
    if not isinstance(answer, str):
        answer = answer(annotation)
    return prompt, fill(answer, annotation, loss=True)


@functools.cache
def _names(template: str) -> tuple[tuple[str, str, str], ...]:
    """The language names that a prompt mentions: (its field, the annotation's, in which language).

    `{language_name}` is in English, `{language_name_de}` in German.
    """
    found = _LANGUAGE_NAME.finditer(template)
    return tuple((part[0].strip("{}"), part[1], part[3] or "en") for part in found)
