"""Conversations of both families in ChatML.

A conversation is a list of messages `{"role": ..., "content": ...}`. Content is a string or a list
of items: `{"type": "text", "text": ...}`, `{"type": "audio"}` for the next of the conversation's
clips, and `{"type": "tags", "text": ...}`.

Text is text, whatever it spells. In the originals `<|2.33|>` or `<audio>` in a message act, which
lets whoever writes a message write tags. Here that takes an item of type "tags": every `<|name|>`
in it is that control token, except those that structure a conversation or stand for audio.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from qwen_audio_jax.rendering.spans import AUDIO_TAGS, Span, join_text
from qwen_audio_jax.tasks.conversation import learned, places
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START
from qwen_audio_jax.text.tokenizer import Tokenizer

Message = dict[str, Any]
SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}
WINDOW = 6144
"""Tokens of system message and past turns that Qwen-Audio-Chat keeps (its max_window_size)."""

_TAG = re.compile(r"(<\|[^|<>]+\|>)")
NOT_IN_CONTENT = {END_OF_TEXT, IM_START, IM_END}.union(*AUDIO_TAGS.values())


LEARN = ("assistant", "last")
"""What of a conversation is learned: what the assistant says, or its last message alone."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How conversations are put to a model.

    Attributes:
        family: "qwen_audio" or "qwen2_audio".
        learn: one of LEARN.
        learn_newline: whether the line break behind a learned `<|im_end|>` is learned too, which
            nobody generates; ms-swift and LLaMA-Factory do so.
    """

    family: str = "qwen2_audio"
    learn: str = LEARN[0]
    learn_newline: bool = False


def render_talk(messages: Sequence[Message], form: Form) -> tuple[list[Span], list[Span]]:
    """A record's conversation in two parts, before the assistant's last message and that.

    Both together are what `render` gives; the loss lies on the messages that are learned.
    """
    *earlier, last = messages
    prompt = render(
        earlier,
        form.family,
        add_generation_prompt=True,
        learn=form.learn == "assistant",
        learn_newline=form.learn_newline,
    )
    answer = _answer(last, form.family, learn=learned(last), learn_newline=form.learn_newline)
    return prompt, answer


def render_pair(
    messages: Sequence[Message], chosen: str, rejected: str, form: Form
) -> tuple[list[Span], list[Span], list[Span]]:
    """A preference record in three parts: what both answers follow on, and each of the two.

    The loss lies on the two answers alone, each with its `<|im_end|>`; what the assistant says
    before them is read.

    Args:
        messages: the conversation up to the user's last message.
        chosen, rejected: the text of the assistant's answer to it.
        form: how it is put to the model.
    """
    prompt = render(messages, form.family, add_generation_prompt=True, learn=False)
    answers = (
        _answer({"content": one}, form.family, learn=True, learn_newline=form.learn_newline)
        for one in (chosen, rejected)
    )
    return prompt, *answers


def turns(messages: Sequence[Message]) -> list[list[Message]]:
    """A conversation's turns, each a user's message and its answer; the system's stands apart."""
    body = [message for message in messages if message["role"] != "system"]
    return [body[i : i + 2] for i in range(0, len(body), 2)]


def without_oldest(messages: Sequence[Message], number: int) -> tuple[list[Message], int]:
    """The conversation without its first turns: (what stays, how many clips went with them)."""
    system = [message for message in messages if message["role"] == "system"]
    gone, kept = turns(messages)[:number], turns(messages)[number:]
    return (
        [*system, *(message for turn in kept for message in turn)],
        sum(places(turn) for turn in gone),
    )


def render(
    messages: Sequence[Message],
    family: str,
    *,
    add_generation_prompt: bool = False,
    learn: bool = True,
    learn_newline: bool = False,
) -> list[Span]:
    """Renders a conversation; the loss lies on what the assistant says and its `<|im_end|>`.

    Clips are labelled `Audio 1: ` and on through the conversation in Qwen2-Audio (its chat
    template), `Audio 1:` and on from 1 in each message in Qwen-Audio (`from_list_format` in
    tokenization_qwen.py). Spans join where the originals tokenise jointly: Qwen-Audio takes role,
    newline and content apart (`make_context` in qwen_generation_utils.py), Qwen2-Audio all text
    between two control tokens as one; but never over the border of the loss, as what is generated
    is not tokenised with what went before.

    Args:
        messages: the conversation; without a system message first it gets the default one. An
            assistant's content may be None in Qwen-Audio: a turn without an answer, where the
            original leaves an empty line.
        family: "qwen_audio" or "qwen2_audio".
        add_generation_prompt: whether to end with the head of the assistant's next message.
        learn: whether any of it is learned; a message with `"loss": false` is not in any case.
        learn_newline: whether the line break behind a learned message is.

    Raises:
        ValueError: a message is not of the form above; the text names message and fix.
    """
    if not messages or messages[0].get("role") != "system":
        messages = [SYSTEM, *messages]
    spans = _render(messages, family, learn=learn, learn_newline=learn_newline)
    if add_generation_prompt:
        spans += _joined(_head("assistant"), family)
    return spans


def render_answer(content: Any, family: str) -> list[Span]:
    """An assistant's message without its head: what follows on a generation prompt."""
    return _answer({"content": content}, family, learn=True, learn_newline=False)


def _answer(message: Message, family: str, *, learn: bool, learn_newline: bool) -> list[Span]:
    spans = [
        *_content(message["content"], family, 0, loss=True),
        *_tail(loss=True, newline=learn_newline),
    ]
    return spans if learn else _unlearned(spans)


