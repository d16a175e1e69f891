"""No accepted clip makes features that are not finite; odd levels are named."""

import io
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qwen_audio_jax.audio.decode import MAX_LEVEL, AudioError, decode, suspicion
from qwen_audio_jax.audio.log_mel import log_mel

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def float_wav(wave: np.ndarray, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def noise(level: float) -> np.ndarray:
    wave = np.random.default_rng(0).standard_normal(8000)
    return (wave / np.abs(wave).max() * level).astype(np.float32)


@given(
    samples=arrays.arrays(np.float32, 600, elements=FINITE, fill=FINITE),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 32768.0, MAX_LEVEL]),
    rate=st.sampled_from([8000, 16000]),
)
@settings(max_examples=30)
def test_finite_in_finite_out(samples, scale, rate):
    with np.errstate(over="ignore"):
        peak = np.abs(samples).max()
        wave = samples if scale == 1.0 or peak == 0 else samples / peak * np.float32(scale)
    data = float_wav(wave, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if np.abs(wave).max() > MAX_LEVEL:
            with pytest.raises(AudioError, match="times full scale"):
                decode(data)
            return
        for mel_bins in (80, 128):
            assert np.isfinite(log_mel(decode(data), mel_bins)).all()


@pytest.mark.parametrize("level", [2.2e9, 1e30, 3e38])
def test_levels_that_no_recording_has_are_refused(level):
    with pytest.raises(AudioError, match=r"loudest sample is .* times full scale, and no record"):
        decode(float_wav(noise(level)))


@pytest.mark.parametrize("level", [1e-9, 0.01, 1.0, 3.0, 15.0])
def test_usual_levels_are_not_suspicious(level):
    assert suspicion(decode(float_wav(noise(level)))) == ""
    assert suspicion(np.zeros(0, np.float32)) == ""


def test_silence_is_named():
    assert "it is silent" in suspicion(decode(float_wav(noise(0.0))))


@pytest.mark.parametrize(
    ("level", "bits"), [(100, 16), (9830, 16), (32768, 16), (3e5, 24), (8388608, 24), (2**31, 32)]
)
def test_integers_written_as_floats_are_named(level, bits):
    for wave in (noise(level), -noise(level)):
        assert f"as if {bits}-bit integers" in suspicion(decode(float_wav(wave)))


def test_a_reported_file(references):
    with pytest.raises(AudioError, match="times full scale"):
        decode((references / "faults" / "float_1e30.wav").read_bytes())
