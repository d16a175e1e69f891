"""Conversations: what a record of one must hold, which no template can say."""

import dataclasses
import unicodedata
from typing import Any

from qwen_audio_jax.tasks import fields, parse
from qwen_audio_jax.tasks.fields import AnnotationError, Notes, is_seen, shown
from qwen_audio_jax.tasks.task import Task

CHAT = "chat"
PREFERENCE = "preference"
PAIR_FIELDS = ("messages", "chosen", "rejected")
ROLES = ("system", "user", "assistant")
PARTS = ("text", "audio", "tags")
"""Types of a message's parts; one of audio stands for the record's next clip."""

_KEYS = {"role", "content", "loss"}
_MOST = 1000
"""Messages of a conversation, which is quadratic in its length."""


@dataclasses.dataclass(frozen=True)
class Messages:
    """A conversation: at most one system message, then user and assistant by turns.

    Attributes:
        last: whose message it ends with; where that is the user's, two answers follow.
    """

    name: str = "conversation"
    last: str = "assistant"
    says: str = (
        "a list of messages `{role, content}`: `system` or none, then `user` and `assistant` by "
        "turns, `assistant` last. `content` is a text, or a list of `{type: text, text}`, "
        "`{type: audio}` for the record's next clip (a user's alone) and `{type: tags, text}`; "
        "`loss: false` on an assistant's message keeps it from being learned"
    )

    def read(self, value: Any, notes: Notes) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not value:
            raise AnnotationError(f"must be a list of messages, not {shown(value)}")
        if len(value) > _MOST:
            raise AnnotationError(f"has {len(value):,} messages, and {_MOST:,} are the most")
        messages = []
        expected = ROLES[:2]
        for number, message in enumerate(value, start=1):
            try:
                messages.append(_message(message, expected))
            except AnnotationError as error:
                raise AnnotationError(f"message {number}: {error}") from None
            expected = ("assistant",) if message["role"] == "user" else ("user",)
        if self.last == "user":
            if messages[-1]["role"] != "user":
                raise AnnotationError(
                    f"message {len(messages)}: is the last one and the {messages[-1]['role']}'s; "
                    "the messages of a preference record end with the user's, which both answers "
                    "follow"
                )
            return messages
        if messages[-1]["role"] != "assistant":
            raise AnnotationError(
                f"message {len(messages)}: is the last one and the {messages[-1]['role']}'s; a "
                "conversation ends with the assistant's answer, which is what is learned"
            )
        if not any(learned(message) for message in messages):
            raise AnnotationError(
                "has nothing to learn: every message of the assistant has 'loss': false"
            )
        return messages


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the assistant answers, word for word."""

    name: str = "answer"
    says: str = "text, learned as it is"

    def read(self, value: Any, notes: Notes) -> str:
        if not isinstance(value, str) or not is_seen(value):
            raise AnnotationError(f"must be a text in which something is seen, not {shown(value)}")
        return value


def learned(message: dict[str, Any]) -> bool:
    """Whether the model learns to write a message."""
    return message["role"] == "assistant" and message.get("loss", True)


def up_to_answers(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The conversation up to each message that is learned, that included."""
    return [messages[: n + 1] for n, message in enumerate(messages) if learned(message)]


def answered(messages: list[dict[str, Any]]) -> int:
    """How many turns have their answer in the messages."""
    return sum(message["role"] == "assistant" for message in messages)


def places(messages: list[dict[str, Any]]) -> int:
    """How many clips the messages have a place for."""
    return sum(
        part["type"] == "audio"
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
    )


def check_pair(chosen: str, rejected: str) -> None:
    """Raises AnnotationError if the answers of a preference record are one.

    Letters that are written in two ways are the same ones: a vocabulary may know one of them.
    """
    if unicodedata.normalize("NFC", chosen) == unicodedata.normalize("NFC", rejected):
        raise AnnotationError(
            f"field 'rejected': is the same as 'chosen' ({shown(chosen)}); a pair has two answers"
        )


def check_talk(messages: Any, clips: int) -> list[dict[str, Any]]:
    """The messages of a conversation as they are stored.

    Args:
        messages: whatever JSON they are.
        clips: of the record.

    Raises:
        AnnotationError: they are no conversation, or have other than `clips` places for audio.
    """
    stored = Messages().read(messages, [])
    check_places(stored, clips)
    return stored


