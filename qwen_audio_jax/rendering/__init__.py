"""Record -> spans -> token ids, in either conditioning."""

import dataclasses
import functools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.rendering import chat, prompts, tags, unconditioned
from qwen_audio_jax.rendering.spans import AUDIO_TAGS, Span
from qwen_audio_jax.tasks import CHAT, KINDS, PAIR_FIELDS, PREFERENCE
from qwen_audio_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A rendered record as token ids, before its audio is computed.

    Attributes:
        tokens: int32 [n]; each clip's placeholder stands once per audio token of the clip.
        loss_weights: float32 [n]; 1 where the model learns to write that token.
        audio: int32 [n]; for a placeholder, its number among the record's audio tokens (counted
            through all clips); -1 elsewhere.
    """

    tokens: np.ndarray
    loss_weights: np.ndarray
    audio: np.ndarray


_FORM = chat.Form()


def closes(task: str) -> bool:
    """Whether a record ends with the end-of-text token; a conversation has an end of its own."""
    return task not in (CHAT, PREFERENCE)


def render(
    task: str,
    annotation: dict[str, Any],
    conditioning: str,
    *,
    wording: int = 0,
    templates: prompts.Templates | None = None,
    form: chat.Form = _FORM,
) -> tuple[list[Span], list[Span]]:
    """Renders (prompt, label) in one of the CONDITIONINGS.

    A conversation is the same in all of them; its label is the assistant's last message, and parts
    of its prompt are learned too. A preference record is one that ends with the chosen answer; both
    of its answers are in `chat.render_pair`.

    Args:
        task: a key of KINDS.
        annotation: of the record.
        conditioning: how it is put to the model.
        wording: of a prompt, counted round.
        templates: of the prompts; the built-in ones if None.
        form: of conversations.
    """
    if task == CHAT:
        return chat.render_talk(annotation["messages"], form)
    if task == PREFERENCE:
        last = {"role": "assistant", "content": annotation["chosen"]}
        return chat.render_talk([*annotation["messages"], last], form)
    if conditioning == "tags":
        return tags.render(task, annotation)
    if conditioning == "none":
        return unconditioned.render(task, annotation)
    return prompts.render(task, annotation, wording, (templates or {}).get(task, ()))


def wording_of(record_id: str) -> int:
    """The wording that a training record is given: fixed by its id, spread over the wordings."""
    return zlib.crc32(record_id.encode())


def tokenize(
    spans: Sequence[Span],
    tokenizer: Tokenizer,
    family: str,
    clip_tokens: Sequence[int],
    *,
    end: bool = True,
) -> Tokens:
    """Token ids of rendered spans.

    Args:
        spans: prompt, or prompt + label.
        tokenizer: the vocabulary.
        family: "qwen_audio" or "qwen2_audio"; decides the tokens around and under the audio.
        clip_tokens: audio tokens of each clip.
        end: whether to close with the end-of-text token, which is learned like the label.

    Raises:
        ValueError: the places for audio are not as many as the clips.
    """
    places = [span.clip for span in spans if span.clip >= 0]
    if sorted(places) != list(range(len(clip_tokens))):
        raise ValueError(
            f"{len(clip_tokens)} clip{'s' * (len(clip_tokens) != 1)} given and {len(places)} "
            f"place{'s' * (len(places) != 1)} for audio in the text; each clip needs one place"
        )
    begin, placeholder, finish = (tokenizer.special(name) for name in AUDIO_TAGS[family])
    first_audio = np.cumsum([0, *clip_tokens])
    ids: list[int] = []
    weights: list[float] = []
    audio: list[int] = []
    for span in spans:
        if span.clip >= 0:
            n, first = clip_tokens[span.clip], int(first_audio[span.clip])
            piece = [begin, *[placeholder] * n, finish]
            audio += [-1, *range(first, first + n), -1]
        elif span.tag:
            piece = [tokenizer.tag(span.tag, language=span.language)]
            audio.append(-1)
        else:
            piece = tokenizer.encode(span.text)
            audio += [-1] * len(piece)
        ids += piece
        weights += [float(span.loss)] * len(piece)
    if end:
        ids.append(tokenizer.end_of_text)
        weights.append(1.0)
        audio.append(-1)
    return Tokens(
        np.asarray(ids, np.int32), np.asarray(weights, np.float32), np.asarray(audio, np.int32)
    )


def count_tokens(
    spans: Sequence[Span], tokenizer: Tokenizer, clip_tokens: Sequence[int], *, end: bool = True
) -> int:
    """How many tokens `tokenize` would make of these."""
    total = int(end) + sum(clip_tokens)
    for span in spans:
        if span.clip >= 0:
            total += 2
        else:
            total += 1 if span.tag else _text_tokens(tokenizer, span.text)
    return total


@functools.lru_cache(maxsize=4096)  # prompts and short answers come again and again
def _text_tokens(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text))


def _conversation(task: str, annotation: dict[str, Any], form: chat.Form) -> list[list[Span]]:
    if task == CHAT:
        return [chat.render(annotation["messages"], form.family)]
    return [*chat.render_pair(*(annotation[name] for name in PAIR_FIELDS), form)]


def texts_of(task: str, annotation: dict[str, Any]) -> Iterator[str]:
    """All plain text that rendering this record can produce: what a vocabulary is trained on."""
    if task in (CHAT, PREFERENCE):
        for family in AUDIO_TAGS:
            for spans in _conversation(task, annotation, chat.Form(family)):
                yield from (span.text for span in spans if span.text)
        return
    for wording in range(len(KINDS[task].prompts)):
        for part in prompts.render(task, annotation, wording):
            yield from (span.text for span in part if span.text)
    for part in tags.render(task, annotation):
        yield from (span.text for span in part if span.text)
