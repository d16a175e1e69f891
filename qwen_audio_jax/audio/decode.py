"""Encoded audio to a 16 kHz mono waveform. Nothing is cut, clipped or repaired silently."""

import io

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16000
MAX_SECONDS = 30.0
MIN_SAMPLES = 480
"""The shortest clip that makes an audio token in both families (30 ms)."""


class AudioError(ValueError):
    """A clip that cannot be used. The message is the reason, one sentence."""


def decode(data: bytes) -> np.ndarray:
    """Decodes FLAC, WAV, Ogg or MP3.

    Channels are averaged; other sampling rates are converted by soxr's high-quality filter.

    Args:
        data: the file's bytes.

    Returns:
        float32 [samples] at 16 kHz, ceil(n * 16000 / rate) of them.

    Raises:
        AudioError: not audio, broken off, empty, too short or too long, or not finite.
    """
    wave, rate = _read(data)
    if len(wave) == 0:
        raise AudioError("the clip has no samples")
    if not np.isfinite(wave).all():
        bad = np.count_nonzero(~np.isfinite(wave).all(axis=1))
        raise AudioError(f"{bad} of its {len(wave)} samples are not numbers (NaN or infinite)")
    if len(wave) > MAX_SECONDS * rate:
        raise AudioError(
            f"it lasts {len(wave) / rate:.2f} s, and clips over {MAX_SECONDS:g} s are not taken; "
            "split it"
        )
    wave = resample(wave.mean(axis=1, dtype=np.float32), rate)
    if len(wave) < MIN_SAMPLES:
        raise AudioError(
            f"it lasts {len(wave) / SAMPLE_RATE * 1000:.0f} ms, too short for one audio token "
            f"({MIN_SAMPLES / SAMPLE_RATE * 1000:.0f} ms)"
        )
    return wave


def resample(wave: np.ndarray, rate: int) -> np.ndarray:
    """float32 [n] at `rate` to float32 [ceil(n * 16000 / rate)] at 16 kHz."""
    if rate == SAMPLE_RATE:
        return wave
    length = -(-len(wave) * SAMPLE_RATE // rate)
    converted = soxr.resample(wave, rate, SAMPLE_RATE, quality="HQ")
    # soxr rounds the length its own way, by a sample at most.
    return np.pad(converted, (0, max(0, length - len(converted))))[:length].astype(np.float32)


def _read(data: bytes) -> tuple[np.ndarray, int]:
    """Returns float32 [n, channels] and the sampling rate."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            promised = file.frames
            wave = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(error).rpartition("': ")[2] or str(error)
        raise AudioError(f"it cannot be read as WAV, FLAC, Ogg or MP3 ({reason})") from error
    # Only a header can promise more than there is; MP3 has none, and its count is an estimate.
    if len(wave) < promised and file.format != "MP3":
        raise AudioError(f"it is broken off: {len(wave)} of {promised} samples are there")
    return wave, rate
