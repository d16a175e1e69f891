"""Clips cut from recordings: no sample changes, and what is wrong is named."""

import io

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.records import RejectedRecord
from data_pipelines.sources import recordings
from data_pipelines.sources.recordings import clip_of, encoded
from data_pipelines.sources.segments import Segment
from qwen_audio_jax.audio.decode import read_samples

FORMS = {
    "PCM_16": ("wav", "PCM_16"),
    "24 bits": ("flac", "PCM_24"),
    "8 bits": ("wav", "PCM_U8"),
    "A-law": ("wav", "ALAW"),
    "float": ("wav", "FLOAT"),
    "double": ("wav", "DOUBLE"),
    "32 bits": ("wav", "PCM_32"),
}


@pytest.mark.parametrize(("suffix", "subtype"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_segment_has_the_recordings_samples_and_rate(tmp_path, suffix, subtype, channels):
    path = tmp_path / f"a.{suffix}"
    wave = np.random.default_rng(1).normal(0, 1e-3, (44100, channels))
    soundfile.write(path, wave, 44100, subtype=subtype)
    clip = clip_of(path, Segment(0.1, 0.6))
    samples, rate = read_samples(clip)
    assert rate == 44100
    assert np.array_equal(samples, read_samples(path.read_bytes())[0][4410:26460])
    assert encoded(samples, rate, lossy=False) == clip  # nothing in it tells the time of day


@given(
    st.lists(st.integers(-(1 << 15), (1 << 15) - 1), min_size=1, max_size=50),
    st.sampled_from([1, 2, 8, 9]),
    st.sampled_from([7350, 8000, 44100, 65537, 96000, 384000]),
)
def test_sixteen_bits_stay_sixteen_bits(values, channels, rate):
    pcm = np.array(values, np.int16)[:, None].repeat(channels, axis=1)
    clip = encoded(pcm / np.float32(32768), rate, lossy=False)
    samples, found = soundfile.read(io.BytesIO(clip), dtype="int16", always_2d=True)
    assert found == rate
    assert np.array_equal(samples, pcm)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_no_float_is_changed(values):
    wave = np.array(values, np.float32)[:, None]
    samples, _ = soundfile.read(io.BytesIO(encoded(wave, 16000, lossy=False)), dtype="float32")
    assert np.array_equal(samples, wave[:, 0])


def test_lossy_recordings_are_rounded_to_24_bits_unless_they_are_too_loud(tmp_path):
    path = tmp_path / "a.mp3"
    wave = 0.3 * np.sin(np.arange(32000) / 9)
    soundfile.write(path, wave, 16000)
    truth, _ = read_samples(path.read_bytes())
    clip = clip_of(path, Segment(0.5, 1.5))
    samples, _ = read_samples(clip)
    assert clip.startswith(b"fLaC")
    assert np.abs(samples - truth[8000:24000]).max() <= 2.0**-24
    loud = encoded(4 * truth, 16000, lossy=True)
    assert np.array_equal(scipy.io.wavfile.read(io.BytesIO(loud))[1], 4 * truth[:, 0])


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_recording_of_over_an_hour_is_read_at_its_place(tmp_path, suffix):
    path = tmp_path / f"long.{suffix}"
    wave = np.random.default_rng(0).integers(-90, 90, (3700 * 500, 2), np.int16)
    soundfile.write(path, wave, 500)
    samples, rate = read_samples(clip_of(path, Segment(3601.5, 3650.25, (1,))))
    assert rate == 500
    assert np.array_equal(samples[:, 0], wave[1800750:1825125, 1] / np.float32(32768))
    samples, _ = read_samples(clip_of(path, Segment(3690.0)))
    assert len(samples) == 5000
    for segment, says in (
        (Segment(3690.0, 3701.0), "ends at 3701 s, and the recording lasts 3700.00 s"),
        (Segment(3700.0, 3701.0), "is past the end of the recording"),
        (Segment(10.0), "field 'audio': segments over 3600 s are refused; split it"),
    ):
        with pytest.raises(RejectedRecord, match=says):
            clip_of(path, segment)


def test_damage_of_a_long_recording_is_told_where_it_is(tmp_path):
    path = tmp_path / "long.flac"
    wave = np.random.default_rng(0).integers(-90, 90, 3700 * 500, np.int16)
    soundfile.write(path, wave, 500)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert clip_of(path, Segment(10.0, 20.0))
    with pytest.raises(RejectedRecord, match=r"field 'audio': it is damaged from 1800.00 to 1900"):
        clip_of(path, Segment(1800.0, 1900.0))


def test_no_decoder_writes_to_the_terminal(tmp_path, capfd):
    """An MP3 whose header tells another length: libsndfile's decoder has a warning for it."""
    soundfile.write(tmp_path / "one.mp3", 0.3 * np.sin(np.arange(32000) / 9), 16000)
    path = tmp_path / "two.mp3"
    path.write_bytes(2 * (tmp_path / "one.mp3").read_bytes())
    recordings._header(path)
    recordings.size_of(path, Segment(0.0, 2.0))
    assert capfd.readouterr() == ("", "")
