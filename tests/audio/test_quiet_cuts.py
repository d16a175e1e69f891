"""Recordings cut into windows where they are quietest."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE, WINDOW_SAMPLES
from qwen_audio_jax.audio.quiet_cuts import LAST_SAMPLES, SHORTEST_SAMPLES, quiet_windows


def noise(seconds, seed=0):
    return np.float32(0.3) * np.random.default_rng(seed).standard_normal(
        round(seconds * SAMPLE_RATE), np.float32
    )


def quiet(wave, *centres, seconds=0.3):
    """The waveform with silence of so many seconds around some places."""
    for centre in centres:
        half = seconds / 2
        first, last = (round((centre + side) * SAMPLE_RATE) for side in (-half, half))
        wave[first:last] = 0
    return wave


def around(wave, place):
    """The sound within 0.1 s of a place, exactly: samples here are 16-bit numbers."""
    near = wave[place - SAMPLE_RATE // 10 : place + SAMPLE_RATE // 10]
    return int((np.rint(near * 32768).astype(np.int64) ** 2).sum())


@given(
    st.integers(1, 100 * SAMPLE_RATE),
    st.integers(0, 1 << 32),
    st.lists(st.floats(0, 100), max_size=9),
    st.floats(0, 1.5),
)
@example(WINDOW_SAMPLES, 0, [], 1.0)
@example(WINDOW_SAMPLES + 1, 0, [], 1.0)
@example(2 * WINDOW_SAMPLES, 0, [], 0.0)
@settings(max_examples=25, deadline=None)
def test_every_sample_is_heard_once_and_each_cut_is_at_the_quietest_place(
    samples, seed, silences, level
):
    wave = (level * noise(101, seed)[:samples]).clip(-1, 0.999)
    wave = np.rint(quiet(wave, *silences) * 32768).astype(np.float32) / np.float32(32768)
    lengths = quiet_windows(wave)
    assert sum(lengths) == samples
    assert max(lengths) <= WINDOW_SAMPLES
    assert all(length >= SHORTEST_SAMPLES for length in lengths[:-1])
    assert len(lengths) == 1 or lengths[-1] >= LAST_SAMPLES
    assert (len(lengths) == 1) == (samples <= WINDOW_SAMPLES)
    start = 0
    for length in lengths[:-1]:
        most = min(WINDOW_SAMPLES, samples - start - LAST_SAMPLES)
        places = range(start + SHORTEST_SAMPLES, start + most + 1, HOP)
        levels = [around(wave, place) for place in places]
        # The last of equally quiet ones.
        quietest = places[len(levels) - 1 - levels[::-1].index(min(levels))]
        assert start + length == quietest
        start += length


def test_a_pause_is_cut_in_its_middle_and_one_that_comes_too_early_is_not_cut():
    wave = quiet(noise(75), 12, 24.0, 50.0, seconds=0.24)
    first, second, third = quiet_windows(wave)
    assert first / SAMPLE_RATE == pytest.approx(24.0, abs=0.03)
    assert (first + second) / SAMPLE_RATE == pytest.approx(50.0, abs=0.03)
    assert first + second + third == 75 * SAMPLE_RATE


def test_real_speech_is_cut_in_the_pauses_between_its_clips(references):
    """Clips of a few seconds with 0.6 s of silence between them: each cut is in one of those."""
    path = references / "data" / "real" / "train.jsonl"
    waves, pauses = [], []
    for row in map(json.loads, path.read_text().splitlines()):
        if (row["task"], row.get("language")) == ("asr", "nl") and len(waves) < 80:
            waves += [decode((path.parent / row["audio"]).read_bytes()), np.zeros(9600, np.float32)]
            pauses.append(sum(map(len, waves)) - 4800)
    wave = np.concatenate(waves)
    lengths = quiet_windows(wave)
    assert len(lengths) > 4
    for cut in np.cumsum(lengths[:-1]):
        assert min(abs(cut - pause) for pause in pauses) < 4800


def test_a_stop_consonant_is_no_pause():
    """50 ms of silence amid speech are louder around than a pause that is not quite silent."""
    wave = quiet(noise(45), 28, seconds=0.05)
    wave[round(21.8 * SAMPLE_RATE) : round(22.2 * SAMPLE_RATE)] *= 0.05
    assert quiet_windows(wave)[0] / SAMPLE_RATE == pytest.approx(22, abs=0.11)


def test_silence_makes_the_fewest_windows():
    assert quiet_windows(np.zeros(4 * WINDOW_SAMPLES, np.float32)) == [WINDOW_SAMPLES] * 4


def test_what_is_left_is_never_a_scrap():
    wave = quiet(noise(30.5), 29.9)  # all but 0.6 s
    first, last = quiet_windows(wave)
    assert last >= LAST_SAMPLES
    assert first + last == len(wave)


def test_levels_beyond_full_scale_and_hardly_any_are_cut_too():
    for scale in (1e9, 1e-4):
        wave = np.float32(scale) * quiet(noise(40), 25)
        assert quiet_windows(wave)[0] / SAMPLE_RATE == pytest.approx(25, abs=0.06)
