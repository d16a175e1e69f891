"""What a message's content says: text, or parts as transformers, OpenAI and vLLM write them."""

import re
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.conversations.talk import Named, Piece, Place, Tags, refuse_rest
from qwen_audio_jax.tasks.fields import shown

_TYPES = ("text", "audio", "audio_url", "input_audio", "tags")
_NAMES = ("audio", "audio_url", "url", "path")
"""Keys under which a part of audio may name its clip."""


def pieces_of(content: Any, where: str, sign: str = "") -> tuple[Piece, ...]:
    """What a content says, in order.

    Args:
        content: of a message: a string, a list of parts, or one part.
        where: what a sentence calls the message.
        sign: the placeholder in its texts, "<audio>"; "" where texts have none.

    Raises:
        RejectedRecord: a content of another form, or a part that is not read.
    """
    if isinstance(content, str):
        return split(content, sign)
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list):
        raise RejectedRecord(
            f"{where}: its content must be a text or a list of parts, not {shown(content)}"
        )
    pieces: list[Piece] = []
    for number, part in enumerate(parts, start=1):
        here = f"{where}, part {number}"
        if not isinstance(part, dict):
            raise RejectedRecord(f"{here}: must be an object {{type, ...}}, not {shown(part)}")
        pieces += _part(part, here, sign)
    return tuple(pieces)


def split(text: str, sign: str) -> tuple[Piece, ...]:
    """A text, its placeholders taken as such."""
    if not sign:
        return (text,)
    pieces: list[Piece] = []
    for number, words in enumerate(text.split(sign)):
        pieces += [Place()] * (number > 0) + [words] * bool(words)
    return tuple(pieces)


def clip_names(value: Any, field: str) -> tuple[Named, ...]:
    """Clips that a row lists: one name, or several.

    Raises:
        RejectedRecord: anything else.
    """
    names = [] if value is None or value == "" else value if isinstance(value, list) else [value]
    return tuple(Named(_name(name, f"field {field!r}")) for name in names)


def _part(part: dict[str, Any], where: str, sign: str) -> tuple[Piece, ...]:
    # Tables write the keys that other parts have as null.
    part = {key: value for key, value in part.items() if value is not None}
    kind = part.pop("type") if "type" in part else _kind(part)
    if kind not in _TYPES:
        raise RejectedRecord(
            f"{where}: type {kind!r} is not read; parts of type {', '.join(_TYPES)} are"
        )
    if kind in ("text", "tags"):
        text = part.pop("text", None)
        if not isinstance(text, str):
            raise RejectedRecord(f"{where}: 'text' must be a text, not {shown(text)}")
        pieces = (Tags(text),) if kind == "tags" else split(text, sign)
    elif kind == "input_audio":
        pieces = (_input_audio(part.pop("input_audio", None), where),)
    else:
        given = [name for name in _NAMES if name in part]
        if len(given) > 1:
            raise RejectedRecord(f"{where}: names a clip twice ({' and '.join(given)})")
        if not given and kind == "audio_url":
            raise RejectedRecord(f"{where}: 'audio_url' is missing or empty")
        pieces = (Named(_name(part.pop(given[0]), where)) if given else Place(),)
    refuse_rest(part, where)
    return pieces


def _kind(part: dict[str, Any]) -> str | None:
    """The type of a part that names none, as Qwen-Audio's own lists do."""
    return next((kind for kind in _TYPES if kind in part), None)


def _name(value: Any, where: str) -> str:
    """A clip's name, which may stand in an object for itself."""
    if isinstance(value, dict):
        rest = {key: one for key, one in value.items() if one is not None}
        name = rest.pop("url", None) or rest.pop("path", None)
        refuse_rest(rest, where)
    else:
        name = value
    if not isinstance(name, str) or not name.strip():
        raise RejectedRecord(
            f"{where}: a clip must be a path, a data: URI or base64, not {shown(value)}"
        )
    return name


def _input_audio(value: Any, where: str) -> Named:
    """OpenAI's: base64, and a word for its encoding, which the clip says itself."""
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, str) or not data:
        raise RejectedRecord(
            f"{where}: 'input_audio' must be {{data, format}} with the clip in base64 as data"
        )
    refuse_rest({k: v for k, v in value.items() if k not in ("data", "format")}, where)
    return Named(data, is_data=not re.match("data:", data, re.IGNORECASE))
