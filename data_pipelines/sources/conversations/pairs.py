"""Preference pairs: a row that holds two answers becomes two talks that differ in the last message.

Each of the two is then read as any talk of its form, by the same rules and in the same sentences.
"""

import dataclasses
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.conversations.clips import Clip
from data_pipelines.sources.conversations.message_forms import Fields
from data_pipelines.sources.conversations.talk import ROLES
from qwen_audio_jax.tasks.fields import is_seen, shown

_LISTS = ("messages", "conversations", "conversation")
"""Keys under which a form may list a talk's messages."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A row as talks, in the keys of a talk's form.

    Attributes:
        chosen: the talk, or of a pair the one that ends with the better answer.
        rejected: the one that ends with the worse answer; None of a talk.
        chosen_field: where the better answer stands, if apart from the talk.
        rejected_field: where the worse one stands.
    """

    chosen: Fields
    rejected: Fields | None = None
    chosen_field: str = ""
    rejected_field: str = ""


@dataclasses.dataclass(frozen=True)
class Told:
    """What a talk says. Attributes: messages, as of a record; its clips; notes beside it."""

    messages: list[dict[str, Any]]
    clips: tuple[Clip, ...]
    notes: Fields


def as_talks(fields: Fields) -> Pair:
    """The talk, or the two talks, that a row tells.

    Raises:
        RejectedRecord: it has one answer of two, or none that is one.
    """
    if fields.get("kto_tag") is not None or isinstance(fields.get("label"), bool):
        key = "label" if fields.get("kto_tag") is None else "kto_tag"
        raise RejectedRecord(
            f"field {key!r}: says of one answer whether it is good, and nothing is trained on that "
            "here; leave out such rows, or write two answers, 'chosen' and 'rejected'"
        )
    row = {key: value for key, value in fields.items() if key not in _ANSWERS or value is not None}
    if "rejected_messages" in row or "rejected_response" in row:
        return _ms_swift(row)
    if "preferred_output" in row or "non_preferred_output" in row:
        return _openai(row)
    if "chosen" in row or "rejected" in row:
        return _chosen_rejected(row)
    if "rejected_audios" in row:
        raise RejectedRecord("field 'rejected_audios': stands without 'rejected_messages'")
    return Pair(row)


def compared(chosen: Told, rejected: Told, pair: Pair) -> dict[str, Any]:
    """The messages and answers of a record of task `preference`.

    Args:
        chosen, rejected: the two talks.
        pair: how they were written.

    Raises:
        RejectedRecord: they differ before their last messages, or in their clips.
    """
    (*asked, better), (*other, worse) = map(_unlearned, (chosen.messages, rejected.messages))
    if asked != other:
        number = next(
            (n for n, both in enumerate(zip(asked, other, strict=False), 1) if both[0] != both[1]),
            min(len(asked), len(other)) + 1,
        )
        raise RejectedRecord(
            f"field {pair.rejected_field!r}: its talk differs before its answer, at message "
            f"{number}; the answers of a pair follow the same messages"
        )
    if chosen.clips != rejected.clips:
        raise RejectedRecord(
            "field 'rejected_audios': other clips than 'audios' has; the answers of a pair follow "
            "the same clips"
        )
    return {"messages": asked, "chosen": _answer(better), "rejected": _answer(worse)}


def _ms_swift(row: Fields) -> Pair:
    """A talk that ends with the better answer, and beside it the worse one or its whole talk."""
    if "rejected_messages" in row and "rejected_response" in row:
        raise RejectedRecord(
            "fields 'rejected_messages' and 'rejected_response': leave one of them"
        )
    if third := next((key for key in _CHOSEN if key in row), ""):
        raise RejectedRecord(
            f"field {third!r}: is a third answer beside the talk's own and the rejected one; leave "
            "it out"
        )
    if "rejected_messages" in row:
        other = {_listed(row)[0]: row.pop("rejected_messages")}
        if "rejected_audios" in row:
            other["audios"] = row.pop("rejected_audios")
        kept = {key: value for key, value in row.items() if key != "audio" or "audios" not in other}
        return Pair(row, {**kept, **other}, "", "rejected_messages")
    if "rejected_audios" in row:
        raise RejectedRecord("field 'rejected_audios': stands without 'rejected_messages'")
    worse = row.pop(_RESPONSE)
    for field in ("response", "output"):
        if field in row:
            return Pair(row, {**row, field: _text(worse, _RESPONSE)}, "", _RESPONSE)
    field, messages = _listed(row)
    if field == "conversation" and any("human" in message for message in messages):
        said = {"assistant": _text(worse, _RESPONSE)}
        return Pair(row, {**row, field: [*messages[:-1], {**messages[-1], **said}]}, "", _RESPONSE)
    asked = [number for number, message in enumerate(messages, 1) if _role(message) == "user"]
    if not asked:
        raise RejectedRecord(f"field {field!r}: has no user's turn, which the answers follow")
    other = [*messages[: asked[-1]], *_messages(worse, _RESPONSE)]
    return Pair(row, {**row, field: other}, "", _RESPONSE)


