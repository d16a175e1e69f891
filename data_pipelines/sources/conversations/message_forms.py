"""Forms that keep a talk as a list of messages. Each reader takes the keys that it reads."""

import re
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.conversations.contents import clip_names, pieces_of, split
from data_pipelines.sources.conversations.talk import (
    Named,
    Piece,
    Place,
    Talk,
    Turn,
    learned,
    refuse_rest,
)
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.tasks.fields import shown

Fields = dict[str, Any]
AUDIO = "<audio>"
"""The placeholder of ms-swift and LLaMA-Factory."""
SOUND = "<sound>"
"""Audio Flamingo's."""
_NUMBERED = re.compile(r"<sound-(\d+)>\n?")


def messages(fields: Fields) -> Talk:
    """Our own, transformers', OpenAI's and TRL's: texts are texts, clips stand in parts.

    A part of audio without a name is the next clip of the row's `audio`, of which `offset` and the
    like cut a part as in a manifest.
    """
    turns = _turns(_list(fields, "messages", "conversation"))
    listed = clip_names(fields.pop("audio", None), "audio")
    segments = segments_of(fields, len(listed))
    named = [
        Named(clip.name, segment=segment)
        for clip, segment in zip(listed, segments or [None] * len(listed), strict=True)
    ]
    return Talk(turns, tuple(named))


def ms_swift(fields: Fields) -> Talk:
    """`messages` with <audio> for each of the row's `audios`, and `system`."""
    turns = _turns(_list(fields, "messages"), AUDIO)
    return Talk((*system(fields), *turns), listed_audio(fields), AUDIO)


def sharegpt(fields: Fields) -> Talk:
    """`conversations` of {from, value} with <audio>, `audios`, and `system`."""
    turns = _turns(_list(fields, "conversations"), AUDIO)
    return Talk((*system(fields), *turns), listed_audio(fields), AUDIO)


def human_assistant(fields: Fields) -> Talk:
    """`conversation` of {human, assistant} with <audio>, `audios`, and `system`."""
    turns = list(system(fields))
    for number, pair in enumerate(_list(fields, "conversation"), start=1):
        where = f"entry {number} of 'conversation'"
        loss = learned(pair, where)
        for role in ("human", "assistant"):
            if not isinstance(pair.get(role), str):
                raise RejectedRecord(
                    f"{where}: {role!r} must be a text, not {shown(pair.get(role))}"
                )
            pieces = split(pair.pop(role), AUDIO)
            turns.append(Turn(where, role, pieces, loss if role == "assistant" else None))
        refuse_rest(pair, where)
    return Talk(tuple(turns), listed_audio(fields), AUDIO)


def prompt_completion(fields: Fields) -> Talk:
    """TRL's `prompt` and `completion`, each a text or messages; the completion alone is learned."""
    turns: list[Turn] = []
    for field, role, loss in (("prompt", "user", False), ("completion", "assistant", None)):
        value = fields.pop(field, None)
        if isinstance(value, str):
            turns.append(Turn(f"field {field!r}", role, (value,), loss))
            continue
        for turn in _turns(_list({field: value}, field), where=f"message {{}} of {field!r}"):
            said = loss if turn.loss is None else turn.loss
            turns.append(Turn(turn.where, turn.role, turn.pieces, said))
    return Talk(tuple(turns))


def audio_flamingo(fields: Fields) -> Talk:
    """`conversations` with <sound>, or <sound-1> and on, for the row's `sound`."""
    listed = clip_names(fields.pop("sound", None), "sound")
    order: list[int] = []
    turns = []
    for turn in _turns(_list(fields, "conversations")):
        pieces: list[Piece] = []
        for piece in turn.pieces:
            pieces += _sounds(piece, order) if isinstance(piece, str) else [piece]
        turns.append(Turn(turn.where, turn.role, tuple(pieces), turn.loss))
    if not order:
        return Talk(tuple(turns), listed, SOUND)
    plain = sum(isinstance(p, Place) for turn in turns for p in turn.pieces) - len(order)
    if plain:
        raise RejectedRecord(f"has both {SOUND} and {SOUND[:-1]}-1>; number all of them or none")
    if len(order) <= len(listed):
        if len(set(order)) < len(order) or not 1 <= min(order) <= max(order) <= len(listed):
            told = ", ".join(map(str, order))
            raise RejectedRecord(
                f"its sounds are numbered {told} in the messages, and the row lists {len(listed)}; "
                "each number from 1 stands once"
            )
        unplaced = [clip for number, clip in enumerate(listed, start=1) if number not in order]
        listed = (*unplaced, *(listed[number - 1] for number in order))
    return Talk(tuple(turns), listed, f"{SOUND[:-1]}-N>")


