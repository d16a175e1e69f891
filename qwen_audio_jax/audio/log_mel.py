"""Whisper's log-mel features, of a clip's own length instead of a 30-second window."""

import functools
import threading

import librosa
import numpy as np

from qwen_audio_jax.audio import log_mel_kernel as kernel
from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE, WINDOW_FRAMES, WINDOW_SAMPLES

_EDGE = kernel.N_FFT // 2


class _Scratch(threading.local):
    """Of each thread its own: memory asked for anew costs a page fault every 4 KB."""

    def __init__(self):
        self.arrays = kernel.scratch()


_scratch = _Scratch()


def log_mel(waveform: np.ndarray, mel_bins: int, frames: int | None = None) -> np.ndarray:
    """The first frames of the log-mel that the originals compute of the clip padded to 30 s.

    25 ms periodic Hann window, 10 ms hop, centred frames, power spectrum, Slaney mel bank, log10
    clamped at 1e-10, floored 8 below the clip's own maximum, (x + 4) / 4. Only frames that the clip
    reaches are computed; zero padding never raises the maximum, so the rest is known. Follows
    `log_mel_spectrogram` of OpenAI Whisper and Qwen-Audio, and `WhisperFeatureExtractor`.

    Args:
        waveform: float32 [S] mono at 16 kHz, full scale 1.
        mel_bins: M, 80 in Qwen-Audio, 128 in Qwen2-Audio.
        frames: F, how many to return, see `lengths.packed_frames`; None means the 30-second
            window's 3000.

    Returns:
        float32 [F, M], always finite. Frames past the 30-second window are 0, which is what the
        convolutions of the originals see there.

    Raises:
        ValueError: the waveform is not one-dimensional, empty, or longer than 30 s; a sample is
            not finite, or so large (above 1e16) that an energy would not be.
    """
    if waveform.ndim != 1 or not 0 < len(waveform) <= WINDOW_SAMPLES:
        raise ValueError(
            f"waveform: must be [samples] with 1 to {WINDOW_SAMPLES} samples, not {waveform.shape}"
        )
    frames = WINDOW_FRAMES if frames is None else frames
    features = np.empty((frames, mel_bins), np.float32)
    reached = min((len(waveform) + _EDGE - 1) // HOP + 1, WINDOW_FRAMES)
    # Frames that are not asked for can hold the clip's maximum, so they are computed as well.
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(waveform, np.float32)
    bank = _mel_bank(mel_bins)
    top = kernel.mel_levels()(samples, reached, *bank, features, _scratch.arrays)
    if not np.isfinite(top):
        raise ValueError(
            "waveform: its samples must be numbers of a sane level (full scale is 1), and the "
            f"largest is {np.abs(waveform).max():g}"
        )
    floor = max(top - np.float32(2), np.float32(-1.5))
    known = min(frames, reached)
    np.maximum(features[:known], floor, out=features[:known])
    features[known:WINDOW_FRAMES] = floor
    features[WINDOW_FRAMES:] = 0.0
    return features


@functools.cache
def _mel_bank(mel_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each mel bin the first FFT frequency it hears and how many, int64 [M]; their weights.

    Slaney scale and area normalisation, 0 to 8 kHz. A bin hears few frequencies, one beside the
    other. The weights, float32 [M, most], are padded with zeros to a multiple of `kernel.GROUP`.
    """
    bank = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=kernel.N_FFT, n_mels=mel_bins, dtype=np.float32
    )
    heard = bank != 0
    counts = -(-np.maximum(heard.sum(axis=1), 1) // kernel.GROUP) * kernel.GROUP
    firsts = np.minimum(heard.argmax(axis=1), kernel.FREQUENCIES - counts)
    weights = np.zeros((mel_bins, counts.max()), np.float32)
    for m, (first, count) in enumerate(zip(firsts, counts, strict=True)):
        weights[m, :count] = bank[m, first : first + count]
    return firsts, counts, weights
