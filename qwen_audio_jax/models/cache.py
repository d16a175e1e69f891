"""The key/value cache of decoding, laid as one query a head reads it fastest.

Rows may be filled by one and the same slot a step (`inference/generate.py`), or each at a place of
its own (`inference/engine.py`), and a row's prompt piece by piece.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

TILE = 64

BLOCK = 256
"""Slots that are attended to at a time where rows go on at places of their own."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys (rotated) and values of a layer.

    Rows and heads are one axis, else XLA copies the cache in every step. Keys lie in tiles of
    slots, so that on the CPU the sum over K runs along whole vectors, as that over S does.

    Attributes:
        keys: [B * G, S / TILE, K, TILE].
        values: [B * G, S, K].
    """

    keys: jax.Array
    values: jax.Array

    @classmethod
    def of(cls, k: jax.Array, v: jax.Array, slots: int) -> "Cache":
        """With k and v, [B, L, G, K], in the first L slots of S >= `slots`, rounded up to tiles."""
        room = ((0, 0), (0, -(-slots // TILE) * TILE - k.shape[1]), (0, 0))
        k, v = (jnp.pad(_rows_and_heads(x), room) for x in (k, v))
        return cls(k.reshape(len(k), -1, TILE, k.shape[2]).swapaxes(2, 3), v)

    @classmethod
    def empty(cls, rows: int, heads: int, head_dim: int, slots: int, dtype: str) -> "Cache":
        """Of B rows and G heads, with room for `slots`, rounded up to tiles."""
        S = -(-slots // TILE) * TILE
        return cls(
            jnp.zeros((rows * heads, S // TILE, head_dim, TILE), dtype),
            jnp.zeros((rows * heads, S, head_dim), dtype),
        )

    def put(self, slots: jax.Array, k: jax.Array, v: jax.Array) -> "Cache":
        """The cache with k and v, [B, 1, G, K], in a slot: int32 [], or [B], one of each row.

        A row at a time, as XLA on the CPU does a scatter element by element.
        """
        k, v = (_rows_and_heads(x) for x in (k, v))
        slots = slots.reshape(-1)
        keys, values, size = self.keys, self.values, len(k) // len(slots)
        for number, slot in enumerate(slots):
            rows = slice(first := number * size, first + size)
            place = (first, slot // TILE, 0, slot % TILE)
            keys = jax.lax.dynamic_update_slice(keys, k[rows][..., None], place)
            values = jax.lax.dynamic_update_slice(values, v[rows], (first, slot, 0))
        # Without the barrier XLA takes the update into the sums, and does it for every term.
        return Cache(*jax.lax.optimization_barrier((keys, values)))

    def attend(self, q: jax.Array, seen: jax.Array) -> jax.Array:
        """Softmax attention at scale 1/sqrt(K), one position a row; logits in float32.

        Args:
            q: [B, 1, H, K] with G dividing H.
            seen: bool [B, <= S], True somewhere in each row; slots behind are not seen.

        Returns:
            [B, 1, H, K].
        """
        N, S, K = self.values.shape
        seen = jnp.pad(seen, ((0, 0), (0, S - seen.shape[1])))
        seen = jnp.repeat(seen, N // len(seen), axis=0)

        def one(q):
            """One query a head, [N, K]. A sum of products: XLA would do N small ones in turn."""
            logits = jnp.sum(q[:, None, :, None] * self.keys, axis=2, dtype=jnp.float32).reshape(
                N, S
            )
            weights = jax.nn.softmax(jnp.where(seen, logits * K**-0.5, -jnp.inf), axis=-1)
            weights = jax.lax.optimization_barrier(weights.astype(self.values.dtype))
            return jnp.sum(weights[:, :, None] * self.values, axis=1)

        grouped = q.reshape(N, -1, K)
        attended = [one(grouped[:, i]) for i in range(grouped.shape[1])]
        return jnp.stack(attended, axis=1).reshape(q.shape)

    def attend_first(
        self, q: jax.Array, positions: jax.Array, lengths: Sequence[int], which: jax.Array
    ) -> jax.Array:
        """The same, of rows that see the slots up to their position, and no work for most others.

        Block by block, so that what a row gets is the same to the bit however far the others are.

        Args:
            q: as in `attend`.
            positions: int32 [B], the last slot that is seen.
            lengths: numbers of slots, rounded up to blocks, of which one is taken.
            which: int32, the place of the one that is taken; all positions must lie below it.
        """
        # Branches of a conditional: outside, XLA takes a slice together with what was put into the
        # cache before, and copies all of it.
        branches = [functools.partial(_attend_blocks, -(-n // BLOCK)) for n in lengths]
        return jax.lax.switch(which, branches, self, q, positions)

    def put_piece(self, row: jax.Array, start: jax.Array, k: jax.Array, v: jax.Array) -> "Cache":
        """The cache with k and v, [P, G, K], in the slots of a row from `start` on.

        The S slots must have room for all P of them.
        """
        P, G, _ = k.shape
        k, v = k.swapaxes(0, 1), v.swapaxes(0, 1)
        values = jax.lax.dynamic_update_slice(self.values, v, (row * G, start, 0))
        _, tiles, K, _ = self.keys.shape
        touched = min((P + TILE - 2) // TILE + 1, tiles)
        first = jnp.minimum(start // TILE, tiles - touched)
        place = (row * G, first, 0, 0)
        piece = jax.lax.dynamic_slice(self.keys, place, (G, touched, K, TILE))
        piece = piece.swapaxes(2, 3).reshape(G, -1, K)
        piece = jax.lax.dynamic_update_slice(piece, k, (0, start - first * TILE, 0))
        piece = piece.reshape(G, touched, TILE, K).swapaxes(2, 3)
        keys = jax.lax.dynamic_update_slice(self.keys, piece, place)
        return Cache(*jax.lax.optimization_barrier((keys, values)))

    def attend_piece(self, row: jax.Array, start: jax.Array, q: jax.Array, heads: int) -> jax.Array:
        """Softmax attention of the slots from `start` on to those up to themselves.

        Some keys at a time, and none behind the piece: time and memory do not grow with S.

        Args:
            row, start: as in `put_piece`, which was called before.
            q: [P, H, K].
            heads: G of the cache, which divides H.

        Returns:
            [P, H, K].
        """
        (P, H, K), S, G = q.shape, self.values.shape[1], heads
        B = min(BLOCK, S)
        query = q.swapaxes(0, 1).reshape(G, H // G * P, K)
        position = jnp.tile(start + jnp.arange(P), H // G)[:, None]

        def some(number, carry):
            largest, total, out = carry
            # The last ones lie at the end, where the first of them may have been taken before.
            first = jnp.minimum(number * B, S - B)
            place = (row * G, first // TILE, 0, 0)
            keys = jax.lax.dynamic_slice(self.keys, place, (G, B // TILE, K, TILE))
            keys = keys.swapaxes(1, 2).reshape(G, K, B)
            values = jax.lax.dynamic_slice(self.values, (row * G, first, 0), (G, B, K))
            slot = first + jnp.arange(B)
            seen = (slot >= number * B) & (slot <= position)
            logits = jnp.matmul(query, keys, preferred_element_type=jnp.float32) * K**-0.5
            logits = jnp.where(seen, logits, -jnp.inf)
            larger = jnp.maximum(largest, jnp.max(logits, axis=-1, keepdims=True))
            weights, shrunk = jnp.exp(logits - larger), jnp.exp(largest - larger)
            weighted = jnp.matmul(
                weights.astype(values.dtype), values, preferred_element_type=jnp.float32
            )
            total = total * shrunk + jnp.sum(weights, axis=-1, keepdims=True)
            return larger, total, out * shrunk + weighted

        # The first keys hold one that all see, so nothing is infinite but what is not seen.
        none = jnp.full((G, H // G * P, 1), -jnp.inf), jnp.zeros((G, H // G * P, 1))
        carry = (*none, jnp.zeros((G, H // G * P, K)))
        _, total, out = jax.lax.fori_loop(0, (start + P - 1) // B + 1, some, carry)
        return (out / total).astype(q.dtype).reshape(H, P, K).swapaxes(0, 1)


def _attend_blocks(blocks: int, cache: Cache, q: jax.Array, positions: jax.Array) -> jax.Array:
    """Attention to the first blocks; see `Cache.attend_first`."""
    N, _, K = cache.values.shape
    last = jnp.repeat(positions, N // len(positions))[:, None]
    seen = [number * BLOCK + jnp.arange(BLOCK) <= last for number in range(blocks)]
    keys = [
        cache.keys[:, first : first + BLOCK // TILE]
        for first in range(0, blocks * BLOCK // TILE, BLOCK // TILE)
    ]
    values = [cache.values[:, first : first + BLOCK] for first in range(0, blocks * BLOCK, BLOCK)]

    def one(q):
        """One query a head, [N, K], as in `Cache.attend`."""
        logits = [
            jnp.sum(q[:, None, :, None] * k, axis=2, dtype=jnp.float32).reshape(N, BLOCK)
            for k in keys
        ]
        logits = [
            jnp.where(here, x * K**-0.5, -jnp.inf) for here, x in zip(seen, logits, strict=True)
        ]
        largest = functools.reduce(
            jnp.maximum, (jnp.max(x, axis=-1, keepdims=True) for x in logits)
        )
        total, out = jnp.zeros((N, 1)), jnp.zeros((N, K))
        for x, v in zip(logits, values, strict=True):
            weights = jnp.exp(x - largest)
            total += jnp.sum(weights, axis=-1, keepdims=True)
            weights = jax.lax.optimization_barrier(weights.astype(v.dtype))
            out += jnp.sum(weights[:, :, None] * v, axis=1, dtype=jnp.float32)
        return (out / total).astype(q.dtype)

    grouped = q.reshape(N, -1, K)
    attended = [one(grouped[:, i]) for i in range(grouped.shape[1])]
    return jnp.stack(attended, axis=1).reshape(q.shape)


def _rows_and_heads(x: jax.Array) -> jax.Array:
    """[B, L, G, K] -> [B * G, L, K]."""
    return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])
