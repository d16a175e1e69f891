"""Which parameters a run's patterns freeze: wholly, or some layers of a stack."""

import difflib
import re
from collections.abc import Collection, Sequence

import numpy as np

from qwen_audio_jax.config_fields import ConfigError, split_layers
from qwen_audio_jax.models.cuts import Intervals, stack_of

TOKEN_AXES = {"decoder/embedding": 0, "decoder/head": 1}
"""Parameters that have a row or a column for each token, and along which axis."""


def frozen_intervals(patterns: Sequence[str], name: str, size: int) -> Intervals:
    """What patterns freeze of a parameter's first axis.

    Args:
        patterns: regular expressions; behind each may stand a range, see `split_layers`.
        name: the parameter's path.
        size: of that axis.

    Raises:
        ConfigError: a range is empty or past the end, or the parameter has no layers.
    """
    frozen = np.zeros(size, bool)
    for text in patterns:
        pattern, layers = split_layers(text)
        if re.search(pattern, name):
            frozen[_checked(text, layers, name, size)] = True
    edges = np.flatnonzero(np.diff(frozen, prepend=False, append=False)).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _checked(text: str, layers: slice | None, name: str, size: int) -> slice:
    """The range of a pattern that is found in a path; all of it where none is given."""
    if layers is None:
        return slice(None)
    where = f"config.optimizer.frozen: {text!r}"
    if not stack_of(name):
        raise ConfigError(
            f"{where} is found in {name}, which has no layers to take a range of; make the pattern "
            "longer, as ^decoder/blocks"
        )
    for edge in (layers.start, layers.stop):
        if edge is not None and not -size <= edge <= size:
            raise ConfigError(
                f"{where}: {edge} is past the end of {stack_of(name)}, which has {size} layers"
            )
    if len(range(*layers.indices(size))) == 0:
        raise ConfigError(
            f"{where} is an empty range of the {size} layers of {stack_of(name)}; it goes from the "
            "first number to before the second"
        )
    return layers


def check_found(key: str, patterns: Collection[str], names: Collection[str], what: str) -> None:
    """Raises ConfigError if a pattern is found in none of the paths.

    Args:
        key: where the patterns stand.
        patterns: regular expressions.
        names: paths.
        what: of what, for the sentence: "parameter".
    """
    for text in patterns:
        pattern, _ = split_layers(text)
        if not any(re.search(pattern, name) for name in names):
            raise ConfigError(
                f"{key}: {text!r} is found in no {what}'s path{_did_you_mean(pattern, names)}"
            )


def _did_you_mean(pattern: str, names: Collection[str]) -> str:
    """Beginnings of paths that are like a pattern, or what paths begin with."""
    parts = {
        "/".join(name.split("/")[:length])
        for name in names
        for length in range(1, name.count("/") + 2)
    }
    letters = re.sub(r"[^\w/]", "", pattern).strip("/")
    near = difflib.get_close_matches(letters, sorted(parts), n=3)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; paths begin with {', '.join(sorted({name.split('/')[0] for name in names}))}"
