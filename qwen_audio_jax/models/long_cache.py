"""A cache whose rows are filled each at a place of its own, and read no further than is needed."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from qwen_audio_jax.models.cache import rows_and_heads

_BLOCK = 256
"""Slots that a piece of a prompt attends to at a time."""

_LEAST = jnp.finfo(jnp.float32).min


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Part:
    """Keys (rotated) and values of some slots of a layer, rows and heads as one axis.

    Attributes:
        keys: [B * G, K, S], as products with few queries read them fastest.
        values: [B * G, S, K].
    """

    keys: jax.Array
    values: jax.Array

    @classmethod
    def empty(cls, rows: int, heads: int, head_dim: int, slots: int, dtype: str) -> "Part":
        """Of B rows, G heads and S slots."""
        N = rows * heads
        return cls(jnp.zeros((N, head_dim, slots), dtype), jnp.zeros((N, slots, head_dim), dtype))

    def put_piece(
        self, row: jax.Array, start: jax.Array, n: jax.Array, k: jax.Array, v: jax.Array
    ) -> "Part":
        """The part with the first n of k and v, [P, G, K], in the slots of a row from `start` on.

        S must be P at least. What lies before the first slot, as `start` may, or behind the last is
        left out, and all other slots keep what they hold.
        """
        P, G, _ = k.shape
        # All P lie in the part, the n from `start` on and some that stay.
        begin = jnp.clip(start, 0, self.values.shape[1] - P)
        k, v = (jnp.roll(x.swapaxes(0, 1), start - begin, axis=1) for x in (k, v))
        place = begin + jnp.arange(P)
        within = (place >= start) & (place < start + n)
        keys = _put(self.keys, k.swapaxes(1, 2), (row * G, 0, begin), within)
        values = _put(self.values, v, (row * G, begin, 0), within[:, None])
        return Part(*jax.lax.optimization_barrier((keys, values)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LongCache:
    """Keys and values of a layer, in parts one behind the other.

    Prompts enter it piece by piece, and answers through a buffer, see `BufferedCache`.

    Attributes:
        parts: of B rows each.
        ends: where each part ends, ascending.
    """

    parts: tuple[Part, ...]
    ends: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def empty(
        cls, rows: int, heads: int, head_dim: int, ends: Sequence[int], dtype: str
    ) -> "LongCache":
        """Of B rows and G heads."""
        starts = (0, *ends[:-1])
        parts = (
            Part.empty(rows, heads, head_dim, end - start, dtype)
            for start, end in zip(starts, ends, strict=True)
        )
        return cls(tuple(parts), tuple(ends))

    def put_piece(
        self, row: jax.Array, start: jax.Array, n: jax.Array, k: jax.Array, v: jax.Array
    ) -> "LongCache":
        """The cache with the first n of k and v, [P, G, K], in a row's slots from `start` on.

        Only the parts are touched in which these slots lie: a loop of no round leaves one as it is.

        Args:
            row, start, n: int32; there is room for the n.
            k, v: see above.
        """
        parts = []
        for part, first, end in self.each_part():
            put = functools.partial(_put_piece, row, start - first, n, k, v)
            touched = (start < end) & (start + n > first)
            parts.append(jax.lax.fori_loop(0, touched.astype(jnp.int32), put, part))
        return LongCache(tuple(parts), self.ends)

    def attend_piece(self, row: jax.Array, start: jax.Array, q: jax.Array, heads: int) -> jax.Array:
        """Softmax attention of the slots from `start` on to those up to themselves.

        Some keys at a time, and none behind the piece: time and memory do not grow with the room.

        Args:
            row, start: as in `put_piece`, which was called before.
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
        for cache, first, end in self.each_part():
            some = functools.partial(_some_keys, cache, first, end, row, query, position)
            size = min(_BLOCK, cache.values.shape[1])
            blocks = (jnp.minimum(start + P, end) - first + size - 1) // size
            carry = jax.lax.fori_loop(0, jnp.maximum(blocks, 0), some, carry)
        _, total, out = carry
        return (out / total).astype(q.dtype).reshape(H, P, K).swapaxes(0, 1)

    def each_part(self) -> Iterator[tuple[Part, int, int]]:
        """Each with its first slot and its end."""
        return zip(self.parts, (0, *self.ends[:-1]), self.ends, strict=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BufferedCache:
    """A cache that is only read, and a buffer that holds what a group of steps adds to it.

    All rows write the same slot of the buffer, wherever they stand, so that a step changes one
    small array and not each row's place in a large one.

    A step reads the parts that its longest row needs, each of them whole: from a slice XLA would
    make an array of its own in every step. What a row gets is summed part by part, each with a
    softmax of its own, so that it is the same to the bit however far the other rows are.

    Attributes:
        held: of B rows and G heads.
        keys, values: [B * G, W, K] for W steps.
    """

    held: LongCache
    keys: jax.Array
    values: jax.Array

    @classmethod
    def over(cls, held: LongCache, steps: int) -> "BufferedCache":
        """With an empty buffer."""
        N, _, K = held.parts[0].values.shape
        nothing = jnp.zeros((N, steps, K), held.parts[0].values.dtype)
        return cls(held, nothing, nothing)

    def put(self, number: jax.Array, k: jax.Array, v: jax.Array) -> "BufferedCache":
        """With k and v, [B, 1, G, K], of a step: its number in the group, int32."""
        keys, values = (
            jax.lax.dynamic_update_slice(buffer, rows_and_heads(x), (0, number, 0))
            for buffer, x in ((self.keys, k), (self.values, v))
        )
        return BufferedCache(self.held, *jax.lax.optimization_barrier((keys, values)))

    def attend(
        self, q: jax.Array, lengths: jax.Array, longest: jax.Array, number: jax.Array
    ) -> jax.Array:
        """Softmax attention at scale 1/sqrt(K), one position a row; logits in float32.

        Args:
            q: [B, 1, H, K] with G dividing H.
            lengths: int32 [B], how many slots of `held` each row sees.
            longest: int32, the largest of them that matters.
            number: int32, of the last step in the buffer that is seen.

        Returns:
            [B, 1, H, K].
        """
        N, _, K = self.values.shape
        query = q.reshape(N, -1, K)
        lengths = jnp.repeat(lengths, N // len(lengths))[:, None, None]
        written = jnp.arange(self.values.shape[1]) <= number
        some = [_attend(Part(self.keys.swapaxes(1, 2), self.values), query, written)]
        least, *nothing = (jnp.zeros_like(x) for x in some[0])
        nothing = least + _LEAST, *nothing
        for part, start, end in self.held.each_part():

            def attend(part=part, start=start, end=end):
                return _attend(part, query, start + jnp.arange(end - start) < lengths)

            some.append(jax.lax.cond(longest > start, attend, lambda: nothing))
        largest, total, out = (jnp.stack(x) for x in zip(*some, strict=True))
        shrunk = jnp.exp(largest - jnp.max(largest, axis=0))
        out = jnp.sum(out * shrunk, axis=0) / jnp.sum(total * shrunk, axis=0)
        return out.astype(q.dtype).reshape(q.shape)


def settled(
    caches: Sequence[BufferedCache], lengths: jax.Array, counts: jax.Array
) -> list[LongCache]:
    """The caches with what their buffers hold.

    Of each part only the rows are touched that have written there, those of all layers in one loop.

    Args:
        caches: each layer's.
        lengths: int32 [B], how many slots of the caches each row has filled.
        counts: int32 [B], how many of the buffers' follow there.
    """
    B, ends = len(lengths), caches[0].held.ends
    buffers = [
        [x.reshape(B, -1, *x.shape[1:]).swapaxes(1, 2) for x in (cache.keys, cache.values)]
        for cache in caches
    ]
    by_part = []
    for number, (start, end) in enumerate(zip((0, *ends[:-1]), ends, strict=True)):
        here = (lengths < end) & (lengths + counts > start) & (counts > 0)
        rows = jnp.argsort(~here)

        def put(i, parts, start=start, rows=rows):
            row = rows[i]
            return [
                part.put_piece(row, lengths[row] - start, counts[row], k[row], v[row])
                for part, (k, v) in zip(parts, buffers, strict=True)
            ]

        parts = [cache.held.parts[number] for cache in caches]
        by_part.append(jax.lax.fori_loop(0, jnp.sum(here), put, parts))
    return [LongCache(parts, ends) for parts in zip(*by_part, strict=True)]


def _put_piece(
    row: jax.Array,
    start: jax.Array,
    n: jax.Array,
    k: jax.Array,
    v: jax.Array,
    _: jax.Array,
    part: Part,
) -> Part:
    """What of a piece lies in a part, as much at a time as that has slots."""
    S = part.values.shape[1]
    for i in range(0, len(k), S):
        part = part.put_piece(row, start + i, n - i, k[i : i + S], v[i : i + S])
    return part


def _attend(part: Part, query: jax.Array, seen: jax.Array) -> tuple[jax.Array, ...]:
    """Attention to a part, not divided yet by the sum of its weights.

    Args:
        part: of N rows and heads.
        query: [N, n, K].
        seen: bool, broadcast to [N, n, S].

    Returns:
        The largest logit [N, n, 1], the sum of weights [N, n, 1], and weighted values [N, n, K],
        float32. Of a row that sees nothing: the least number there is, 0 and 0.
    """
    product, K = jnp.float32, query.shape[-1]
    logits = jnp.einsum("nik,nks->nis", query, part.keys, preferred_element_type=product)
    logits = jnp.where(seen, logits * K**-0.5, -jnp.inf)
    largest = jnp.maximum(jnp.max(logits, axis=-1, keepdims=True), _LEAST)
    weights = jnp.exp(logits - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights.astype(part.values.dtype)
    out = jnp.einsum("nis,nsk->nik", weights, part.values, preferred_element_type=product)
    return largest, total, out


def _some_keys(cache: Part, start, end, row, query, position, number, carry):
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
    keys = jax.lax.dynamic_slice(cache.keys, (row * G, 0, first), (G, K, B))
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


def _put(array: jax.Array, new: jax.Array, place: tuple, within: jax.Array) -> jax.Array:
    """An array with what of another is `within` at a place of it."""
    new = jnp.where(within, new, jax.lax.dynamic_slice(array, place, new.shape))
    return jax.lax.dynamic_update_slice(array, new, place)
