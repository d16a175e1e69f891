"""How many log-mel frames, encoder positions and audio tokens a clip has.

Pure arithmetic on Python integers, so that batches can be planned without reading any audio. The
two families differ in one place: Qwen-Audio rounds the last partial hop down, Qwen2-Audio up.
"""

from typing import Literal

SAMPLE_RATE = 16_000
"""Hz, of every waveform from decoding on."""

HOP = 160
"""Samples between two frames: 10 ms."""

MARGIN_FRAMES = 2
"""Frames past a clip's end that the two convolutions look at."""

FRAMES_PER_TOKEN = 4
"""The second convolution and the pooling halve the frame rate in turn: 25 tokens per second."""

WINDOW_SAMPLES = 480_000
"""The longest stretch that the encoder hears at once: 30 s."""

WINDOW_FRAMES = WINDOW_SAMPLES // HOP
"""3000, of those 30 s."""

MIN_SAMPLES = 480
"""The shortest that makes an audio token in both families: 30 ms."""

Rounding = Literal["floor", "ceil"]


def windows(samples: int) -> list[int]:
    """Samples of each window of a clip, in order: one of up to 30 s, or as many as it takes.

    Where what is left after whole windows would be too short for a token, the last whole one
    gives way to it.
    """
    whole, rest = divmod(samples, WINDOW_SAMPLES)
    if not whole or not rest:
        return [WINDOW_SAMPLES] * whole or [rest]
    lent = MIN_SAMPLES if rest < MIN_SAMPLES else 0
    return [WINDOW_SAMPLES] * (whole - 1) + [WINDOW_SAMPLES - lent, rest + lent]


def mel_frames(samples: int, rounding: Rounding) -> int:
    """Valid frames L of a clip.

    Args:
        samples: S, length of the clip at 16 kHz.
        rounding: "floor" as in Qwen-Audio (`audio.py`), "ceil" as in Qwen2-Audio (the sample mask
            of transformers' `WhisperFeatureExtractor`, taken every 160th sample).
    """
    if rounding == "floor":
        return samples // HOP
    if rounding == "ceil":
        return -(-samples // HOP)
    raise ValueError(f"rounding: must be 'floor' or 'ceil', not {rounding!r}")


def encoder_positions(frames: int) -> int:
    """T, positions left after the convolution of stride 2: ceil(L / 2)."""
    return (frames + 1) // 2


def audio_tokens(frames: int) -> int:
    """N, audio tokens of a clip: pairs of encoder positions, an odd last one dropped."""
    return (frames + 1) // 4


def packed_frames(frames: int) -> int:
    """P, frames that a clip takes in a packed row.

    L and its margin, rounded up to whole audio tokens, so that every clip begins on a token's
    boundary.
    """
    return -(-(frames + MARGIN_FRAMES) // FRAMES_PER_TOKEN) * FRAMES_PER_TOKEN
