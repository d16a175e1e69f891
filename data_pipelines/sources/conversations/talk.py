"""A talk as a row tells it, and the rules by which it becomes a conversation: one place for all.

A form's reader (`message_forms`, `field_forms`) says who said what and which clips the row names;
nothing is decided there. What is refused here is refused for every form.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.segments import Segment
from qwen_audio_jax.tasks import AnnotationError
from qwen_audio_jax.tasks.conversation import check_talk

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
"""What speakers are called, and who that is."""
CALLS = (
    "tool",
    "tools",
    "tool_call",
    "tool_calls",
    "tool_response",
    "tool_responses",
    "function",
    "functions",
    "function_call",
    "observation",
    "ipython",
)
"""Roles and keys of calls of tools."""
_NO_CALLS = (None, "", "[]", "null", [], {})
"""What such a key holds in a talk without them: LLaMA-Factory writes a list in a text."""
_LOSSES = ("loss", "loss_scale", "loss_weight", "weight")
_BOOKKEEPING = {"id", "uuid", "timestamp", "created_at", "message_id"}
"""Keys of a message or part that say nothing of what was said in it."""


@dataclasses.dataclass(frozen=True)
class Named:
    """A clip as a row names it.

    Attributes:
        name: a path, a `data:` URI, or the clip itself in base64.
        is_data: whether it is base64 for certain.
        segment: which part of the file is meant; None is the whole.
        further: paths of files that are joined on behind it.
    """

    name: str
    is_data: bool = False
    segment: Segment | None = None
    further: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Place:
    """A placeholder: the next of the clips that the row lists stands here."""


@dataclasses.dataclass(frozen=True)
class Tags:
    """Text whose tags act as control tokens."""

    text: str


Piece = str | Tags | Named | Place


@dataclasses.dataclass(frozen=True)
class Turn:
    """A message as it is written.

    Attributes:
        where: what a sentence calls it, "message 2".
        role: as it is written.
        pieces: what it says, in order.
        loss: whether it is learned; None where that is not said.
    """

    where: str
    role: Any
    pieces: tuple[Piece, ...]
    loss: bool | None = None


@dataclasses.dataclass(frozen=True)
class Talk:
    """A row as its form's reader understands it.

    Attributes:
        turns: in order.
        listed: clips that the row lists apart from its messages.
        sign: the placeholder as it is written in a text; "" where texts have none.
    """

    turns: tuple[Turn, ...]
    listed: tuple[Named, ...] = ()
    sign: str = ""


def conversation(
    talk: Talk, *, unplaced_first: bool = False
) -> tuple[list[dict[str, Any]], list[Named]]:
    """The messages of a record, and its clips in order.

    Args:
        talk: a row's.
        unplaced_first: whether listed clips without a placeholder go before the first user's words.

    Raises:
        RejectedRecord: it breaks a rule; the sentence names the message as the row counts it.
    """
    turns = list(talk.turns)
    if unplaced_first:
        turns = _with_places(turns, len(talk.listed) - _places(turns))
    _check_counts(_places(turns), len(talk.listed), talk.sign)
    turns = _joined([_of_known_role(turn) for turn in turns])
    listed = iter(talk.listed)
    clips = [
        next(listed) if isinstance(piece, Place) else piece
        for turn in turns
        for piece in turn.pieces
        if _is_clip(piece)
    ]
    try:
        messages = check_talk([_message(turn) for turn in turns], len(clips))
    except AnnotationError as error:
        raise RejectedRecord(_as_the_row_counts(str(error), turns)) from None
    return messages, clips


def learned(message: dict[str, Any], where: str) -> bool | None:
    """Takes what a message says of its loss; None if it says nothing.

    Raises:
        RejectedRecord: a weight that is neither all nor nothing, or two that differ.
    """
    said: dict[str, bool] = {}
    for key in _LOSSES:
        value = message.pop(key, None)
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise RejectedRecord(
                f"{where}: {key!r} must be true or false, or 1 or 0: an answer is learned or it "
                "is not, there is no part of its loss"
            )
        said[key] = bool(value)
    if len(set(said.values())) > 1:
        raise RejectedRecord(f"{where}: {' and '.join(map(repr, said))} differ; leave one of them")
    return next(iter(said.values()), None)


def refuse_rest(rest: dict[str, Any], where: str) -> None:
    """Refuses what a message or part says beside what was read of it."""
    for key, value in rest.items():
        if key in CALLS and value not in _NO_CALLS:
            raise RejectedRecord(_calls(f"{where}: {key!r}"))
        if key == "audio" and value:
            raise RejectedRecord(
                f"{where}: 'audio' beside the content is an answer in sound, and the model answers "
                "in text alone; write what it says as the content"
            )
        if says_something(value) and key not in _BOOKKEEPING:
            raise RejectedRecord(
                f"{where}: {key!r} is not read, and what it says would be lost; write it into the "
                "content or leave it out"
            )


def says_something(value: Any) -> bool:
    """Whether a value may be content: numbers, truth values and what is empty are none."""
    return isinstance(value, str | list | dict) and bool(value)


def calls_refused(fields: dict[str, Any]) -> None:
    """Refuses a row that offers tools, and takes such a field where it is empty."""
    for key in CALLS:
        if fields.pop(key, None) not in _NO_CALLS:
            raise RejectedRecord(_calls(f"field {key!r}"))


def _calls(what: str) -> str:
    return f"{what}: calls of tools are not supported; leave such talks out"


def _places(turns: Iterable[Turn]) -> int:
    return sum(isinstance(piece, Place) for turn in turns for piece in turn.pieces)


def _with_places(turns: list[Turn], missing: int) -> list[Turn]:
    """The turns with further placeholders before all that the first user says."""
    for number, turn in enumerate(turns):
        if missing > 0 and _role(turn) == "user":
            first = dataclasses.replace(turn, pieces=(*[Place()] * missing, *turn.pieces))
            return [*turns[:number], first, *turns[number + 1 :]]
    return turns


def _check_counts(places: int, clips: int, sign: str) -> None:
    if places == clips:
        return
    what = f"{sign} stands" if sign else "a place for audio stands"
    times = "once" if places == 1 else f"{places} times"
    if places > clips:
        mend = f"list each clip, or take {sign or 'places'} without one out"
    elif sign:
        mend = (
            f"write {sign} where each clip is heard (--unplaced_audio=first puts those without one "
            "before the first user's words)"
        )
    else:
        mend = (
            'write {"type": "audio"} where each clip is heard; <audio> is text in this form, and a '
            "placeholder in --form=ms_swift"
        )
    raise RejectedRecord(
        f"{what} {times} in the messages, and the row lists {clips} clip{'s' * (clips != 1)}; "
        f"{mend}"
    )


def _role(turn: Turn) -> str | None:
    return ROLES.get(turn.role) if isinstance(turn.role, str) else None


def _of_known_role(turn: Turn) -> Turn:
    role = _role(turn)
    if role is None and turn.role in CALLS:
        raise RejectedRecord(_calls(f"{turn.where} is of role {turn.role!r}"))
    if role is None:
        raise RejectedRecord(
            f"{turn.where}: role {turn.role!r} is not known; it is one of {', '.join(ROLES)}"
        )
    if role != "assistant" and turn.loss:
        raise RejectedRecord(
            f"{turn.where}: is the {role}'s and is to be learned; only what the assistant says is"
        )
    if role == "assistant" and any(map(_is_clip, turn.pieces)):
        raise RejectedRecord(
            f"{turn.where}: the assistant answers in sound, and the model answers in text alone; "
            "write what it says"
        )
    return dataclasses.replace(turn, role=role)


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with users' messages that follow one another as one, audio before text."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and turn.role == joined[-1].role == "user":
            pieces = _merged(joined[-1].pieces, turn.pieces)
            joined[-1] = dataclasses.replace(joined[-1], pieces=pieces)
        else:
            joined.append(turn)
    return joined


def _merged(first: tuple[Piece, ...], second: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Two messages as one: clips, then texts, a line break between those of the two.

    Where one of them has a text before a clip, its order is meant, and both stay as they are.
    """
    if any(map(_is_interleaved, (first, second))):
        touch = first and second and not _is_clip(first[-1]) and not _is_clip(second[0])
        return (*first, *["\n"] * bool(touch), *second)
    clips = filter(_is_clip, (*first, *second))
    texts = [[piece for piece in said if not _is_clip(piece)] for said in (first, second)]
    return (*clips, *texts[0], *["\n"] * all(texts), *texts[1])


