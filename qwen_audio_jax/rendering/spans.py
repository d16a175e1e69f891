"""Spans: the pieces a record is rendered into, and the templates that produce them.

Control tokens and text are kept apart from here to the token ids: a tag is looked up by name, text
is tokenised as text, so nothing a corpus or a user wrote can turn into a control token.
"""

import dataclasses
import functools
import json
import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.audio.lengths import WINDOW_SAMPLES, windows

AUDIO_TAGS = {
    "qwen_audio": ("<audio>", "[[[AUDIO:modality]]]", "</audio>"),
    "qwen2_audio": ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"),
}
"""Per family: the token before a clip, the placeholder of one audio token, the token after it."""

_PART = re.compile(r"(?P<tag><\|.*?\|>)|\{(?P<field>[^}]*)\}|(?P<text>[^<{]+|[<{])")
_FORMATTER = string.Formatter()
_LANGUAGE_TAG = re.compile(r"<\|\{(target_)?language\}\|>")


@dataclasses.dataclass(frozen=True)
class Span:
    """One piece of a rendered record: a tag, plain text, or a clip.

    Attributes:
        tag: the control token's surface form, or "".
        text: plain text, or "".
        clip: which of the record's clips stands here, or -1.
        language: whether the tag is a language's; a vocabulary that lacks it says `<|unknown|>`.
        loss: whether the model learns to write it.
    """

    tag: str = ""
    text: str = ""
    clip: int = -1
    language: bool = False
    loss: bool = False


def fill(template: str, annotation: dict[str, Any], *, loss: bool) -> list[Span]:
    """Fills a template of `qwen_audio_jax.tasks` from an annotation.

    A language that the annotation does not tell is `unknown`. The template's form is described at
    `qwen_audio_jax.tasks.Task`.
    """
    fields = {"language": "unknown", "target_language": "unknown"} | annotation
    spans = []
    for part in _parts(template, loss):
        if isinstance(part, Span):
            spans.append(part)
        elif part.tag:
            tag = _FORMATTER.vformat(part.tag, (), fields)
            spans.append(Span(tag=tag, language=part.language, loss=loss))
        else:
            value = (
                fields[part.name]
                if part.name in fields
                else _FORMATTER.get_field(part.name, (), fields)[0]
            )
            text = json.dumps(value, ensure_ascii=False) if part.form == "json" else str(value)
            spans.append(Span(text=text, loss=loss))
    return join_text(spans)


@dataclasses.dataclass(frozen=True)
class _Open:
    """A part of a template that the annotation fills: a tag with a field in it, or a field."""

    tag: str = ""
    language: bool = False
    name: str = ""
    form: str = ""


@functools.lru_cache(maxsize=1024)
def _parts(template: str, loss: bool) -> tuple[Span | _Open, ...]:
    parts: list[Span | _Open] = []
    for part in _PART.finditer(template):
        if tag := part["tag"]:
            is_language = _LANGUAGE_TAG.fullmatch(tag) is not None
            parts.append(_Open(tag, is_language) if "{" in tag else Span(tag=tag, loss=loss))
        elif part["field"]:
            name, _, form = part["field"].partition("!")
            parts.append(_Open(name=name, form=form))
        else:
            parts.append(Span(text=part["text"], loss=loss))
    return tuple(parts)


def join_text(spans: list[Span]) -> list[Span]:
    """Joins neighbouring text, so that it is tokenised as the one string that it is.

    Empty spans are left out.
    """
    joined: list[Span] = []
    for span in spans:
        if joined and span.text and joined[-1].text and span.loss == joined[-1].loss:
            joined[-1] = Span(text=joined[-1].text + span.text, loss=span.loss)
        elif span.text or span.tag or span.clip >= 0:
            joined.append(span)
    return joined


def in_windows(spans: Sequence[Span], samples: Sequence[int]) -> list[Span]:
    """The spans with the place of a clip turned into one place for each of its windows."""
    if all(n <= WINDOW_SAMPLES for n in samples):
        return list(spans)
    counts = [len(windows(n)) for n in samples]
    first = np.cumsum([0, *counts]).tolist()
    places: list[Span] = []
    for span in spans:
        if span.clip >= 0:
            places += [Span(clip=i) for i in range(first[span.clip], first[span.clip + 1])]
        else:
            places.append(span)
    return places
