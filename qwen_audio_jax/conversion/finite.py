"""Weights that are no numbers, found at little more than the cost of reading them once."""

import ml_dtypes
import numpy as np

from qwen_audio_jax.conversion.errors import ConversionError

_BLOCK = 1 << 18
"""Bytes looked at in one go: they stay in the cache for the second look."""


def require_finite(array: np.ndarray, what: str) -> None:
    """Refuses NaN and infinity.

    Args:
        array: of float32, bfloat16 or float16.
        what: its file and name, for the sentence.

    Raises:
        ConversionError: it holds one.
    """
    if _Largest(array).finite:
        return
    values = array.astype(np.float32)
    nans, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    raise ConversionError(
        f"{what}: {nans:,} of its {values.size:,} weights are NaN and {infinite:,} infinite, so "
        "the model is broken; take an earlier checkpoint"
    )


def cast(array: np.ndarray, dtype: str, what: str) -> np.ndarray:
    """Finite weights in another dtype, rounded.

    Args:
        array: of float32, bfloat16 or float16.
        dtype: one of these by name.
        what: name, for the sentence.

    Raises:
        ConversionError: they hold NaN or infinity, or one is too large for the dtype, or all are
            too small for it. Where only some are too small, those are 0, which is rounding.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        made = array.astype(dtype, copy=False)
    found = _Largest(made)
    if found.finite and (made is array or not found.zero or not array.any()):
        return made
    require_finite(array, what)
    largest = float(np.abs(array.astype(np.float32)).max())
    if found.finite:
        problem = f"so that in {dtype} all of them would be 0"
    else:
        problem = f"and {dtype} ends at {float(ml_dtypes.finfo(dtype).max):.5g}"
    raise ConversionError(
        f"{what}: its largest weight is {largest:.5g}, {problem}; choose another --dtype"
    )


class _Largest:
    """The largest weights of either sign, by their bits.

    As an integer, a positive number is the larger the larger it is, NaN and infinity above all; so
    is a negative one, if the sign counts as a bit. Two maxima take no memory, and less time than
    `isfinite`.

    Attributes:
        finite: whether there is no NaN and no infinity.
        zero: whether there is nothing but zeros.
    """

    def __init__(self, array: np.ndarray):
        signed, unsigned = (np.int32, np.uint32) if array.itemsize == 4 else (np.int16, np.uint16)
        flat, step = array.reshape(-1), _BLOCK // array.itemsize
        positive, negative, sign = 0, 0, 1 << 8 * array.itemsize - 1
        for start in range(0, flat.size, step):
            block = flat[start : start + step]
            positive = max(positive, int(block.view(signed).max()))
            negative = max(negative, int(block.view(unsigned).max()) - sign)
        self.zero = positive <= 0 and negative <= 0
        infinity = int(np.array(np.inf, array.dtype).view(unsigned))
        self.finite = positive < infinity and negative < infinity
