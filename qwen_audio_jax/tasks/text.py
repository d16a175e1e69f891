"""Text without audio: mixed in so that a language model keeps its language."""

from qwen_audio_jax.tasks import fields, parse
from qwen_audio_jax.tasks.task import Task

TEXT: dict[str, Task] = {
    "text": Task(
        group="text",
        fields={"text": fields.PASSAGE},
        example={"text": "The tide comes in twice a day."},
        tags="",
        label="{text}",
        prompts=("",),
        prompt_languages=("",),
        metric="",
        parse=parse.text,
        clips=0,
    ),
}
