"""Parameters that are trained in part: where they are cut, and how a whole is made of the pieces.

What is trained and what is frozen are two trees of the whole one's form, with None for what is
wholly in the other. A leaf that is trained in part lies in both, cut along one axis: the trained
intervals end to end in one, the frozen ones in the other.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from qwen_audio_jax.models.parts import path_name

Intervals = tuple[tuple[int, int], ...]
"""From each first index to before each second one; rising, and none touches the next."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a parameter is divided into what is trained and what is frozen.

    Attributes:
        axis: along which.
        frozen: what of it is frozen; neither nothing nor all.
    """

    axis: int
    frozen: Intervals

    def trained(self, size: int) -> Intervals:
        """What of an axis of this size is trained."""
        edges = [0, *(edge for interval in self.frozen for edge in interval), size]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return tuple((first, end) for first, end in pairs if first < end)

    def take(self, whole: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(what is trained, what is frozen) of a whole parameter."""
        trained = self.trained(whole.shape[self.axis])
        return self._intervals(whole, trained), self._intervals(whole, self.frozen)

    def join(self, trained: jax.Array, frozen: jax.Array) -> jax.Array:
        """The whole parameter."""
        size = trained.shape[self.axis] + frozen.shape[self.axis]
        pieces, taken = [], {"trained": 0, "frozen": 0}
        intervals = [(one, "trained", trained) for one in self.trained(size)]
        intervals += [(one, "frozen", frozen) for one in self.frozen]
        for (first, end), kind, array in sorted(intervals, key=lambda item: item[0]):
            start = taken[kind]
            taken[kind] = stop = start + end - first
            pieces.append(jax.lax.slice_in_dim(array, start, stop, axis=self.axis))
        return jnp.concatenate(pieces, axis=self.axis)

    def place(self, index: int, size: int) -> tuple[bool, int]:
        """(whether an index of the whole axis is frozen, where it lies in that piece)."""
        for frozen, intervals in ((True, self.frozen), (False, self.trained(size))):
            before = 0
            for first, end in intervals:
                if first <= index < end:
                    return frozen, before + index - first
                before += end - first
        raise IndexError(index)

    def _intervals(self, whole: jax.Array, intervals: Intervals) -> jax.Array:
        pieces = [jax.lax.slice_in_dim(whole, *pair, axis=self.axis) for pair in intervals]
        return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces, axis=self.axis)


Cuts = Mapping[str, Cut]
"""Of each parameter that is trained in part, by its path."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Parted:
    """A parameter in its two pieces, which the step does not put together: that would be a copy.

    Attributes:
        trained: None where nothing is; such a parameter is in a stack of which another one is cut.
        frozen: the rest.
        cut: how.
    """

    trained: jax.Array | None
    frozen: jax.Array
    cut: Cut = dataclasses.field(metadata={"static": True})

    def __getitem__(self, key: Any) -> "Parted":
        """`parameter[...]`, as modules read theirs."""
        if key is not Ellipsis:
            raise TypeError("a parameter in two pieces has no part; `rows` looks up tokens")
        return self

    def __len__(self) -> int:
        """Of the axis along which it is cut."""
        pieces = [piece for piece in (self.trained, self.frozen) if piece is not None]
        return sum(piece.shape[self.cut.axis] for piece in pieces)

    @property
    def in_order(self) -> tuple[tuple[jax.Array, int], ...]:
        """Both pieces, each with where it begins, of tokens: old ones are frozen, new ones not."""
        ((_, first_new),) = self.cut.frozen
        return (self.frozen, 0), (self.trained, first_new)

    def rows(self, index: jax.Array) -> jax.Array:
        """Rows of a table of tokens: int32 [...] -> [..., D]."""
        (old, _), (new, first) = self.in_order
        among_old = old[jnp.minimum(index, first - 1)]
        among_new = new[jnp.maximum(index - first, 0)]
        return jnp.where((index >= first)[..., None], among_new, among_old)


def stack_of(name: str) -> str:
    """The stack of layers that a parameter is in, such as `decoder/blocks`; "" where in none."""
    stack, blocks, _ = name.partition("/blocks/")
    return stack + blocks.rstrip("/") if blocks else ""


def part(whole: Any, frozen: Collection[str], cuts: Cuts) -> tuple[Any, Any]:
    """Parts a tree of parameters into (what is trained, what is frozen); `merge` undoes it.

    Args:
        whole: the tree.
        frozen: paths of parameters that are frozen, wholly.
        cuts: of those that are trained in part.
    """

    def one(path, leaf):
        name = path_name(path)
        if name in cuts:
            return cuts[name].take(leaf)
        return (None, leaf) if name in frozen else (leaf, None)

    pairs = jax.tree_util.tree_map_with_path(one, whole)
    return tuple(
        jax.tree.map(lambda pair, at=at: pair[at], pairs, is_leaf=lambda x: isinstance(x, tuple))
        for at in (0, 1)
    )


def together(trained: Any, frozen: Any, cuts: Cuts) -> Any:
    """One tree of both without a copy, for the step: what is cut is `Parted`.

    So is what is frozen beside it in a stack: `scan_layers` then copies none of it.
    """
    stacks = {stack_of(name) for name in cuts} - {""}

    def one(path, a, b):
        name = path_name(path)
        if name in cuts:
            return Parted(a, b, cuts[name])
        if a is None and stack_of(name) in stacks:
            return Parted(None, b, Cut(0, ((0, len(b)),)))
        return b if a is None else a

    return jax.tree_util.tree_map_with_path(one, trained, frozen, is_leaf=lambda x: x is None)


def merge(trained: Any, frozen: Any, cuts: Cuts) -> Any:
    """Puts together what `part` parted. Of what is cut this makes a copy."""

    def one(path, a, b):
        if a is None or b is None:
            return b if a is None else a
        return cuts[path_name(path)].join(a, b)

    return jax.tree_util.tree_map_with_path(one, trained, frozen, is_leaf=lambda x: x is None)
