"""What is done to waveforms in training: speed, noise and gain. All of it is off by default."""

import dataclasses
import math
from collections.abc import Collection
from typing import Annotated

import numpy as np

from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.config_fields import Example, Items, Range, Rising

CHANGES = ("speed", "noise", "gain")
"""Kinds of change; which of them a task's label survives, its row in the task table says."""

Decibels = Annotated[float, Range(-100, 100)]


@dataclasses.dataclass(frozen=True)
class WaveAugment:
    """What may be done to a clip whose label survives it.

    Attributes:
        speeds: factors, one of which is drawn for each clip, evenly; 1.1 plays it faster and
            higher (Ko et al., 2015, who take 0.9, 1.0 and 1.1).
        noise_share: share of clips that get noise, white or falling by 3 dB an octave.
        snr_db: lowest and highest ratio of the clip's power to the noise's, drawn evenly in dB.
        gain_db: lowest and highest gain, drawn evenly in dB.
    """

    speeds: Annotated[
        tuple[Annotated[float, Range(0.5, 2)], ...], Items(1, 100), Example("(0.9, 1.0, 1.1)")
    ] = (1.0,)
    noise_share: Annotated[float, Range(0, 1)] = 0.0
    snr_db: Annotated[tuple[Decibels, Decibels], Rising(), Example("(10.0, 30.0)")] = (10.0, 30.0)
    gain_db: Annotated[tuple[Decibels, Decibels], Rising(), Example("(-6.0, 6.0)")] = (0.0, 0.0)

    def rate(self, variant: int) -> int:
        """The sampling rate, in Hz, that a clip is taken to have at one of the speeds."""
        return round(SAMPLE_RATE * self.speeds[variant])

    def __call__(
        self, wave: np.ndarray, survives: Collection[str], random: np.random.Generator
    ) -> np.ndarray:
        """A clip, float32 [S], with noise and gain as they are drawn."""
        if self.noise_share and "noise" in survives and random.random() < self.noise_share:
            wave = with_noise(wave, random.uniform(*self.snr_db), random)
        if any(self.gain_db) and "gain" in survives:
            wave = wave * np.float32(10 ** (random.uniform(*self.gain_db) / 20))
        return wave


OFF = WaveAugment()


def with_noise(wave: np.ndarray, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise, white or pink with even odds, at a ratio of powers.

    A clip without power, all zeros, stays so.
    """
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    noise = random.standard_normal(len(wave))
    if random.random() < 0.5:
        spectrum = np.fft.rfft(noise)
        # Below 50 Hz as flat as there: the encoder hears nothing of it.
        first = max(1, round(50 * len(wave) / SAMPLE_RATE))
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), first))
        noise = np.fft.irfft(spectrum, len(wave))
    noise *= math.sqrt(power / 10 ** (snr_db / 10) / np.mean(np.square(noise)))
    return (wave + noise).astype(np.float32)
