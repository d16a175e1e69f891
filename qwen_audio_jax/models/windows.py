"""Which keys a block of queries sees in a packed row, and a loop over blocks that takes no others.

Segments lie one after another, so what a block sees lies in a window that is mostly narrow. Where
it begins is not known before the row is, and how wide it is neither, while XLA compiles for sizes
that are known. So blocks take the narrowest of a few widths.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from qwen_audio_jax.models.segments import Segments

SIZE = 128
"""Queries of a block."""

Span = tuple[Any, int]
"""Where something begins, traced or not, and how long it is."""


def cut(x: jax.Array, span: Span, axis: int) -> jax.Array:
    """A piece of an array."""
    return jax.lax.dynamic_slice_in_dim(x, *span, axis)


def filled_up(x: jax.Array, axis: int, value: int = 0) -> jax.Array:
    """An array of a row's queries with those that fill up its last block."""
    room = [(0, 0)] * x.ndim
    room[axis] = (0, -x.shape[axis] % SIZE)
    return jnp.pad(x, room, constant_values=value)


def seen_by(segments: Segments, here: Span, there: Span, causal: bool) -> jax.Array:
    """Whether queries of one row see keys of it, bool [queries, keys]."""
    keys = cut(segments.keys, there, 0)
    seen = cut(segments.queries, here, 0)[:, None] == keys
    if segments.trunks is not None:
        seen |= cut(segments.trunks, here, 0)[:, None] == keys
    if causal:
        query, key = (start + jnp.arange(size) for start, size in (here, there))
        seen &= key <= query[:, None]
    return seen


def without_end(segments: Segments) -> Segments:
    """Segments of one row whose last block of queries is filled up with some that see nothing."""
    queries, trunks = (
        x if x is None else filled_up(x, 0, value=-2) for x in (segments.queries, segments.trunks)
    )
    return Segments(queries, segments.keys, trunks)


def windows_of(segments: Segments, causal: bool) -> jax.Array:
    """Where the keys lie that a block sees: int32 [B, blocks, 2], the first and behind the last."""

    def of_row(row: Segments) -> jax.Array:
        L, row = len(row.keys), without_end(row)

        def of_block(start):
            seen = jnp.any(seen_by(row, (start, SIZE), (0, L), causal), axis=0)
            return jnp.stack([jnp.argmax(seen), L - jnp.argmax(seen[::-1])])

        return jax.lax.map(of_block, jnp.arange(0, len(row.queries), SIZE))

    return jax.lax.map(of_row, segments)


def widths(length: int) -> list[int]:
    """Of windows in a row: multiples of a block, from two of them on at most half wider each."""
    found = [SIZE]
    while found[-1] < length:
        found.append(found[-1] + SIZE * max(1, found[-1] // (2 * SIZE)))
    return [*found[:-1], length]


def each_block(
    run: Callable[[Any, Span, Span], tuple[Any, Any]], carry: Any, length: int, windows: jax.Array
) -> tuple[Any, Any]:
    """Runs over the blocks of one row.

    Args:
        run: (carry, queries, keys) -> (carry, arrays [n, SIZE, ...] of the block).
        carry: what passes from block to block.
        length: of the row.
        windows: of `windows_of`, [blocks, 2].

    Returns:
        The last carry, and the arrays of all blocks, [n, length, ...].
    """
    sizes = widths(length)

    def block(carry, of_block):
        number, (first, end) = of_block
        here = (number * SIZE, SIZE)
        ways = [
            lambda carry, width=width: run(carry, here, (jnp.minimum(first, length - width), width))
            for width in sizes
        ]
        narrowest = jnp.sum(jnp.asarray(sizes) < end - first)
        return jax.lax.switch(narrowest, ways, carry)

    carry, parts = jax.lax.scan(
        block, carry, (jnp.arange(len(windows)), (windows[:, 0], windows[:, 1]))
    )
    whole = jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])[:, :length], parts
    )
    return carry, whole
