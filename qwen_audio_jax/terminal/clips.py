"""Clips that wait for their turn: read from a file."""

import dataclasses
import difflib
import os

import numpy as np

from qwen_audio_jax.audio.decode import AudioError, decode, suspicion
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.terminal.regular_files import size_of

_MOST_BYTES = 1 << 30
"""An hour, the longest clip that is read, takes less in any form that people record in."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip.

    Attributes:
        name: for people.
        wave: float32 [samples], mono at 16 kHz.
    """

    name: str
    wave: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.wave) / SAMPLE_RATE

    @property
    def suspicion(self) -> str:
        """What is odd about its sound, a clause; "" if nothing."""
        return suspicion(self.wave)


def read_clip(path: str) -> Clip:
    """Reads a file.

    Raises:
        ValueError: it cannot be used; the sentence names it, the reason and the mend.
    """
    try:
        data = _bytes_of(path)
        return Clip(os.path.basename(path), decode(data))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; {_near(path)}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    except AudioError as error:
        raise ValueError(f"{path}: {error}") from None


def _bytes_of(path: str) -> bytes:
    size = size_of(path, "save the sound to a file")
    if size > _MOST_BYTES:
        raise ValueError(
            f"{path}: has {size / 2**30:.1f} GiB, and {_MOST_BYTES >> 30} is the most "
            "that is read; cut out the part that you mean"
        )
    with open(path, "rb") as file:
        return file.read()


def _near(path: str) -> str:
    """What to do about a file that is not there."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return f"nor is there a folder {folder}" if folder else "Tab completes names"
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {os.path.join(folder, near[0])}?"
    return "Tab completes names"
