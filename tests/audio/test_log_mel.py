"""Log-mel of a clip's own length against the 30-second window of the originals."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import subprocess
import sys

import hypothesis
import hypothesis.extra.numpy
import librosa
import numpy as np
import pytest
from hypothesis import strategies

from qwen_audio_jax.audio import log_mel_kernel
from qwen_audio_jax.audio.lengths import mel_frames, packed_frames
from qwen_audio_jax.audio.log_mel import log_mel

GOLDEN_TOLERANCE = 5e-5
TOLERANCE = 4e-7
"""To the float64 truth, where values are around 1."""


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
    np.testing.assert_allclose(mel[:3000], expected, rtol=0, atol=TOLERANCE)
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
    np.testing.assert_allclose(mel, whole_window(waveform, 80), rtol=0, atol=TOLERANCE)


def tone(hertz: float, samples: int = 32000) -> np.ndarray:
    return np.sin(2 * np.pi * hertz / 16000 * np.arange(samples)).astype(np.float32)


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize(
    "waveform",
    [
        tone(440),
        0.9 * tone(7990),
        np.sign(tone(100)),
        np.tile(np.float32([1, -1]), 9000),
        np.cumsum(tone(3), dtype=np.float32) / 1000,
        np.ones(32000, np.float32),
        (0.01 + 1e-5 * noise(32000)).astype(np.float32),
        np.clip(50 * noise(32000), -1, 1),
        np.eye(1, 32000, 5000, dtype=np.float32)[0],
        np.concatenate([np.zeros(479_900, np.float32), noise(100)]),
        np.ones(1, np.float32),
        noise(201),
        32768 * noise(32000),
        1e9 * noise(32000),
    ],
    ids=[
        *["tone", "high tone", "square", "Nyquist", "slow", "DC", "DC and hiss", "clipped"],
        *["impulse", "end of 30 s", "one sample", "201 samples", "int16's scale", "1e9"],
    ],
)
def test_float64_decides_in_every_bin(waveform, mel_bins):
    """In float32 transforms, bins far below a loud one are 1e-5 to 1e-4 away."""
    expected = whole_window(waveform, mel_bins)
    np.testing.assert_allclose(log_mel(waveform, mel_bins), expected, rtol=0, atol=6e-7)


@pytest.mark.parametrize("mel_bins", [1, 16, 40, 100])
def test_other_numbers_of_bins(mel_bins):
    expected = whole_window(noise(8000), mel_bins)
    got = log_mel(noise(8000), mel_bins)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("frames", [0, 1, 31, 32, 33, 100, 302, 303, 2999, 3000, 3004])
def test_frames_are_those_of_the_window(frames):
    """Whatever is asked for; the loudest frame, which sets the floor, may not be."""
    waveform = np.concatenate([1e-3 * noise(40000), noise(8000)])
    whole = np.concatenate([log_mel(waveform, 80), np.zeros((4, 80), np.float32)])
    assert np.array_equal(log_mel(waveform, 80, frames), whole[:frames])


def test_any_layout_gives_the_same():
    waveform = noise(9000)
    read_only = waveform.copy()
    read_only.flags.writeable = False
    strided = np.repeat(waveform, 2)[::2]
    for other in (read_only, strided, waveform.astype(np.float64)):
        assert np.array_equal(log_mel(other, 80, 60), log_mel(waveform, 80, 60))
    assert waveform.flags.writeable


def test_threads_and_clips_before_change_nothing():
    lengths = [480_000, 480, 48_000, 20_001, 5_120, 479_999, 1, 160] * 3
    clips = [10.0 ** (i % 7 - 5) * noise(n, i) for i, n in enumerate(lengths)]
    alone = [log_mel(clip, 80 + 48 * (i % 2), 40) for i, clip in enumerate(clips)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        numbers = range(len(clips) - 1, -1, -1)
        others = pool.map(lambda i: log_mel(clips[i], 80 + 48 * (i % 2), 40), numbers)
        for i, other in zip(numbers, others, strict=True):
            assert np.array_equal(other, alone[i])


def digest() -> str:
    """Of features of clips of several kinds."""
    clips = [noise(9000), 1e-5 * noise(481), tone(440, 8000), np.zeros(600, np.float32)]
    features = [log_mel(clip, bins).tobytes() for clip in clips for bins in (80, 128)]
    return hashlib.sha256(b"".join(features)).hexdigest()


def test_another_processor_gives_the_same_bits(tmp_path):
    """A resumed run may go on on another machine, and two machines may share one."""
    plainest = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)]),
    }
    code = f"from {__name__} import digest; print(digest())"
    command = [sys.executable, "-c", code]
    there = subprocess.check_output(command, env=os.environ | plainest, text=True)
    assert there.strip() == digest()


@pytest.mark.parametrize("fault", ["damaged", "no room", "no place"])
def test_a_cache_that_fails_is_done_without(fault, monkeypatch):
    errors = {"damaged": EOFError, "no room": OSError, "no place": RuntimeError}
    compiled = []

    def njit(signature, *, cache=False, **options):
        if cache:
            raise errors[fault]
        compiled.append((signature, options))
        return lambda function: function

    monkeypatch.setattr(log_mel_kernel.numba, "njit", njit)
    assert log_mel_kernel.mel_levels.__wrapped__() is log_mel_kernel._mel_levels
    assert len(compiled) == 1


any_float = strategies.floats(width=32, allow_nan=False, allow_infinity=False)
any_clip = hypothesis.extra.numpy.arrays(
    np.float32, strategies.integers(1, 1000), elements=any_float, fill=any_float
)


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(waveform=any_clip, scale=strategies.sampled_from([1.0, 1e-30, 1e-22]))
def test_a_finite_clip_has_finite_features_or_is_refused(waveform, scale):
    waveform = waveform * np.float32(scale)
    if np.abs(waveform).max() <= 1e16:
        assert np.isfinite(log_mel(waveform, 80, 12)).all()
        return
    # From here on a single loud sample, or a steady level, may still have its place in float32.
    with contextlib.suppress(ValueError):
        assert np.isfinite(log_mel(waveform, 80, 12)).all()


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf"), (1e30, "1e+30"), (-3e38, "3e+38")],
)
@pytest.mark.parametrize("place", [0, 4999, 9999])
def test_refuses_samples_that_are_no_sound(value, told, place):
    waveform = noise(10_000)
    waveform[place] = value
    with pytest.raises(ValueError, match=f"the largest is {told.replace('+', '.')}$"):
        log_mel(waveform, 80, 20)


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
        np.testing.assert_allclose(mel, golden[f"{name}.numpy"], rtol=0, atol=TOLERANCE)
        # The float32 path is itself up to 5.13e-5 away from the float64 one.
        apart = info[f"{mel_bins}.{name}"]["max_abs_torch_vs_numpy"]
        np.testing.assert_allclose(mel, golden[f"{name}.torch"], atol=max(apart, 1e-6) + 1e-6)