def kimi_audio(fields: Fields) -> Talk:
    """`conversation` of {role, message_type, content}; a clip is a message of its own."""
    turns = []
    for number, message in enumerate(_list(fields, "conversation"), start=1):
        where = f"message {number}"
        kind, content = message.pop("message_type", None), message.pop("content", None)
        role, loss = message.pop("role", None), learned(message, where)
        if kind not in ("text", "audio", "audio-text"):
            raise RejectedRecord(
                f"{where}: message_type {shown(kind)} is not read; text and audio are"
            )
        if kind == "audio-text":
            raise RejectedRecord(
                f"{where}: is an answer in sound (audio-text), and the model answers in text "
                "alone; write it as one of message_type text"
            )
        if not isinstance(content, str) or not content:
            raise RejectedRecord(f"{where}: 'content' must be a text, not {shown(content)}")
        turns.append(Turn(where, role, (Named(content) if kind == "audio" else content,), loss))
        refuse_rest(message, where)
    return Talk(tuple(turns))


def system(fields: Fields) -> tuple[Turn, ...]:
    """The row's own system message, if it has one."""
    text = fields.pop("system", None)
    if text is not None and not isinstance(text, str):
        raise RejectedRecord(f"field 'system': must be a text, not {shown(text)}")
    return (Turn("field 'system'", "system", split(text, AUDIO)),) if text else ()


def listed_audio(fields: Fields) -> tuple[Named, ...]:
    """The row's clips: `audios`, or `audio` as some write it."""
    both = [key for key in ("audios", "audio") if fields.get(key)]
    if len(both) > 1:
        raise RejectedRecord("fields 'audios' and 'audio': both list clips; leave one of them")
    return tuple(
        clip for key in ("audios", "audio") for clip in clip_names(fields.pop(key, None), key)
    )


def _list(fields: Fields, *names: str) -> list[dict[str, Any]]:
    """Takes the first of these keys, which must hold objects; copies, so that they can be taken."""
    field = next((name for name in names if fields.get(name)), names[0])
    value = fields.pop(field, None)
    if not isinstance(value, list) or not value:
        raise RejectedRecord(f"field {field!r}: must be a list of messages, not {shown(value)}")
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict):
            raise RejectedRecord(
                f"field {field!r}: message {number} must be an object, not {shown(message)}"
            )
    return [dict(message) for message in value]


def _turns(
    written: list[dict[str, Any]], sign: str = "", where: str = "message {}"
) -> tuple[Turn, ...]:
    """Messages of {role, content} or {from, value}."""
    turns = []
    for number, message in enumerate(written, start=1):
        here = where.format(number)
        role, content = (
            message.pop(next((key for key in keys if key in message), keys[0]), None)
            for keys in (("role", "from"), ("content", "value"))
        )
        loss = learned(message, here)
        pieces = () if content is None else pieces_of(content, here, sign)
        turns.append(Turn(here, role, pieces, loss))
        refuse_rest(message, here)
    return tuple(turns)


def _sounds(text: str, order: list[int]) -> list[Piece]:
    """A text of Audio Flamingo's, whose placeholders take the line break behind them along."""
    numbers = list(map(int, _NUMBERED.findall(text)))
    order += numbers
    if numbers:
        # Those with a number and those without are told apart by their counts.
        text = _NUMBERED.sub(f"{SOUND}\n", text)
    pieces: list[Piece] = []
    for number, words in enumerate(text.split(SOUND)):
        words = words.removeprefix("\n") if number else words
        pieces += [Place()] * (number > 0) + [words] * bool(words)
    return pieces
