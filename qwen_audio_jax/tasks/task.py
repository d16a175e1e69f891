"""What a row of the task table says."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from qwen_audio_jax.tasks.fields import Field

Annotation = dict[str, Any]

CONDITIONINGS = ("tags", "prompts", "none")
"""How a record can be put to the model; "none" tells it nothing of the task."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    Templates: `<|...|>` is one control token, `{field}` is a field of the annotation. A field
    inside a tag picks the tag (`<|{language}|>`); anywhere else it is plain text, so whatever it
    holds can never become a control token. `{field!json}` is the field as a JSON string, quotes
    and all: for answers that list several texts.

    Attributes:
        group: "speech", "sound", "music", "text" or "conversation".
        fields: annotation fields that every record of the task must have, and the kind of each.
        optional: further ones that tags or label tell where a record has them.
        example: an annotation, for docs/tasks.md.
        tags: Qwen-Audio's hierarchical tags, written after the audio.
        label: what the model learns to write after the tags, before `<|endoftext|>`; a template, or
            a function from the annotation to one (for labels that are lists).
        prompts: Qwen2-Audio's natural-language prompts, in several wordings and languages;
            evaluation uses the first. `{language_name}` is a language's name in English,
            `{language_name_zh}` in Chinese.
        prompt_languages: the language of each of them; "" of one that is in none.
        answer: what the model learns to write after a prompt; None means the same as `label`.
        metric: the key of `qwen_audio_jax.metrics.METRICS` that scores it; "" for
            text without audio, which is not evaluated.
        parse: the annotation's fields that an answer says, in either conditioning: the way back
            from `label` and `answer`. What cannot be read is left out.
        clips: how many clips a record has; None of any number.
        survives: which changes of the waveform leave its label true, see `audio/wave_augment.py`.
        original: whether the released Qwen-Audio evaluation scripts fix the tags.
    """

    group: str
    fields: Mapping[str, Field]
    example: Annotation
    tags: str
    label: str | Callable[[Annotation], str]
    prompts: tuple[str, ...]
    metric: str
    parse: Callable[[str], Annotation]
    answer: str | Callable[[Annotation], str] | None = None
    optional: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    prompt_languages: tuple[str, ...] = ("en", "en", "zh", "de")
    clips: int | None = 1
    survives: tuple[str, ...] = ("noise", "gain")
    original: bool = False
