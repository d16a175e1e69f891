"""From a waveform to an encoded clip: level, background noise, FLAC."""

import io

import numpy as np
import soundfile

from data_pipelines.sources.synthetic.sounds import SAMPLE_RATE, noise


def clip(
    wave: np.ndarray, rng: np.random.Generator, loudest: float = 0.8, quietest: float = 0.25
) -> bytes:
    """A recording of `wave` [S] at a drawn level, with light noise in two clips of five.

    Args:
        wave: samples at 16 kHz, any level.
        rng: draws level and noise.
        loudest: highest peak, of full scale.
        quietest: lowest peak.

    Returns:
        FLAC, 16 bit, mono, 16 kHz.
    """
    peak = quietest * (loudest / quietest) ** rng.uniform()
    wave = wave * (peak / np.abs(wave).max())
    if rng.random() < 0.4:
        below = 10 ** (-rng.uniform(34, 48) / 20)
        hiss = noise(wave.size / SAMPLE_RATE, 30, 7800, rng, slope=rng.uniform(-0.6, 0))
        wave = wave + peak * below * np.resize(hiss, wave.size)
    return flac(wave)


def flac(wave: np.ndarray) -> bytes:
    """`wave` [S] in -1..1 at 16 kHz as 16-bit FLAC."""
    file = io.BytesIO()
    pcm = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    soundfile.write(file, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def silence(seconds: float) -> np.ndarray:
    """Zeros, [S]."""
    return np.zeros(int(seconds * SAMPLE_RATE))
