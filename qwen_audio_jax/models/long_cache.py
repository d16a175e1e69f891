"""A cache whose rows are filled each at a place of its own, and read no further than is needed."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from qwen_audio_jax.models.cache import TILE, Cache

_BLOCK = 256
"""Slots that a piece of a prompt attends to at a time."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LongCache:
    """Keys and values of a layer, in parts one behind the other.

    A step reads the parts that its longest row needs, each of them whole: from a slice XLA would
    make an array of its own in every step. What a row gets is summed part by part, so that it is
    the same to the bit however far the other rows are.

    Attributes:
        parts: of B rows each.
        ends: where each part ends, ascending.
    """

    parts: tuple[Cache, ...]
    ends: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def empty(
        cls, rows: int, heads: int, head_dim: int, ends: Sequence[int], dtype: str
    ) -> "LongCache":
        """Of B rows and G heads."""
        starts = (0, *ends[:-1])
        parts = (
            Cache.empty(rows, heads, head_dim, end - start, dtype)
            for start, end in zip(starts, ends, strict=True)
        )
        return cls(tuple(parts), tuple(ends))

    def put(self, slots: jax.Array, k: jax.Array, v: jax.Array) -> "LongCache":
        """The cache with k and v, [B, 1, G, K], in a slot of each row: int32 [B]."""
        parts = []
        for part, start, end in self._parts():
            within = (slots >= start) & (slots < end)
            parts.append(part.put(jnp.where(within, slots - start, 0), k, v, within))
        return LongCache(tuple(parts), self.ends)

    def attend(self, q: jax.Array, positions: jax.Array, longest: jax.Array) -> jax.Array:
        """Softmax attention at scale 1/sqrt(K), one position a row; logits in float32.

        Args:
            q: [B, 1, H, K] with G dividing H.
            positions: int32 [B], the last slot that is seen of each row.
            longest: int32, the largest position that matters.

        Returns:
            [B, 1, H, K].
        """
        branches = [
            functools.partial(_attend, self.ends[: number + 1]) for number in range(len(self.ends))
        ]
        which = jnp.sum(longest >= jnp.array(self.ends[:-1], jnp.int32))
        return jax.lax.switch(which, branches, self.parts, q, positions)

    def put_piece(
        self,
        part: int,
        row: jax.Array,
        start: jax.Array,
        n: jax.Array,
        k: jax.Array,
        v: jax.Array,
    ) -> "LongCache":
        """The cache with k and v, [P, G, K], in the slots of a row from `start` on, in one part.

        Args:
            part: which; its slots, rounded up to tiles, are P at least.
            row, start: int32.
            n: int32, how many of the P are put; the part has room for them.
            k, v: see above.
        """
        parts = list(self.parts)
        parts[part] = parts[part].put_piece(row, start - (0, *self.ends)[part], n, k, v)
        return LongCache(tuple(parts), self.ends)

    def attend_piece(
        self, part: int, row: jax.Array, start: jax.Array, q: jax.Array, heads: int
    ) -> jax.Array:
        """Softmax attention of the slots from `start` on to those up to themselves.

        Some keys at a time, and none behind the piece: time and memory do not grow with the room.

        Args:
            part, row, start: as in `put_piece`, which was called before.
            q: [P, H, K].
            heads: G of the cache, which divides H.

        Returns:
            [P, H, K].
        """
        (P, H, K), G = q.shape, heads
        query = q.swapaxes(0, 1).reshape(G, H // G * P, K)
        position = jnp.tile(start + jnp.arange(P), H // G)[:, None]
        # The first keys hold one that all see, so nothing is infinite but what is not seen.
        none = jnp.full((G, H // G * P, 1), -jnp.inf), jnp.zeros((G, H // G * P, 1))
        carry = (*none, jnp.zeros((G, H // G * P, K)))
        for number, (cache, first, end) in enumerate(self._parts()):
            if number > part:
                break
            some = functools.partial(_some_keys, cache, first, end, row, query, position)
            last = start + P - 1 if number == part else end - 1
            blocks = (last - first) // min(_BLOCK, cache.values.shape[1]) + 1
            carry = jax.lax.fori_loop(0, blocks, some, carry)
        _, total, out = carry
        return (out / total).astype(q.dtype).reshape(H, P, K).swapaxes(0, 1)

    def _parts(self) -> Iterator[tuple[Cache, int, int]]:
        """Each with its first slot and its end."""
        return zip(self.parts, (0, *self.ends[:-1]), self.ends, strict=True)


def _attend(
    ends: tuple[int, ...], parts: tuple[Cache, ...], q: jax.Array, positions: jax.Array
) -> jax.Array:
    """Attention to the first parts, which end there; see `LongCache.attend`."""
    N, _, K = parts[0].values.shape
    last = jnp.repeat(positions, N // len(positions))[:, None]
    starts = (0, *ends[:-1])

    def one(q):
        """One query a head, [N, K]. Sums of products: XLA would do N small ones in turn."""
        logits = []
        for part, start, end in zip(parts, starts, ends, strict=False):
            S = part.values.shape[1]
            products = jnp.sum(q[:, None, :, None] * part.keys, axis=2, dtype=jnp.float32)
            slot = start + jnp.arange(S)
            seen = (slot <= last) & (slot < end)
            logits.append(jnp.where(seen, products.reshape(N, S) * K**-0.5, -jnp.inf))
        each = [jnp.max(x, axis=-1, keepdims=True) for x in logits]
        largest = functools.reduce(jnp.maximum, each)
        total, out = jnp.zeros((N, 1)), jnp.zeros((N, K))
        for x, part in zip(logits, parts, strict=False):
            weights = jnp.exp(x - largest)
            total += jnp.sum(weights, axis=-1, keepdims=True)
            weights = jax.lax.optimization_barrier(weights.astype(part.values.dtype))
            out += jnp.sum(weights[:, :, None] * part.values, axis=1, dtype=jnp.float32)
        return (out / total).astype(q.dtype)

    grouped = q.reshape(N, -1, K)
    attended = [one(grouped[:, i]) for i in range(grouped.shape[1])]
    return jnp.stack(attended, axis=1).reshape(q.shape)


def _some_keys(cache: Cache, start, end, row, query, position, number, carry):
    """A block of a part's keys, for `LongCache.attend_piece`.

    Args:
        cache, start, end: the part, its first slot and its end.
        row: which.
        query: [G, n, K].
        position: int32 [n, 1], of the queries.
        number: of the block in its part.
        carry: (largest logit [G, n, 1], sum of weights [G, n, 1], weighted values [G, n, K]).
    """
    largest, total, out = carry
    (G, _, K), S = query.shape, cache.values.shape[1]
    B = min(_BLOCK, S)
    # The last ones lie at the end, where the first of them may have been taken before.
    first = jnp.minimum(number * B, S - B)
    keys = jax.lax.dynamic_slice(
        cache.keys, (row * G, first // TILE, 0, 0), (G, B // TILE, K, TILE)
    )
    keys = keys.swapaxes(1, 2).reshape(G, K, B)
    values = jax.lax.dynamic_slice(cache.values, (row * G, first, 0), (G, B, K))
    slot = first + jnp.arange(B)
    seen = (slot >= number * B) & (start + slot <= position) & (start + slot < end)
    logits = jnp.matmul(query, keys, preferred_element_type=jnp.float32) * K**-0.5
    logits = jnp.where(seen, logits, -jnp.inf)
    larger = jnp.maximum(largest, jnp.max(logits, axis=-1, keepdims=True))
    weights, shrunk = jnp.exp(logits - larger), jnp.exp(largest - larger)
    weighted = jnp.matmul(weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    total = total * shrunk + jnp.sum(weights, axis=-1, keepdims=True)
    return larger, total, out * shrunk + weighted
