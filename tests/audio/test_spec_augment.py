"""SpecAugment: what it changes, how much at most, and that it is reproducible."""

import dataclasses

import numpy as np
import pytest

from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment
from qwen_audio_jax.config_fields import build

MASKS = SpecAugment(time_warp=0)


def noise(frames, bins=80):
    return np.random.default_rng(0).standard_normal((frames, bins)).astype(np.float32)


def rng(seed):
    return np.random.default_rng([7, seed])


def test_off_changes_nothing():
    mel = noise(300)
    np.testing.assert_array_equal(OFF(mel, 290, rng(0)), mel)


@pytest.mark.parametrize("bins", [80, 128])
def test_masks_are_whole_bands_and_stretches_of_the_mean(bins):
    mel = noise(400, bins)
    widest = longest = 0
    for seed in range(300):
        out = MASKS(mel, 390, rng(seed))
        changed = out != mel
        bands, stretches = changed[:390].all(axis=0), changed[:390].all(axis=1)
        # Whatever changed is in a whole band or a whole stretch, each in one piece.
        np.testing.assert_array_equal(changed[:390], bands[None] | stretches[:, None])
        assert np.count_nonzero(np.diff(bands.astype(int)) == 1) <= 1
        assert np.count_nonzero(np.diff(stretches.astype(int)) == 1) <= 1
        np.testing.assert_allclose(out[changed], mel[:390].mean(), atol=1e-6)
        np.testing.assert_array_equal(out[390:], mel[390:])
        widest, longest = max(widest, bands.sum()), max(longest, stretches.sum())
    assert widest == round(27 * bins / 80)
    assert 90 <= longest <= 100


def test_a_mask_may_take_no_more_than_its_share_of_a_clip():
    some = SpecAugment(time_warp=0, frequency_masks=0, time_share=0.2)
    mel = noise(50)
    taken = [np.count_nonzero((some(mel, 50, rng(s)) != mel).all(axis=1)) for s in range(100)]
    assert max(taken) == 10


@pytest.mark.parametrize("frames", [0, 1, 2, 30, 160, 161, 3000])
def test_any_length_goes_and_the_input_stays(frames):
    mel = noise(frames + 4)
    before = mel.copy()
    for seed in range(20):
        out = SpecAugment()(mel, frames, rng(seed))
        assert out.shape == mel.shape
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
    np.testing.assert_array_equal(mel, before)


def test_warping_moves_a_point_by_less_than_w_and_keeps_order_and_ends():
    warp = SpecAugment(frequency_masks=0, time_masks=0)
    ramp = np.repeat(np.arange(500, dtype=np.float32)[:, None], 3, axis=1)
    moved = []
    for seed in range(200):
        out = warp(ramp, 500, rng(seed))[:, 0]
        assert out[0] == 0
        assert out[-1] == 499
        assert (np.diff(out) > 0).all()
        moved.append(np.abs(out - ramp[:, 0]).max())
    assert 70 < max(moved) < 80
    np.testing.assert_array_equal(warp(ramp[:160], 160, rng(0)), ramp[:160])


def test_the_same_numbers_give_the_same_clip():
    mel = noise(300)
    np.testing.assert_array_equal(SpecAugment()(mel, 300, rng(3)), SpecAugment()(mel, 300, rng(3)))
    assert (SpecAugment()(mel, 300, rng(3)) != SpecAugment()(mel, 300, rng(4))).any()


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match=r"masks\.time_share: must be a number from 0 to 1"):
        build(SpecAugment, dataclasses.asdict(OFF) | {"time_share": 1.5}, "masks")
