"""Encoded audio to a 16 kHz mono waveform. Nothing is cut, clipped or repaired silently.

Whatever is put together of several files, or does not tell its length, gives all of its sound or an
error. Each kind of file has one decoder that reads it, and a count of its own that the decoder has
to meet.
"""

import math

import numpy as np
import soxr

from qwen_audio_jax.audio.formats import (
    chunks,
    containers,
    ffmpeg,
    flac,
    frames,
    kinds,
    mpeg,
    ogg,
    riff,
    sndfile,
)
from qwen_audio_jax.audio.formats.errors import (
    MAX_SECONDS,
    TOLERANCE_SECONDS,
    AudioError,
    UnreadableError,
    at_most,
)
from qwen_audio_jax.audio.lengths import MIN_SAMPLES, SAMPLE_RATE

__all__ = [
    "MAX_LEVEL",
    "MAX_SECONDS",
    "AudioError",
    "check_level",
    "decode",
    "read_samples",
    "suspicion",
]

MAX_LEVEL = 2.0**31
"""Of a sample, full scale being 1: no integer format has larger numbers, scaled or not."""

_SUSPICIOUS_LEVEL = 16.0
"""24 dB above full scale: more than a mix of floats ever overshoots."""

_BY_LIBSNDFILE = ("riff", "wav", "w64", "aiff", "au", "caf", "nistsphere", "voc")
"""Kinds of file that FFmpeg is asked about as well, see `_by_libsndfile`."""


def decode(data: bytes, most: float = math.inf, seconds: float = MAX_SECONDS) -> np.ndarray:
    """Decodes a clip: WAV, FLAC, Ogg, MP3, and what docs/data.md lists besides.

    Channels are averaged; other sampling rates are converted by soxr's high-quality filter.

    Args:
        data: the file's bytes.
        most: numbers, samples of all channels, that it may hold; more are not decoded.
        seconds: that it may last; a longer one is taken for a mistake.

    Returns:
        float32 [samples] at 16 kHz, ceil(n * 16000 / rate) of them, none larger than `MAX_LEVEL`.

    Raises:
        AudioError: not audio, broken off, damaged, empty, too short, too long or too loud.
    """
    with at_most(most, seconds):
        wave, rate = read_samples(data)
    if len(wave) == 0:
        raise AudioError("the clip has no samples")
    check_level(wave)
    mono = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1, dtype=np.float32)
    wave = resample(mono, rate)
    if len(wave) < MIN_SAMPLES:
        raise AudioError(
            f"it is too short for one audio token: {len(wave)} samples at 16 kHz, and at least "
            f"{MIN_SAMPLES} (30 ms) are needed"
        )
    return wave


