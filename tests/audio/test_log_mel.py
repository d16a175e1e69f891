"""Log-mel of a clip's own length against the 30-second window of the originals."""

import json

import librosa
import numpy as np
import pytest

from qwen_audio_jax.audio.lengths import mel_frames, packed_frames
from qwen_audio_jax.audio.log_mel import log_mel

GOLDEN_TOLERANCE = 5e-5


def whole_window(waveform: np.ndarray, mel_bins: int) -> np.ndarray:
    """float64 [3000, M], computed plainly by librosa from the waveform padded to 30 s."""
    padded = np.zeros(480000)
    padded[: len(waveform)] = waveform
    spectrum = librosa.stft(
        padded, n_fft=400, hop_length=160, window="hann", center=True, pad_mode="reflect"
    )
    bank = librosa.filters.mel(sr=16000, n_fft=400, n_mels=mel_bins, dtype=np.float64)
    mel = np.log10(np.maximum(bank @ np.abs(spectrum[:, :-1]) ** 2, 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4).T


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("samples", [480, 481, 639, 8000, 19752, 479600, 479801, 479999, 480000])
def test_is_the_beginning_of_the_whole_window(samples, rounding, mel_bins):
    waveform = noise(samples)
    frames = packed_frames(mel_frames(samples, rounding))
    mel = log_mel(waveform, mel_bins, frames)
    assert mel.shape == (frames, mel_bins)
    assert mel.dtype == np.float32
    expected = whole_window(waveform, mel_bins)[:frames]
    np.testing.assert_allclose(mel[:3000], expected, atol=1e-6)
    assert not mel[3000:].any()


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(4000, np.float32),
        np.full(4000, 1e-6, np.float32),
        np.eye(1, 4000, 0, dtype=np.float32)[0],
        np.eye(1, 4159, 4158, dtype=np.float32)[0],
        1e-4 * noise(4000),
        np.concatenate([np.zeros(3000, np.float32), noise(1159)]),
    ],
    ids=["silence", "near-silence", "first sample", "last sample", "quiet", "end only"],
)
def test_floor_is_that_of_the_whole_window(waveform):
    mel = log_mel(waveform, 80)
    assert mel.shape == (3000, 80)
    np.testing.assert_allclose(mel, whole_window(waveform, 80), atol=1e-6)


def test_silence_is_not_zero():
    assert (log_mel(np.zeros(4000, np.float32), 128, 28) == -1.5).all()


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros(480001), np.zeros((2, 4000))])
def test_refuses_other_shapes(waveform):
    with pytest.raises(ValueError, match="waveform"):
        log_mel(waveform, 80)


def test_qwen_audio_goldens(references):
    folder = references / "golden/qwen_audio/mel"
    for row in json.loads((folder / "index.json").read_text()):
        golden = np.load(folder / row["file"])
        waveform = golden["waveform_int16"][:480000].astype(np.float32) / 32768
        window = golden["log_mel_padded30s"].T
        frames = packed_frames(row["mel_len"])
        mel = log_mel(waveform, 80, frames)
        np.testing.assert_allclose(mel[:3000], window[:frames], atol=GOLDEN_TOLERANCE)
        np.testing.assert_allclose(log_mel(waveform, 80), window, atol=GOLDEN_TOLERANCE)


@pytest.mark.parametrize("mel_bins", [80, 128])
def test_qwen2_audio_goldens(references, mel_bins):
    folder = references / "golden/qwen2_audio/mel"
    waveforms = np.load(folder / "waveforms.npz")
    golden = np.load(folder / f"mel{mel_bins}.npz")
    info = json.loads((folder / "info.json").read_text())
    for name in ("chirp", "noise", "silence", "half", "long"):
        mel = log_mel(waveforms[name][:480000], mel_bins).T
        np.testing.assert_allclose(mel, golden[f"{name}.numpy"], atol=1e-6)
        # The float32 path is itself up to 5.13e-5 away from the float64 one.
        apart = info[f"{mel_bins}.{name}"]["max_abs_torch_vs_numpy"]
        np.testing.assert_allclose(mel, golden[f"{name}.torch"], atol=max(apart, 1e-6) + 1e-6)
