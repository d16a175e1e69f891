"""What a window means, in frames."""

import numpy as np
import pytest

from qwen_audio_jax.audio.lengths import WINDOW_FRAMES, packed_frames
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.audio.silence import WindowOrAuto, seen_frames, silence_frames


@pytest.mark.parametrize(
    ("window", "frames"),
    [("clip", 0), ("window", 3000), ("clip+1s", 100), ("clip+0.25s", 25), ("clip+30s", 3000)],
)
def test_frames_of_silence(window, frames):
    assert silence_frames(window) == frames
    assert WindowOrAuto().allows(window)


@pytest.mark.parametrize(
    "window", ["", "windows", "clip+0s", "clip+31s", "clip+1", "1", "clip+-1s"]
)
def test_what_is_no_window(window):
    with pytest.raises(ValueError, match=r"is none of clip, window, clip\+1s \(or another time"):
        silence_frames(window)
    assert not WindowOrAuto().allows(window)


def test_seen_frames_end_with_the_window():
    assert [seen_frames(n, 0) for n in (3, 2999, 3000)] == [3, 2999, 3000]
    assert [seen_frames(n, 100) for n in (3, 2899, 2950, 3000)] == [103, 2999, 3000, 3000]
    assert {seen_frames(n, 3000) for n in range(1, 3001)} == {3000}


@pytest.mark.parametrize("loudness", [1e-6, 0.3])
def test_silent_frames_have_the_values_that_zeros_have(loudness):
    """The floor is set by the clip; where even that is quiet, by the least level there is."""
    wave = loudness * np.random.default_rng(0).standard_normal(7_777).astype(np.float32)
    alone = log_mel(wave, 80, packed_frames(seen_frames(49, 100)))
    padded = log_mel(np.pad(wave, (0, 16_000)), 80, packed_frames(149))
    np.testing.assert_array_equal(alone, padded)
    assert np.unique(alone[55:]) == pytest.approx(max(alone.max() - 2, -1.5))
    assert seen_frames(49, 3000) == WINDOW_FRAMES
