"""What training may not hear: the combinations that belong to validation.

The rules depend on no seed. So two corpora built from different seeds keep the same border, and
every single class, word, voice and pitch occurs on both sides of it; only combinations do not.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SPLITS = ("train", "validation")
_PART = 5  # one combination in five is in the validation split alone


def is_validation(first: int, second: int) -> bool:
    """Whether the pair (index into one list, index into another) belongs to validation."""
    return (first + 2 * second) % _PART == 0


def is_validation_set(members: Iterable[int]) -> bool:
    """Whether the set of indices into one list belongs to validation; one alone never does."""
    members = set(members)
    return len(members) > 1 and sum(members) % _PART == 0


def pairs(validation: bool, first: int, second: int) -> list[tuple[int, int]]:
    """The pairs of one side of the border, of `first` by `second` things."""
    return [
        (i, j) for i in range(first) for j in range(second) if is_validation(i, j) == validation
    ]


def size(validation: bool, rng: np.random.Generator) -> float:
    """A sound's leading parameter in 0..1: validation has the middle, training the sides."""
    if validation:
        return rng.uniform(0.42, 0.58)
    u = rng.uniform(0, 0.8)
    return u if u < 0.4 else u + 0.2


def choose(options: Sequence[Any], rng: np.random.Generator) -> Any:
    """One of the options, all alike."""
    return options[int(rng.integers(len(options)))]
