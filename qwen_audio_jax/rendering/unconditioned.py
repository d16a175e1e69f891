"""No conditioning: audio, then the label. What tags and prompts are measured against."""

from typing import Any

from qwen_audio_jax.rendering.spans import Span
from qwen_audio_jax.rendering.tags import render as render_tags
from qwen_audio_jax.tasks import KINDS

_ASKED = ("question", "phrase")
"""Fields without which there is nothing to answer: part of the input, whatever the conditioning."""


def render(task: str, annotation: dict[str, Any]) -> tuple[list[Span], list[Span]]:
    """Returns (prompt, label): the clips and what is asked of them, and the label after tags."""
    row = KINDS[task]
    prompt = [Span(clip=i) for i in range(row.clips)]
    prompt += [Span(text=str(annotation[field])) for field in _ASKED if field in row.fields]
    return prompt, render_tags(task, annotation)[1]