def check_places(messages: list[dict[str, Any]], clips: int) -> None:
    """Raises AnnotationError unless the messages have as many places for audio as clips."""
    if (found := places(messages)) != clips:
        raise AnnotationError(
            f"{found} place{'s' * (found != 1)} for audio in the messages and {clips} "
            f"clip{'s' * (clips != 1)} in the record; each clip needs one place, in order"
        )


def _message(message: Any, expected: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise AnnotationError(f"must be an object {{role, content}}, not {shown(message)}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise AnnotationError(f"'role' must be system, user or assistant, not {shown(role)}")
    if role not in expected:
        raise AnnotationError(
            f"is the {role}'s, where one of the {' or '.join(expected)} is due; after the system's "
            "message, if there is one, user and assistant take turns"
        )
    if unknown := sorted(set(map(str, message)) - _KEYS):
        raise AnnotationError(f"{unknown[0]!r} is not read; it has role, content and loss")
    if "loss" in message and (role != "assistant" or not isinstance(message["loss"], bool)):
        raise AnnotationError("'loss' is true or false, and stands with the assistant alone")
    if isinstance(content, list) and content:
        content = [_part(part, role, number) for number, part in enumerate(content, start=1)]
        heard = any(part["type"] == "audio" for part in content)
        text = "".join(part.get("text", "") for part in content)
    elif isinstance(content, str):
        heard, text = False, content
    else:
        raise AnnotationError(f"'content' must be a text or a list of parts, not {shown(content)}")
    if role != "system" and not (heard or is_seen(text)):
        raise AnnotationError(f"has nothing in it that can be seen or heard ({shown(text)})")
    off = {"loss": False} if message.get("loss") is False else {}
    return {"role": role, "content": content, **off}


def _part(part: Any, role: str, number: int) -> dict[str, Any]:
    where = f"part {number} of 'content'"
    if not isinstance(part, dict):
        raise AnnotationError(f"{where} must be an object {{type, ...}}, not {shown(part)}")
    kind = part.get("type")
    if kind not in PARTS:
        raise AnnotationError(f"{where}: 'type' must be text, audio or tags, not {shown(kind)}")
    if kind == "audio" and role != "user":
        raise AnnotationError(f"{where}: audio can stand only in a user's message")
    wanted = {"type"} if kind == "audio" else {"type", "text"}
    if unknown := sorted(set(map(str, part)) - wanted):
        raise AnnotationError(f"{where}: {unknown[0]!r} is not read in one of type {kind!r}")
    if kind != "audio" and not isinstance(part.get("text"), str):
        raise AnnotationError(f"{where}: 'text' must be a text, not {shown(part.get('text'))}")
    return dict(part)


CONVERSATIONS: dict[str, Task] = {
    CHAT: Task(
        group="conversation",
        fields={"messages": Messages()},
        optional={"kind": fields.NAME},
        example={
            "messages": [
                {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": "A bell."},
            ]
        },
        tags="",
        label="",
        prompts=("",),
        prompt_languages=("",),
        metric="conversation",
        parse=parse.text,
        clips=None,
        survives=(),
        original=True,
    ),
    PREFERENCE: Task(
        group="conversation",
        fields={
            "messages": Messages(
                name="asked",
                last="user",
                says="the messages as in `chat`, up to a `user`'s, which both answers follow",
            ),
            "chosen": Answer(),
            "rejected": Answer(),
        },
        optional={
            "kind": fields.NAME,
            "absent": fields.NAMES,
            "present": fields.NAMES,
            "count": fields.Whole("count", "a whole number from 0 to 1,000", 1000),
        },
        example={
            "messages": [
                {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What?"}]},
            ],
            "chosen": "A bell.",
            "rejected": "A dog.",
        },
        tags="",
        label="",
        prompts=("",),
        prompt_languages=("",),
        metric="preference",
        parse=parse.text,
        clips=None,
        survives=(),
    ),
}
"""What is rendered by `rendering/chat.py` and by no template, with any number of clips."""
