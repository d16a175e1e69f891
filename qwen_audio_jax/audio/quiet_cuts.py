"""Where a recording is cut that lasts longer than the encoder hears at once: where it is quiet.

Unlike `lengths.windows`, which is of a clip that is heard whole, window after window in one prompt:
these windows are heard each on its own, and a word that a cut goes through is lost to both.
"""

import numpy as np

from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE, WINDOW_SAMPLES

SHORTEST_SAMPLES = 20 * SAMPLE_RATE
"""Of a window that is not the last."""

LAST_SAMPLES = SAMPLE_RATE
"""Of the last at least: what is left of a recording is never so short that it says nothing."""

_AROUND = SAMPLE_RATE // 10
"""Samples on each side of a cut that are to be quiet: a pause is, and a stop consonant is not."""


def quiet_windows(wave: np.ndarray) -> list[int]:
    """Samples of each window of a recording, in order: all of it, nothing twice.

    One of up to 30 s is whole. Else a window ends where the 0.2 s around its end are the quietest,
    of all ends 20 to 30 s behind its beginning, a frame (10 ms) apart; of equally quiet ones at the
    last.

    Args:
        wave: float32 [samples] at 16 kHz.
    """
    lengths, left = [], len(wave)
    while left > WINDOW_SAMPLES:
        most = min(WINDOW_SAMPLES, left - LAST_SAMPLES)
        start = len(wave) - left
        near = wave[start + SHORTEST_SAMPLES - _AROUND : start + most + _AROUND]
        lengths.append(SHORTEST_SAMPLES + HOP * _quietest(near))
        left -= lengths[-1]
    return [*lengths, left]


def _quietest(near: np.ndarray) -> int:
    """Which frame's beginning has the least sound around it, of those with room for it."""
    # In whole numbers, so that every machine cuts at the same sample.
    levels = np.rint(np.clip(near, -1, 1) * np.float32(1 << 20)).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(levels**2)])
    around = (sums[2 * _AROUND :] - sums[: -2 * _AROUND])[::HOP]
    return len(around) - 1 - int(np.argmin(around[::-1]))
