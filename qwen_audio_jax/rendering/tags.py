"""Qwen-Audio's conditioning: audio, then hierarchical tags, then the label."""

from typing import Any

from qwen_audio_jax.rendering.spans import Span, fill
from qwen_audio_jax.tasks import KINDS


def render(task: str, annotation: dict[str, Any]) -> tuple[list[Span], list[Span]]:
    """Returns (prompt, label); the loss lies on the label alone (docs/decisions.md)."""
    row = KINDS[task]
    prompt = [Span(clip=i) for i in range(row.clips)] + fill(row.tags, annotation, loss=False)
    label = row.label if isinstance(row.label, str) else row.label(annotation)
    return prompt, fill(label, annotation, loss=True)
