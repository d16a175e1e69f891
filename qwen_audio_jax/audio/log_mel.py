"""Whisper's log-mel features, of a clip's own length instead of a 30-second window."""

import functools

import librosa
import numpy as np
import scipy.fft

from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE

N_FFT = 400
WINDOW_FRAMES = 3000
WINDOW_SAMPLES = WINDOW_FRAMES * HOP
"""The 30 s to which the originals pad every clip."""

_EDGE = N_FFT // 2
_PIECE = 16
"""Mel bins weighed at once."""

_BLOCK = 500
"""Frames transformed at once: few enough for a processor's cache, many enough a call of NumPy."""


def log_mel(waveform: np.ndarray, mel_bins: int, frames: int | None = None) -> np.ndarray:
    """The first frames of the log-mel that the originals compute of the clip padded to 30 s.

    25 ms periodic Hann window, 10 ms hop, centred frames, power spectrum, Slaney mel bank, log10
    clamped at 1e-10, floored 8 below the clip's own maximum, (x + 4) / 4. Only frames that the clip
    reaches are computed; zero padding never raises the maximum, so the rest is known. Follows
    `log_mel_spectrogram` of OpenAI Whisper and Qwen-Audio, and `WhisperFeatureExtractor`.

    Args:
        waveform: float [S] mono at 16 kHz, full scale 1.
        mel_bins: M, 80 in Qwen-Audio, 128 in Qwen2-Audio.
        frames: F, how many to return, see `lengths.packed_frames`; None means the 30-second
            window's 3000.

    Returns:
        float32 [F, M]. Frames past the 30-second window are 0, which is what the convolutions of
        the originals see there.

    Raises:
        ValueError: the waveform is not one-dimensional, empty, or longer than 30 s.
    """
    if waveform.ndim != 1 or not 0 < len(waveform) <= WINDOW_SAMPLES:
        raise ValueError(
            f"waveform: must be [samples] with 1 to {WINDOW_SAMPLES} samples, not {waveform.shape}"
        )
    frames = WINDOW_FRAMES if frames is None else frames
    features = np.empty((frames, mel_bins), np.float32)
    reached = min((len(waveform) + _EDGE - 1) // HOP + 1, WINDOW_FRAMES)
    known = min(frames, reached)
    # Frames that are not asked for can hold the clip's maximum, so they are computed as well.
    mel = features if reached <= frames else np.empty((reached, mel_bins), np.float32)
    mel = mel[:reached]
    _log_power(waveform, mel)

    floor = max(float(mel.max()) - 8.0, -10.0)
    np.maximum(mel[:known], floor, out=features[:known])
    features[known:WINDOW_FRAMES] = floor
    features[:WINDOW_FRAMES] += 4.0
    features[:WINDOW_FRAMES] /= 4.0
    features[WINDOW_FRAMES:] = 0.0
    return features


def _log_power(waveform: np.ndarray, out: np.ndarray) -> None:
    """Writes log10 of the mel energies, clamped, of the frames that overlap the clip."""
    reached, mel_bins = out.shape
    size = min(_BLOCK, reached)
    stretch = np.empty((size - 1) * HOP + N_FFT)
    windows = np.lib.stride_tricks.sliding_window_view(stretch, N_FFT)[::HOP]
    scaled = np.empty((size, N_FFT))
    powers = np.empty((size, N_FFT // 2 + 1), np.float32)
    for first in range(0, reached, size):
        block = slice(first, min(first + size, reached))
        x, power = scaled[: block.stop - first], powers[: block.stop - first]
        # In float32 the rounding of the loudest bin would show in bins 80 dB below it. A sum of
        # powers, none of them negative, loses nothing.
        _read(waveform, first * HOP - _EDGE, stretch)
        np.multiply(windows[: len(x)], _hann(), out=x)
        squares = scipy.fft.rfft(x, axis=-1).view(np.float64)
        np.square(squares, out=squares)
        np.add(squares[:, ::2], squares[:, 1::2], out=power, casting="same_kind")
        mel = out[block]
        for frequencies, bins, weights in _mel_bank(mel_bins):
            np.matmul(power[:, frequencies], weights, out=mel[:, bins])
        np.maximum(mel, np.float32(1e-10), out=mel)
        # NumPy has vector instructions for `log`, not for `log10`.
        np.log(mel, out=mel)
        mel *= np.float32(1 / np.log(10))


def _read(waveform: np.ndarray, start: int, out: np.ndarray) -> None:
    """Copies samples from `start` on, of the clip padded to 30 s and that reflected at its ends."""
    out[:] = 0
    stop = start + len(out)
    first, last = max(start, 0), min(stop, len(waveform))
    out[first - start : max(first, last) - start] = waveform[first:last]
    if start < 0:
        mirrored = waveform[1 : 1 - start]
        out[-start - len(mirrored) : -start] = mirrored[::-1]
    if stop > WINDOW_SAMPLES:
        mirrored = waveform[2 * WINDOW_SAMPLES - 1 - stop : WINDOW_SAMPLES - 1]
        out[len(out) - len(mirrored) :] = mirrored[::-1]


@functools.cache
def _hann() -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


@functools.cache
def _mel_bank(mel_bins: int) -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """The bank in pieces: (FFT frequencies, mel bins, float32 weights between them).

    Slaney scale and area normalisation, 0 to 8 kHz. A mel bin hears few frequencies, so most of the
    whole matrix is zeros.
    """
    bank = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=mel_bins, dtype=np.float32).T
    pieces = []
    for first in range(0, mel_bins, _PIECE):
        bins = slice(first, min(first + _PIECE, mel_bins))
        heard = np.flatnonzero(bank[:, bins].any(axis=1))
        frequencies = slice(heard[0], heard[-1] + 1)
        pieces.append((frequencies, bins, np.ascontiguousarray(bank[frequencies, bins])))
    return tuple(pieces)