def _openai(row: Fields) -> Pair:
    """OpenAI's `input` with messages, `preferred_output` and `non_preferred_output`."""
    answers = [_messages(row.pop(field, None), field) for field in _OUTPUTS]
    given = row.pop("input", None)
    if not isinstance(given, dict):
        raise RejectedRecord(
            f"field 'input': must be an object that holds 'messages', not {shown(given)}"
        )
    row = {**given, **row}
    _, messages = _listed(row)
    return Pair(*({**row, "messages": [*messages, *said]} for said in answers), *_OUTPUTS)


def _chosen_rejected(row: Fields) -> Pair:
    """`chosen` and `rejected`: answers to what the row asks, or whole talks."""
    answers = {field: row.pop(field, None) for field in _CHOSEN}
    if third := next((key for key in ("response", "output", "completion") if row.get(key)), ""):
        raise RejectedRecord(
            f"field {third!r}: is a third answer beside 'chosen' and 'rejected'; leave it out"
        )
    if all(map(_is_talk, answers.values())):
        row = _without_repeated(row, answers["chosen"])
        return Pair(*({**row, "messages": talk} for talk in answers.values()), *_CHOSEN)
    if "instruction" in row:
        said = [{"output": _text(answer, field)} for field, answer in answers.items()]
    elif isinstance(row.get("prompt"), str):
        said = [{"completion": _messages(one, field)} for field, one in answers.items()]
    elif "prompt" in row or any(field in row for field in _LISTS):
        prompt = {"messages": row.pop("prompt")} if "prompt" in row else {}
        row = {**prompt, **row}
        field, messages = _listed(row)
        said = [{field: [*messages, *_messages(one, name)]} for name, one in answers.items()]
    else:
        raise RejectedRecord(
            "fields 'chosen' and 'rejected': answer no user's turn; give what was asked as "
            "'prompt', or messages that end with the user's"
        )
    return Pair(*({**row, **one} for one in said), *_CHOSEN)


def _without_repeated(row: Fields, talk: list[dict[str, Any]]) -> Fields:
    """The row without what it says of a whole talk a second time, as UltraFeedback's do."""
    users = [message.get("content") for message in talk if _role(message) == "user"]
    for field, repeated in (("prompt", [*users[:1], talk[:-1]]), ("messages", [talk, talk[:-1]])):
        if field not in row:
            continue
        if row[field] not in repeated:
            raise RejectedRecord(
                f"field {field!r}: differs from the talk in 'chosen'; leave it out, or write the "
                "answers alone as 'chosen' and 'rejected'"
            )
        row = {key: value for key, value in row.items() if key != field}
    return row


def _listed(row: Fields) -> tuple[str, list[dict[str, Any]]]:
    """The key of a row's messages, and those."""
    field = next((name for name in _LISTS if row.get(name)), _LISTS[0])
    messages = row.get(field)
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise RejectedRecord(f"field {field!r}: must be a list of messages, not {shown(messages)}")
    return field, messages


def _messages(answer: Any, field: str) -> list[dict[str, Any]]:
    """An answer as messages: it may be a text, a message, or a list of such."""
    if isinstance(answer, str):
        return [{"role": "assistant", "content": _text(answer, field)}]
    messages = [answer] if isinstance(answer, dict) else answer
    if not (isinstance(messages, list) and messages and all(map(_is_message, messages))):
        raise RejectedRecord(
            f"field {field!r}: must be the assistant's answer, a text or a message, not "
            f"{shown(answer)}"
        )
    if other := next((role for role in map(_role, messages) if role in ("user", "system")), ""):
        raise RejectedRecord(f"field {field!r}: is the {other}'s, and an answer is the assistant's")
    return messages


def _text(answer: Any, field: str) -> str:
    if not isinstance(answer, str) or not is_seen(answer):
        raise RejectedRecord(
            f"field {field!r}: must be a text with something in it, not {shown(answer)}"
        )
    return answer


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _is_talk(value: Any) -> bool:
    """Whether it is a list of messages that begins with what was asked."""
    are_messages = isinstance(value, list) and bool(value) and all(map(_is_message, value))
    return are_messages and _role(value[0]) != "assistant"


def _role(message: dict[str, Any]) -> str | None:
    role = message.get("role", message.get("from"))
    return ROLES.get(role) if isinstance(role, str) else None


def _unlearned(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what they say of their loss: of a pair the answers alone are learned."""
    return [{key: message[key] for key in ("role", "content")} for message in messages]


def _answer(message: dict[str, Any]) -> str:
    if not isinstance(message["content"], str):
        raise RejectedRecord(
            "an answer of a pair has a part of type tags, and such answers are texts; write it as "
            "text"
        )
    return message["content"]


_RESPONSE = "rejected_response"
_CHOSEN = ("chosen", "rejected")
_OUTPUTS = ("preferred_output", "non_preferred_output")
_ANSWERS = {*_CHOSEN, *_OUTPUTS, _RESPONSE, "rejected_messages", "rejected_audios"}
