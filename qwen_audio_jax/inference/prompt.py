"""The prompt of a conversation: what may be in it, and what ends its answer."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.examples import Example, in_windows
from qwen_audio_jax.audio.lengths import MIN_SAMPLES, SAMPLE_RATE
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.rendering import chat
from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START


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
        messages: see `rendering.chat`.
        clips: float32 [samples] at 16 kHz, one for each place for audio, in order.

    Raises:
        ValueError: the messages are of no form that is known, the clips are not as many as their
            places, or one of them cannot be heard.
    """
    most = loaded.preprocessor.max_seconds
    waves = [check_clip(clip, most) for clip in clips]
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
