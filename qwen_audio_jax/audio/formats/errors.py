"""What a clip is refused with, and the limits that all decoders share."""

from collections.abc import Iterable

import numpy as np

MAX_SECONDS = 3600.0
"""Longer files are taken for a mistake; what training takes, `config.data.max_seconds` says."""

TOLERANCE_SECONDS = 0.1
"""Sound that no header promises exactly may differ by so much: padding, a codec's last frame."""


class AudioError(ValueError):
    """A clip that cannot be used. The message is the reason, one sentence."""


class UnreadableError(AudioError):
    """Bytes that a decoder does not know; another one may."""


def too_long(seconds: float) -> AudioError:
    return AudioError(
        f"it lasts {seconds:.2f} s, and clips over {MAX_SECONDS:g} s are refused; split it"
    )


def join(parts: Iterable[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """The sound of files that were put one after another in one.

    Args:
        parts: of each, float32 [n, channels] and the sampling rate in Hz.

    Raises:
        AudioError: sampling rate or channels change, or they are too long together.
    """
    waves, total, form = [], 0, None
    for wave, rate in parts:
        form = form or (rate, wave.shape[1])
        if form != (rate, wave.shape[1]):
            raise changed(form, (rate, wave.shape[1]))
        waves.append(wave)
        total += len(wave)
        if total > MAX_SECONDS * rate:
            raise too_long(total / rate)
    return (waves[0] if len(waves) == 1 else np.concatenate(waves)), rate


def changed(before: tuple[int, int], after: tuple[int, int]) -> AudioError:
    """Of (sampling rate, channels) that are not the same in all of a file."""
    what = "sampling rate" if before[0] != after[0] else "number of channels"
    index = 0 if before[0] != after[0] else 1
    return AudioError(
        f"its {what} changes from {before[index]} to {after[index]} on the way; split it there"
    )
