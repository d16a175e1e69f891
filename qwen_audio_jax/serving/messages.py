"""OpenAI's messages as those of `rendering/chat.py`. A text is a text, whatever it spells."""

from typing import Any

from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.serving import clips
from qwen_audio_jax.serving.arguments import Arguments, as_text, shown
from qwen_audio_jax.serving.clips import FORMATS, Encoded
from qwen_audio_jax.serving.errors import wrong
from qwen_audio_jax.serving.limits import MOST_CLIPS, MOST_MESSAGES

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_ANSWERS_FIELDS = {
    "refusal": (),
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "tool_calls": ([],),
}
"""What clients send back of an answer, empty."""


def read_messages(value: Any) -> tuple[list[Message], list[Encoded]]:
    """The conversation, and its clips in order.

    Args:
        value: `messages` of a request.

    Raises:
        ApiError: they are no conversation that can be answered; it names message and part.
    """
    if not isinstance(value, list) or not value:
        raise wrong("messages", f"must be a list of one message at least, not {shown(value)}")
    if len(value) > MOST_MESSAGES:
        raise wrong("messages", f"has {len(value):,} messages, and {MOST_MESSAGES:,} are the most")
    messages: list[Message] = []
    heard: list[Encoded] = []
    for number, one in enumerate(value):
        message = _message(Arguments(one, f"messages[{number}]"), number, heard)
        messages.append(message)
    if messages[-1]["role"] != "user":
        raise wrong(
            f"messages[{len(messages) - 1}].role",
            f"the last message is the {messages[-1]['role']}'s; the model answers a user's",
        )
    if len(heard) > MOST_CLIPS:
        raise wrong("messages", f"has {len(heard)} clips, and {MOST_CLIPS} are the most")
    return messages, heard


def _message(fields: Arguments, number: int, heard: list[Encoded]) -> Message:
    """One of them; its clips go into `heard`."""
    said = fields.choice("role", "", _ROLES)
    role = _ROLES[said]
    if role == "system" and number:
        raise wrong(fields.path("role"), f"the {said}'s message stands first, or there is none")
    where = fields.path("content")
    content = fields.need("content", "a text or a list of parts")
    if role == "assistant":
        fields.refuse(_ANSWERS_FIELDS)
    fields.finish()
    if isinstance(content, str):
        parts = [{"type": "text", "text": as_text(content, where)}]
    elif isinstance(content, list) and content:
        parts = [
            _part(Arguments(part, f"{where}[{n}]"), role, heard) for n, part in enumerate(content)
        ]
    else:
        raise wrong(where, f"must be a text or a list of parts, not {shown(content)}")
    if role == "user" and not any(p["type"] == "audio" or p["text"].strip() for p in parts):
        raise wrong(where, "has nothing in it that can be read or heard")
    return {"role": role, "content": parts}


def _part(fields: Arguments, role: str, heard: list[Encoded]) -> dict[str, str]:
    kind = fields.choice("type", "", ("text", "input_audio", "audio_url"))
    if kind == "text":
        part = {"type": "text", "text": as_text(fields.need("text", "a text"), fields.path("text"))}
    elif role != "user":
        raise wrong(fields.path("type"), f"only a user's message has audio, not the {role}'s")
    else:
        inner = Arguments(fields.need(kind, "an object"), fields.path(kind))
        if kind == "input_audio":
            data = inner.need("data", "the file in base64")
            where = inner.path("data")
            clip = clips.from_base64(
                as_text(data, where), where, inner.choice("format", "", FORMATS)
            )
        else:
            where = inner.path("url")
            url = inner.need("url", "a data: URL")
            clip = clips.from_data_url(as_text(url, where), where)
        inner.finish()
        heard.append(clip)
        part = {"type": "audio"}
    fields.finish()
    return part
