"""Qwen2-Audio's conditioning: audio, then a natural-language prompt, then the answer.

As in the released base model, the prompt stands right after the audio, without a newline and
without ChatML.
"""

from typing import Any

from qwen_audio_jax.rendering.languages import language_name
from qwen_audio_jax.rendering.spans import Span, fill
from qwen_audio_jax.tasks import TASKS


def render(
    task: str, annotation: dict[str, Any], wording: int = 0
) -> tuple[list[Span], list[Span]]:
    """Returns (prompt, answer); `wording` chooses among the task's prompts, counted round."""
    row = TASKS[task]
    fields = annotation | {
        f"{key}_name": language_name(annotation[key])
        for key in ("language", "target_language")
        if key in annotation
    }
    prompt = [Span(clip=i) for i in range(row.clips)]
    prompt += fill(row.prompts[wording % len(row.prompts)], fields, loss=False)
    answer = row.label if row.answer is None else row.answer
    if not isinstance(answer, str):
        answer = answer(annotation)
    return prompt, fill(answer, fields, loss=True)
