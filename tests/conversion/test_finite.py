"""Weights that are no numbers, or no longer any after a cast, are told, and only those."""

import warnings

import ml_dtypes  # noqa: F401  (numpy learns bfloat16)
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.finite import cast, require_finite

DTYPES = ("float32", "bfloat16", "float16")


def refused(what, *arguments) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            what(*arguments, "file: tensor")
        except ConversionError as error:
            return str(error)
    return ""


@given(st.sampled_from(DTYPES), st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_any_bits(dtype, bits, size):
    """Whatever bits a weight has, what is said of it is what numpy says of it."""
    width = np.dtype(dtype).itemsize
    one = np.array([bits % 2 ** (8 * width)], f"u{width}").view(dtype)
    array = np.concatenate([np.zeros(size, dtype), one, np.ones(size, dtype)])
    finite = bool(np.isfinite(one.astype(np.float32)).all())
    assert (refused(require_finite, array) == "") == finite
    for other in DTYPES:
        with np.errstate(all="ignore"):
            lost = not np.isfinite(array.astype(other).astype(np.float32)).all()
        assert bool(refused(cast, array, other)) == lost


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_one_among_many(dtype, value):
    """Also beyond the first block, in a tensor that does not lie in order."""
    array = np.random.default_rng(0).standard_normal((1000, 300)).astype(dtype)
    assert not refused(require_finite, array)
    array[-1, -1] = value
    nans, infinite = int(np.isnan(value)), int(np.isinf(value))
    said = f"{nans} of its 300,000 weights are NaN and {infinite} infinite"
    assert said in refused(require_finite, array)
    assert said in refused(require_finite, array.T)
    assert said in refused(cast, array.T, "float32")


def test_what_a_cast_cannot_hold():
    large = np.array([0.5, -1e5], np.float32)
    said = refused(cast, large, "float16")
    assert said.startswith("file: tensor: its largest weight is 1e+05, and float16 ends at 65504")
    assert "choose another --dtype" in said
    assert not refused(cast, large, "bfloat16")
    assert "bfloat16 ends at 3.3895e+38" in refused(cast, np.array([3.4e38], "f4"), "bfloat16")
    assert "all of them would be 0" in refused(cast, np.full(3, 1e-9, "f4"), "float16")


def test_what_a_cast_rounds():
    for weights in ([1e-9, 0.5], [-0.0, 0.0], []):
        array = np.array(weights, np.float32)
        made = cast(array, "float16", "tensor")
        np.testing.assert_array_equal(made, array.astype(np.float16))
        assert cast(array, "float32", "tensor") is array