def _is_clip(piece: Piece) -> bool:
    return isinstance(piece, Named | Place)


def _is_interleaved(pieces: tuple[Piece, ...]) -> bool:
    """Whether a text stands before a clip."""
    return any(not _is_clip(piece) and _is_clip(following) for piece, following in pairwise(pieces))


def _message(turn: Turn) -> dict[str, Any]:
    """As a record has it: a text where there is nothing but text, else parts."""
    parts: list[dict[str, str]] = []
    for piece in turn.pieces:
        if _is_clip(piece):
            parts.append({"type": "audio"})
        elif isinstance(piece, Tags):
            parts.append({"type": "tags", "text": piece.text})
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += piece
        elif piece:
            parts.append({"type": "text", "text": piece})
    content: Any = parts
    if not parts or (len(parts) == 1 and parts[0]["type"] == "text"):
        content = parts[0]["text"] if parts else ""
    off = {"loss": False} if turn.loss is False and turn.role == "assistant" else {}
    return {"role": turn.role, "content": content, **off}


def _as_the_row_counts(sentence: str, turns: Sequence[Turn]) -> str:
    """A sentence about a message of the record, about the row's own."""
    found = re.match(r"message (\d+)", sentence)
    return turns[int(found[1]) - 1].where + sentence[found.end() :] if found else sentence
