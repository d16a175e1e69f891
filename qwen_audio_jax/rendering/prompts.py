"""Qwen2-Audio's conditioning: audio, then a natural-language prompt, then the answer.

As in the released base model, the prompt stands right after the audio, without a newline and
without ChatML.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from babel import Locale, UnknownLocaleError

from qwen_audio_jax.config_fields import ConfigError, Example, Items, OneOf, Text
from qwen_audio_jax.rendering.languages import language_name
from qwen_audio_jax.rendering.spans import AUDIO_TAGS, Span, fill
from qwen_audio_jax.tasks import KINDS, TASKS

PROMPT_LANGUAGES = ("en", "zh", "de")
"""In which there are wordings of each task's prompt."""

Templates = Mapping[str, tuple[str, ...]]
"""Task -> the wordings of its prompt; the form of a template is described at `tasks.Task`."""

Wordings = Annotated[
    Mapping[
        Annotated[str, OneOf(tuple(TASKS))],
        Annotated[tuple[Annotated[str, Text(2000)], ...], Items(1, 1000)],
    ],
    Example('{"asr": ("Write it down:",)}'),
]
"""Task -> wordings of a user's own."""

_LANGUAGE_NAME = re.compile(r"\{((target_)?language)_name(?:_(\w\w))?\}")
_FIELD = re.compile(r"\{([^{}]*)\}")
_TAG = re.compile(r"<\|.*?\|>")
_LAST_TAGS = re.compile(r"\s*(<\|[^|]*\|>)+$")


def templates_of(own: Mapping[str, Sequence[str]], language: str = "all") -> Templates:
    """Of every task: a user's own wordings, or else the built-in ones.

    Args:
        own: task -> wordings, checked; tags that end the built-in wordings stand behind them too.
        language: of PROMPT_LANGUAGES, or "all"; takes the built-in wordings of it alone.
    """
    found = {}
    for task, row in KINDS.items():
        tags = _LAST_TAGS.search(row.prompts[0])
        if task in own:
            found[task] = tuple(
                wording.rstrip() + tags[0] if tags else wording for wording in own[task]
            )
        else:
            spoken = zip(row.prompts, row.prompt_languages, strict=True)
            found[task] = tuple(one for one, of in spoken if language in ("all", of) or not of)
    return found


def check_wordings(wordings: Wordings, path: str) -> None:
    """Checks the fields of a user's own wordings.

    Args:
        wordings: by task.
        path: the key that they stand at, as it is typed.

    Raises:
        ConfigError: one of them cannot be used.
    """
    for task, of_task in wordings.items():
        for number, wording in enumerate(of_task):
            try:
                check_wording(task, wording)
            except ValueError as error:
                raise ConfigError(f"{path}.{task}[{number}]: {error}") from error


def check_wording(task: str, wording: str) -> None:
    """Checks a wording of a user's own.

    Raises:
        ValueError: it spells a control token, or has a field that is none of the task's records, or
            lacks one without which nobody knows what is asked.
    """
    row = KINDS[task]
    audio = [tag for tags in AUDIO_TAGS.values() for tag in tags if tag in wording]
    if spelled := [*_TAG.findall(wording), *audio]:
        raise ValueError(
            f"{spelled[0]} is spelled in it, which would be read as text and not as a control "
            "token; leave it out"
        )
    built_in = [set(map(_plain, _FIELD.findall(_TAG.sub("", one)))) for one in row.prompts]
    names = {f"{field}_name" for field in ("language", "target_language") if field in row.fields}
    known, fields = set.union(names, *built_in), _FIELD.findall(wording)
    told = ", ".join(f"{{{name}}}" for name in sorted(known)) or "none"
    for field in fields:
        if _plain(field) not in known or (field != _plain(field) and not _is_locale(field[-2:])):
            raise ValueError(f"{{{field}}} is no field of a prompt of {task}; there is {told}")
    if set("{}") & set(_FIELD.sub("", wording)):
        raise ValueError(f"has a brace that belongs to no field; there is {told}")
    needed = set.intersection(*built_in) - {"language_name"} - set(map(_plain, fields))
    if needed:
        raise ValueError(
            f"lacks {{{min(needed)}}}, without which a record of {task} does not say what is asked"
        )


def render(
    task: str, annotation: dict[str, Any], wording: int = 0, wordings: Sequence[str] = ()
) -> tuple[list[Span], list[Span]]:
    """Returns (prompt, answer).

    Args:
        task: a key of KINDS.
        annotation: of the record.
        wording: chooses among the wordings, counted round.
        wordings: templates of the prompt; the built-in ones if there are none.
    """
    row = KINDS[task]
    wordings = wordings or row.prompts
    template = wordings[wording % len(wordings)]
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


def _plain(field: str) -> str:
    """A field without the language that a language's name is put in."""
    return re.sub(r"^((target_)?language_name)_\w\w$", r"\1", field)


def _is_locale(code: str) -> bool:
    try:
        return bool(Locale.parse(code))
    except (ValueError, UnknownLocaleError):
        return False
