"""What a clip is refused with, and the limits that all decoders share."""

import contextlib
import contextvars
import math
from collections.abc import Iterable, Iterator

import numpy as np

MAX_SECONDS = 3600.0
"""Longer files are taken for a mistake; what training takes, `config.data.max_seconds` says."""

TOLERANCE_SECONDS = 0.1
"""Sound that no header promises exactly may differ by so much: padding, a codec's last frame."""


_MOST: contextvars.ContextVar[float] = contextvars.ContextVar("most", default=math.inf)
"""Numbers, samples of all channels, that a clip may decode to. Every decoder would hand it on."""


_LONGEST: contextvars.ContextVar[float] = contextvars.ContextVar("longest", default=MAX_SECONDS)
"""Seconds that a clip may last, likewise."""


class AudioError(ValueError):
    """A clip that cannot be used. The message is the reason, one sentence."""


class UnreadableError(AudioError):
    """Bytes that a decoder does not know; another one may."""


def too_long(seconds: float) -> AudioError:
    return AudioError(
        f"it lasts {seconds:.2f} s, and clips over {longest():g} s are refused; split it"
    )


def longest() -> float:
    """Seconds that a clip may last here."""
    return _LONGEST.get()


@contextlib.contextmanager
def at_most(numbers: float, seconds: float = MAX_SECONDS) -> Iterator[None]:
    """Lets no clip decode to more numbers, samples of all channels: a small file may hold hours.
    Nor may it last more seconds.
    """
    tokens = _MOST.set(numbers), _LONGEST.set(seconds)
    try:
        yield
    finally:
        _MOST.reset(tokens[0])
        _LONGEST.reset(tokens[1])


def check_length(samples: int, channels: int, rate: float) -> None:
    """Raises AudioError: a clip is too long, or more than whoever decodes it has room for."""
    if samples > longest() * rate:
        raise too_long(samples / rate)
    if samples * channels > _MOST.get():
        raise AudioError(
            f"it lasts {samples / rate:.1f} s with {channels} channel{'s' * (channels != 1)} of "
            f"{rate:,} Hz, which is more than there is room for here; send less, or as 16 kHz mono"
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
        check_length(total, wave.shape[1], rate)
    return (waves[0] if len(waves) == 1 else np.concatenate(waves)), rate


def changed(before: tuple[int, int], after: tuple[int, int]) -> AudioError:
    """Of (sampling rate, channels) that are not the same in all of a file."""
    what = "sampling rate" if before[0] != after[0] else "number of channels"
    index = 0 if before[0] != after[0] else 1
    return AudioError(
        f"its {what} changes from {before[index]} to {after[index]} on the way; split it there"
    )
