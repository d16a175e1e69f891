"""SpecAugment (Park et al., 2019): warps and masks log-mel features in training."""

import dataclasses
from typing import Annotated

import numpy as np

from qwen_audio_jax.config_fields import Range


@dataclasses.dataclass(frozen=True)
class SpecAugment:
    """What is done to each clip. The defaults are the paper's LibriSpeech Basic (LB) policy.

    Attributes:
        frequency_masks: how many bands of mel bins are masked (mF).
        frequency_width: a band's greatest width in bins (F), where there are 80 of them; with more
            mel bins it is as much wider.
        time_masks: how many stretches of frames are masked (mT).
        time_width: a stretch's greatest length in frames of 10 ms (T).
        time_share: a stretch's greatest share of the clip (p).
        time_warp: by less than how many frames of 10 ms a point of the clip is moved (W); clips
            that have no point so far from both ends are not warped. 0 is off.
    """

    frequency_masks: Annotated[int, Range(0, 1000)] = 1
    frequency_width: Annotated[int, Range(0, 80)] = 27
    time_masks: Annotated[int, Range(0, 1000)] = 1
    time_width: Annotated[int, Range(0, 360_000)] = 100
    time_share: Annotated[float, Range(0, 1)] = 1.0
    time_warp: Annotated[int, Range(0, 360_000)] = 80

    def __call__(self, mel: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
        """A changed copy.

        Masked values become the clip's mean, as the paper's do, whose features have mean 0. How the
        originals of this project filled them is not known.

        Args:
            mel: float32 [packed frames, M].
            frames: valid frames; those after them, the margin, stay as they are.
            random: what decides.
        """
        valid = mel[:frames]
        valid = self._warp(valid, random)
        mean = valid.mean(dtype=np.float64) if frames else 0.0
        M = mel.shape[1]
        for _ in range(self.frequency_masks):
            band = _stretch(M, round(self.frequency_width * M / 80), random)
            valid[:, band] = mean
        longest = min(self.time_width, int(self.time_share * frames))
        for _ in range(self.time_masks):
            valid[_stretch(frames, longest, random)] = mean
        return np.concatenate([valid, mel[frames:]])

    def _warp(self, mel: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Moves one point of time by less than W frames; the rest follows linearly."""
        frames, W = len(mel), self.time_warp
        if not W or frames <= 2 * W:
            return mel.copy()
        point = random.integers(W, frames - W)
        moved = point + random.integers(-W + 1, W)
        last = frames - 1
        at = np.interp(np.arange(frames), [0, moved, last], [0, point, last])
        below = np.minimum(at.astype(np.int64), last - 1)
        share = (at - below).astype(mel.dtype)[:, None]
        return mel[below] * (1 - share) + mel[below + 1] * share


def _stretch(length: int, longest: int, random: np.random.Generator) -> slice:
    """A stretch of 0 to `longest` places, as often of one length as of another."""
    width = min(random.integers(0, longest + 1), length)
    first = random.integers(0, length - width + 1)
    return slice(first, first + width)


OFF = SpecAugment(frequency_masks=0, time_masks=0, time_warp=0)
