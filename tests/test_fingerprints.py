"""A fingerprint tells whether values are the same, however they are stored, divided and read."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.fingerprints import digits, partial_sums


def fingerprint(array):
    return digits(partial_sums(array, (0,) * array.ndim))


def values(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 9), min_size=3, max_size=3),
)
def test_pieces_add_up_to_the_whole(shape, cuts):
    array = values(0, *shape)
    edges = [sorted({0, min(cut, size), size}) for cut, size in zip(cuts, shape, strict=False)]
    total = np.zeros(2, np.uint32)
    for box in itertools.product(*(itertools.pairwise(along) for along in edges)):
        piece = array[tuple(slice(*pair) for pair in box)]
        total += partial_sums(piece, [first for first, _ in box])
    assert digits(total) == fingerprint(array)


def test_blocks_are_taken_together_as_one_by_one():
    array = values(0, 3, 700, 60)  # more than a block
    rows = sum(
        (partial_sums(array[i : i + 1], (i, 0, 0)) for i in range(3)), np.zeros(2, np.uint32)
    )
    assert digits(rows) == fingerprint(array)
    assert fingerprint(array) == fingerprint(np.asfortranarray(array))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_the_dtype_that_values_are_stored_in_does_not_matter(dtype):
    array = np.concatenate([values(1, 40, 3), [[0, -0.0, 1e-7], [6e4, -6e4, 1e-5]]])
    stored = array.astype(dtype)
    assert fingerprint(stored) == fingerprint(stored.astype(np.float32))
    assert fingerprint(stored) != fingerprint(array.astype(np.float32))


@given(st.integers(0, 59), st.integers(0, 31))
def test_a_single_bit_changes_it(place, bit):
    array = values(2, 4, 15)
    changed = array.copy()
    changed.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
    one, other = partial_sums(array, (0, 0)), partial_sums(changed, (0, 0))
    assert np.all(one != other)


def test_values_in_other_places_change_it():
    array = values(3, 6, 4)
    seen = {
        fingerprint(other)
        for other in (
            array,
            array.T,
            array.reshape(4, 6),
            array[::-1],
            array[:, ::-1],
            np.roll(array, 1, 0),
            array.reshape(-1),
            np.zeros_like(array),
            np.zeros((5, 4), np.float32),
        )
    }
    assert len(seen) == 9


def test_it_stays_what_it_was():
    """Else the checkpoints that are written today would be refused."""
    assert fingerprint(np.arange(12, dtype=np.float32).reshape(3, 4)) == "8c463ab4e5a0db7c"
