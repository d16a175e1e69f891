"""The prompt of a conversation: what may be in it, and what ends its answer."""

import re
from collections.abc import Container, Sequence

import numpy as np

from data_pipelines.examples import Example
from qwen_audio_jax.audio.lengths import MIN_SAMPLES, SAMPLE_RATE
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.rendering import chat
from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.rendering.spans import in_windows
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START

_TIME = re.compile(r"(<\|\d{1,2}\.\d\d\|>)")


def stop_ids(loaded: Loaded) -> tuple[int, ...]:
    """What ends an answer: the end of a message, of the text, or the head of the next message."""
    known = loaded.tokenizer.control_ids
    return tuple(known[name] for name in (IM_END, END_OF_TEXT, IM_START) if name in known)


def check_clip(wave: np.ndarray, max_seconds: float) -> np.ndarray:
    """A clip as it is heard: float32 [samples] at 16 kHz.

    Raises:
        ValueError: it is no such waveform, too short, too long, or has samples that are no numbers.
    """
    wave = np.asarray(wave)
    if wave.ndim != 1 or wave.dtype != np.float32:
        raise ValueError(f"a clip must be float32 [samples], not {wave.dtype} {list(wave.shape)}")
    if len(wave) < MIN_SAMPLES:
        raise ValueError(
            f"a clip has {len(wave)} samples; {MIN_SAMPLES} ({MIN_SAMPLES / SAMPLE_RATE:g} s) are "
            "the fewest that can be heard"
        )
    if len(wave) > max_seconds * SAMPLE_RATE:
        raise ValueError(
            f"a clip lasts {len(wave) / SAMPLE_RATE:.1f} s, and {max_seconds:g} s are the most"
        )
    if not np.isfinite(wave).all():
        raise ValueError("a clip has samples that are no finite numbers")
    return wave


def prompt_of(loaded: Loaded, messages: Sequence[Message], clips: Sequence[np.ndarray]) -> Example:
    """The prompt of a conversation that ends with a user's message: the same ids as in training.

    Args:
        loaded: the model.
        messages: see `rendering.chat`. In the assistant's, which are answers that come back as
            text, times such as `<|2.33|>` are the tokens that they were; in others' they are text.
        clips: float32 [samples] at 16 kHz, one for each place for audio, in order.

    Raises:
        ValueError: the messages are of no form that is known, the clips are not as many as their
            places, or one of them cannot be heard.
    """
    most = loaded.preprocessor.max_seconds
    waves = [check_clip(clip, most) for clip in clips]
    known = loaded.tokenizer.control_ids
    messages = [_with_times(message, known) for message in messages]
    spans = chat.render(messages, loaded.family, add_generation_prompt=True)
    wanted = sum(span.clip >= 0 for span in spans)
    if wanted != len(waves):
        raise ValueError(
            f"{len(waves)} clip{'s' * (len(waves) != 1)} given and {wanted} "
            f"place{'s' * (wanted != 1)} for audio in the messages; each clip needs one place"
        )
    spans = in_windows(spans, list(map(len, waves)))
    try:
        return loaded.preprocessor.of_spans(spans, waves, end=False)
    except KeyError as error:
        raise ValueError(
            f"{loaded.name}: {error.args[0]}, which a conversation needs; take a model whose "
            "vocabulary has it"
        ) from None


def _with_times(message: Message, known: Container[str]) -> Message:
    """An assistant's message with the times in its texts as tags; others as they are."""
    content = message.get("content")
    if message.get("role") != "assistant":
        return message
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(_is_text(item) for item in content):
        return message  # which `render` reads, or refuses
    pieces = [piece for item in content for piece in _TIME.split(item["text"]) if piece]
    tags = [bool(_TIME.fullmatch(piece)) and piece in known for piece in pieces]
    items = [
        {"type": "tags" if tag else "text", "text": piece}
        for piece, tag in zip(pieces, tags, strict=True)
    ]
    return message | {"content": items}


def _is_text(item: object) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type", "text") == "text"
        and isinstance(item.get("text"), str)
    )