def _unlearned(spans: list[Span]) -> list[Span]:
    """The same without loss, in the same pieces: what is learned does not change the tokens."""
    return [dataclasses.replace(span, loss=False) for span in spans]


def _joined(spans: list[Span], family: str) -> list[Span]:
    return spans if family == "qwen_audio" else join_text(spans)


def recent(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    family: str,
    clip_tokens: Sequence[int],
    window: int = WINDOW,
) -> tuple[list[Message], int]:
    """The latest turns whose tokens, with the system message's, stay below the window.

    As in Qwen-Audio-Chat, the last user message and what follows it is kept and not counted.

    Args:
        messages: the conversation.
        tokenizer: the vocabulary.
        family: "qwen_audio" or "qwen2_audio".
        clip_tokens: audio tokens of each clip of the conversation.
        window: the number of tokens.

    Returns:
        The messages that stay, and how many clips went with the others: the first ones.
    """
    system = list(messages[:1]) if messages and messages[0].get("role") == "system" else []
    body = len(system)
    starts = [i for i, m in enumerate(messages) if i > body and m.get("role") == "user"]
    *past, first = [body, *starts]
    dropped = sum(map(_clips, messages[:first]))
    # The original does not count the newline after the system message.
    size = _length(_render(system or [SYSTEM], family), tokenizer, ()) - 1
    for begin in reversed(past):
        turn = messages[begin:first]
        clips = sum(map(_clips, turn))
        audio = clip_tokens[dropped - clips : dropped]
        size += _length(_render(turn, family), tokenizer, audio)
        if size >= window:
            break
        first, dropped = begin, dropped - clips
    return [*system, *messages[first:]], dropped


def response_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of a generated answer: up to the first token that ends a message, stripped.

    The original cuts with the prompt's number of characters, and loses the last token where none
    of them comes; here nothing is lost.
    """
    ends = {tokenizer.special(name) for name in (IM_END, IM_START, END_OF_TEXT)}
    ids = [int(i) for i in ids]
    stop = next((n for n, i in enumerate(ids) if i in ends), len(ids))
    return tokenizer.decode(ids[:stop]).strip()


def _render(
    messages: Sequence[Message], family: str, *, learn: bool = True, learn_newline: bool = False
) -> list[Span]:
    """The messages as they are: no default system message."""
    spans: list[Span] = []
    clips = 0
    for number, message in enumerate(messages, start=1):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise ValueError(f"message {number}: 'role' must be system, user or assistant")
        if content is None and role == "assistant" and family == "qwen_audio":
            spans.append(Span(text="\n"))
            continue
        of_assistant = role == "assistant"
        try:
            inside = _content(content, family, clips, loss=of_assistant)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
        clips += sum(span.clip >= 0 for span in inside)
        if role in ("system", "assistant") and any(span.clip >= 0 for span in inside):
            raise ValueError(f"message {number}: audio can stand only in a user's message")
        tail = _tail(loss=of_assistant, newline=of_assistant and learn_newline)
        one = _joined([*_head(role), *inside, *tail], family)
        spans += one if learn and learned(message) else _unlearned(one)
    return spans


def _head(role: str) -> list[Span]:
    return [Span(tag=IM_START), Span(text=role), Span(text="\n")]


def _tail(*, loss: bool, newline: bool = False) -> list[Span]:
    return [Span(tag=IM_END, loss=loss), Span(text="\n", loss=newline)]


def _content(content: Any, family: str, clips: int, *, loss: bool) -> list[Span]:
    """Spans of one message's content, which comes after `clips` clips of the conversation."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError("'content' must be a string or a list of {'type': ..., ...}")
    spans: list[Span] = []
    for item in content:
        if _is_audio(item):
            here = sum(span.clip >= 0 for span in spans)
            label = (
                f"Audio {here + 1}:" if family == "qwen_audio" else f"Audio {clips + here + 1}: "
            )
            spans += [Span(text=label), Span(clip=clips + here), Span(text="\n")]
            continue
        text = item.get("text")
        if not isinstance(text, str) or item.get("type", "text") not in ("text", "tags"):
            raise ValueError(
                "a content item must be {'type': 'text', 'text': ...}, {'type': 'audio'} or "
                "{'type': 'tags', 'text': ...}"
            )
        spans += _tagged(text, loss) if item.get("type") == "tags" else [Span(text=text, loss=loss)]
    return join_text(spans)


def _tagged(text: str, loss: bool) -> list[Span]:
    """Spans of trusted text, its tags taken as such."""
    return [
        Span(tag=part, loss=loss)
        if _TAG.fullmatch(part) and part not in NOT_IN_CONTENT
        else Span(text=part, loss=loss)
        for part in _TAG.split(text)
    ]


def _is_audio(item: Message) -> bool:
    return item.get("type") == "audio" or "audio" in item or "audio_url" in item


def _clips(message: Message) -> int:
    content = message.get("content")
    return sum(map(_is_audio, content)) if isinstance(content, list) else 0


def _length(spans: Sequence[Span], tokenizer: Tokenizer, clip_tokens: Sequence[int]) -> int:
    """Number of tokens; a clip has one before it and one after it."""
    clips = sum(span.clip >= 0 for span in spans)
    tags = sum(bool(span.tag) for span in spans)
    text = sum(len(tokenizer.encode(span.text)) for span in spans)
    return text + tags + 2 * clips + sum(clip_tokens)
