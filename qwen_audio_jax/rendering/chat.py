"""Conversations of both families in ChatML.

A conversation is a list of messages `{"role": ..., "content": ...}`. Content is a string or a list
of items: `{"type": "text", "text": ...}`, `{"type": "audio"}` for the next of the conversation's
clips, and `{"type": "tags", "text": ...}`.

Text is text, whatever it spells. In the originals `<|2.33|>` or `<audio>` in a message act, which
lets whoever writes a message write tags. Here that takes an item of type "tags": every `<|name|>`
in it is that control token, except those that structure a conversation or stand for audio.
"""

import re
from collections.abc import Sequence
from typing import Any

from qwen_audio_jax.rendering.spans import AUDIO_TAGS, Span, join_text
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START
from qwen_audio_jax.text.tokenizer import Tokenizer

Message = dict[str, Any]
SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}
WINDOW = 6144
"""Tokens of system message and past turns that Qwen-Audio-Chat keeps (its max_window_size)."""

_TAG = re.compile(r"(<\|[^|<>]+\|>)")
_NOT_IN_CONTENT = {END_OF_TEXT, IM_START, IM_END}.union(*AUDIO_TAGS.values())


def render(
    messages: Sequence[Message], family: str, *, add_generation_prompt: bool = False
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

    Raises:
        ValueError: a message is not of the form above; the text names message and fix.
    """
    if not messages or messages[0].get("role") != "system":
        messages = [SYSTEM, *messages]
    spans = _render(messages, family)
    if add_generation_prompt:
        spans += _head("assistant")
    return spans if family == "qwen_audio" else join_text(spans)


def render_answer(content: Any, family: str) -> list[Span]:
    """An assistant's message without its head: what follows on a generation prompt."""
    return [*_content(content, family, 0, loss=True), *_tail(loss=True)]


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


def _render(messages: Sequence[Message], family: str) -> list[Span]:
    """The messages as they are: no default system message, text of Qwen2-Audio not yet joined."""
    spans: list[Span] = []
    clips = 0
    for number, message in enumerate(messages, start=1):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise ValueError(f"message {number}: 'role' must be system, user or assistant")
        if content is None and role == "assistant" and family == "qwen_audio":
            spans.append(Span(text="\n"))
            continue
        learned = role == "assistant"
        try:
            inside = _content(content, family, clips, loss=learned)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
        clips += sum(span.clip >= 0 for span in inside)
        if role in ("system", "assistant") and any(span.clip >= 0 for span in inside):
            raise ValueError(f"message {number}: audio can stand only in a user's message")
        spans += [*_head(role), *inside, *_tail(loss=learned)]
    return spans


def _head(role: str) -> list[Span]:
    return [Span(tag=IM_START), Span(text=role), Span(text="\n")]


def _tail(*, loss: bool) -> list[Span]:
    return [Span(tag=IM_END, loss=loss), Span(text="\n")]


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
        if _TAG.fullmatch(part) and part not in _NOT_IN_CONTENT
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