def resample(wave: np.ndarray, rate: int) -> np.ndarray:
    """float32 [n] at `rate` to float32 [ceil(n * 16000 / rate)] at 16 kHz."""
    if rate == SAMPLE_RATE:
        return wave
    length = -(-len(wave) * SAMPLE_RATE // rate)
    converted = soxr.resample(wave, rate, SAMPLE_RATE, quality="HQ")
    # soxr rounds the length its own way, by a sample at most.
    if len(converted) < length:
        converted = np.pad(converted, (0, length - len(converted)))
    return converted[:length]


def suspicion(wave: np.ndarray) -> str:
    """What is odd about a clip that `decode` accepts, a clause for a list of such; "" if nothing.

    Integers that were written as floats without dividing them have a level of their own, and so
    have their log-mel features.

    Args:
        wave: float32 [samples], full scale 1.
    """
    peak = max(float(wave.max()), -float(wave.min())) if len(wave) else 0.0
    if len(wave) and not peak:
        return "it is silent, or its channels cancel each other out in the mix"
    if peak <= _SUSPICIOUS_LEVEL:
        return ""
    bits = next(bits for bits in (16, 24, 32) if peak < 2.0 ** (bits - 1) * 1.5)
    return (
        f"its samples go far beyond full scale, as if {bits}-bit integers had been written as "
        f"floats; divide them by {2 ** (bits - 1):,}"
    )


def read_samples(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a file as it has them.

    Args:
        data: the file's bytes.

    Returns:
        float32 [n, channels] and the sampling rate in Hz.

    Raises:
        AudioError: not audio, broken off, damaged, or too long.
    """
    name, data = kinds.find(data)
    if name == "mp3":
        return mpeg.read(data)
    if name == "flac":
        return flac.read(data)
    if name == "ogg":
        return ogg.read(data)
    if name == "riff":
        if riff.is_plain(data):
            return riff.read(data)
        if sound := riff.mp3(data):
            return read_samples(sound)
    if name in _BY_LIBSNDFILE:
        return _by_libsndfile(data, name)
    if not name:
        raise AudioError(kinds.why_not_audio(data))
    if name == "aac":
        data = frames.check_adts(data)
    if name == "amr":
        data = frames.check_amr(data)
    if fault := containers.fault(data, name):
        raise AudioError(fault)
    return ffmpeg.read(data, name)


def check_level(wave: np.ndarray) -> None:
    """Refuses samples [n, channels], n > 0, that are no numbers or larger than `MAX_LEVEL`.

    Raises:
        AudioError: they are.
    """
    # Written so that NaN fails.
    if wave.min() >= -MAX_LEVEL and wave.max() <= MAX_LEVEL:
        return
    finite = np.isfinite(wave).all(axis=1)
    if not finite.all():
        bad = np.count_nonzero(~finite)
        raise AudioError(f"{bad} of its {len(wave)} samples are not numbers (NaN or infinite)")
    raise AudioError(
        f"its loudest sample is {np.abs(wave).max():.3g} times full scale, and no recording is "
        f"over {MAX_LEVEL:.3g}: are its numbers of another type or byte order?"
    )


def _by_libsndfile(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """What libsndfile reads, if FFmpeg does not find more; else what FFmpeg reads."""
    demuxer = "wav" if name == "riff" else name
    if name in ("wav", "w64"):
        riff.format_of(chunks.content(data, name, b"fmt "))
    sound, missing, behind = chunks.around_sound(data, name)
    if missing:
        raise AudioError(f"it is broken off: {sound - missing} of {sound} bytes of sound are there")
    if name == "w64":
        data = data[
            : chunks.end_of_sound(data, name)
        ]  # libsndfile takes all that follows for sound
    table = chunks.told_by_caf(data) if name == "caf" else None
    try:
        if table:
            wave, rate = _by_packet_table(data, *table)
            found = 0.0
        else:
            wave, rate = riff.read(data) if name == "riff" else sndfile.read(data)
            found = ffmpeg.seconds(data, demuxer)
    except UnreadableError as error:
        try:
            wave, rate = ffmpeg.read(data, demuxer)
        except AudioError:
            raise error from None
        found = 0.0
    if len(behind) * len(wave) > TOLERANCE_SECONDS * rate * sound or kinds.find(behind)[0]:
        raise AudioError(
            f"its header tells of {sound} bytes of sound, and {len(behind)} more behind them are "
            "no part of such a file: they may be sound as well"
        )
    if found > len(wave) / rate + TOLERANCE_SECONDS:
        raise AudioError(
            f"its length is not certain: libsndfile finds {len(wave) / rate:.2f} s, and FFmpeg "
            f"{found:.2f} s"
        )
    return wave, rate


def _by_packet_table(data: bytes, delay: int, samples: int, padding: int) -> tuple[np.ndarray, int]:
    """A CAF of compressed sound: so many samples of it behind `delay` and before `padding`.

    By FFmpeg, which notices damaged ALAC and libsndfile does not. Its own trimming, and
    libsndfile's, takes the padding off a last packet that has none.
    """
    wave, rate = ffmpeg.read(data, "caf", trim=False)
    told = chunks.rate_of_caf(data)
    if rate != told:
        raise AudioError(f"its header tells of {told:g} Hz, and its codec of {rate} Hz")
    wave = wave[delay:]
    if not samples <= len(wave) <= samples + padding + TOLERANCE_SECONDS * rate:
        raise AudioError(f"its packet table tells of {samples} samples, not of {len(wave)}")
    return wave[:samples], rate
