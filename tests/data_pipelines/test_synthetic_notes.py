"""Notes: the pitch, loudness and timbre that the labels name are in the samples."""

import librosa
import numpy as np
import pytest

from data_pipelines.sources.synthetic.notes import INSTRUMENTS, PITCHES, note


def centroid(wave):
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    return (spectrum * np.fft.rfftfreq(wave.size, 1 / 16_000)).sum() / spectrum.sum()


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_pitch(instrument):
    rng = np.random.default_rng(0)
    for pitch in PITCHES[::4]:
        wave = note(instrument, pitch, 100, 0.7, rng)
        found = librosa.yin(wave[800:8000], fmin=200, fmax=1200, sr=16_000, frame_length=1024)
        assert abs(librosa.hz_to_midi(np.median(found)) - pitch) < 0.3


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_velocity_is_loudness_and_brightness(instrument):
    soft, loud = (
        note(instrument, 60, velocity, 0.5, np.random.default_rng(1)) for velocity in (25, 127)
    )
    assert np.abs(loud).max() > 8 * np.abs(soft).max()
    assert centroid(loud) > centroid(soft)


def test_clarinet_has_odd_harmonics_only():
    wave = note("clarinet", 69, 127, 0.8, np.random.default_rng(2))
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    hz = np.fft.rfftfreq(wave.size, 1 / 16_000)
    level = [spectrum[np.abs(hz - 440 * h) < 20].max() for h in (1, 2, 3)]
    assert level[1] < 0.02 * min(level[0], level[2])
