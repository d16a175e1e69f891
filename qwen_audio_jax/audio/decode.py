"""Encoded audio to a 16 kHz mono waveform. Nothing is cut, clipped or repaired silently."""

import io
import re

import miniaudio
import numpy as np
import soundfile
import soxr

from qwen_audio_jax.audio.lengths import MIN_SAMPLES, SAMPLE_RATE

MAX_SECONDS = 3600.0
"""Longer files are taken for a mistake; what training takes, `config.data.max_seconds` says."""


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
    wave, rate = read_samples(data)
    if len(wave) == 0:
        raise AudioError("the clip has no samples")
    if not np.isfinite(wave).all():
        bad = np.count_nonzero(~np.isfinite(wave).all(axis=1))
        raise AudioError(f"{bad} of its {len(wave)} samples are not numbers (NaN or infinite)")
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
    return np.pad(converted, (0, max(0, length - len(converted))))[:length].astype(np.float32)


def read_samples(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a file as it has them.

    Args:
        data: the file's bytes.

    Returns:
        float32 [n, channels] and the sampling rate in Hz.

    Raises:
        AudioError: not audio, broken off, or too long.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, promised = file.samplerate, file.frames
            most = int(MAX_SECONDS * rate)
            # Of an hour-long file there is no need to read more than shows that it is too long.
            wave = _samples(data, file, min(promised, most + 1))
            missing = _missing(data, file, len(wave))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        raise AudioError(f"it cannot be read as WAV, FLAC, Ogg or MP3 ({reason})") from error
    if len(wave) > most:
        raise AudioError(
            f"it lasts {promised / rate:.2f} s, and clips over {MAX_SECONDS:g} s are refused; "
            "split it"
        )
    if missing:
        raise AudioError(f"it is broken off: {missing}")
    return wave, rate


def _samples(data: bytes, file: soundfile.SoundFile, most: int) -> np.ndarray:
    """Float32 [at most `most`, channels] of an opened file."""
    if file.format == "FLAC" and file.subtype == "PCM_16" and most == file.frames:
        try:
            # The same samples as libsndfile's, in two thirds of its time.
            pcm = np.frombuffer(miniaudio.flac_read_s16(data).samples, np.int16)
            return pcm.reshape(-1, file.channels) * np.float32(1 / 32768)
        except miniaudio.DecodeError:
            pass  # let libsndfile say what is wrong
    return file.read(most, dtype="float32", always_2d=True)


def _missing(data: bytes, file: soundfile.SoundFile, samples: int) -> str:
    """What a file that was broken off lacks, or "". libsndfile itself forgives most such files.

    Args:
        data: the file's bytes.
        file: the same, opened.
        samples: how many were read, per channel.
    """
    if file.format == "OGG":
        page = data.rfind(b"OggS")
        lacing = data[page + 27 : page + 27 + data[page + 26]] if len(data) > page + 26 else b""
        complete = lacing and page + 27 + len(lacing) + sum(lacing) <= len(data)
        return "" if complete else "its last Ogg page is incomplete"
    sizes = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    # Writers that stream a WAV put a largest value where they do not know the size.
    if sizes and int(sizes[2]) < int(sizes[1]) < 0x7FFFF000:
        return f"{sizes[2]} of {sizes[1]} bytes of sound are there"
    # Without a Xing or Info frame, the length of an MP3 is only an estimate.
    estimated = file.format == "MP3" and not re.search(b"Xing|Info", data[: 1 << 16])
    if samples < min(file.frames, MAX_SECONDS * file.samplerate) and not estimated:
        return f"{samples} of {file.frames} samples are there"
    return ""
