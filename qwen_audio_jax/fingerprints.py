"""Fingerprints of parameters: 64 bits that tell whether values are the same ones.

They are made of the values alone, as float32, be they stored in float32, bfloat16 or float16, and
not of files: each value's bits and its place are mixed into a number, of which two sums are taken,
modulo 2^32. Such sums are exact in any order. So an array may be taken piece by piece, by several
processes, and how it was divided does not matter. A single changed value changes both sums.
"""

from collections.abc import Sequence

import numpy as np

_BLOCK = 1 << 15
"""Values taken together, so that what is made of them stays in the processor's cache."""

_ODD = np.uint32(0x9E3779B1)


def partial_sums(piece: np.ndarray, origin: Sequence[int]) -> np.ndarray:
    """The two sums, uint32 [2], over a piece of an array.

    Args:
        piece: of float32, bfloat16 or float16.
        origin: where it begins in the array, along each axis.
    """
    shape, sums = piece.shape or (1,), np.zeros(2, np.uint32)
    *outer, columns = (
        _mixed(np.arange(first, first + size, dtype=np.uint32) + np.uint32(axis))
        for axis, (first, size) in enumerate(zip(origin or (0,), shape, strict=True))
    )
    places = np.zeros((), np.uint32)
    for along in outer:
        places = places[..., None] * _ODD + along
    rows, places = piece.reshape(-1, shape[-1]), places.reshape(-1, 1) * _ODD
    step = max(1, _BLOCK // shape[-1])
    for first in range(0, len(rows), step):
        place = places[first : first + step] + columns
        mixed = _mixed(_bits(rows[first : first + step]) + place)
        place |= np.uint32(1)
        place *= mixed
        sums += [np.add.reduce(x, axis=None, dtype=np.uint32) for x in (mixed, place)]
    return sums


def digits(sums: np.ndarray) -> str:
    """A fingerprint as sixteen hexadecimal digits, of what the sums of all pieces add up to."""
    return "".join(f"{int(number):08x}" for number in sums)


def _bits(array: np.ndarray) -> np.ndarray:
    """uint32, of each value as float32."""
    if array.dtype == np.float32:
        return array.view(np.uint32)
    if array.dtype == np.float16:
        return array.astype(np.float32).view(np.uint32)
    return array.view(np.uint16).astype(np.uint32) << np.uint32(16)  # bfloat16 is its upper half


def _mixed(x: np.ndarray) -> np.ndarray:
    """A bijection of 32 bits after which each bit depends on all (MurmurHash3's last step)."""
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x
