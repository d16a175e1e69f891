"""The key/value cache of decoding, laid as one query a head reads it fastest.

All rows are filled by one and the same slot a step (`inference/generate.py`); `long_cache.py` has
those that are filled each at a place of its own, for `inference/engine.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp

TILE = 64


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
        room = ((0, 0), (0, _whole_tiles(slots) - k.shape[1]), (0, 0))
        k, v = (jnp.pad(rows_and_heads(x), room) for x in (k, v))
        return cls(k.reshape(len(k), -1, TILE, k.shape[2]).swapaxes(2, 3), v)

    @classmethod
    def empty(cls, rows: int, heads: int, head_dim: int, slots: int, dtype: str) -> "Cache":
        """Of B rows and G heads, with room for `slots`, rounded up to tiles."""
        S = _whole_tiles(slots)
        return cls(
            jnp.zeros((rows * heads, S // TILE, head_dim, TILE), dtype),
            jnp.zeros((rows * heads, S, head_dim), dtype),
        )

    def put(self, slot: jax.Array, k: jax.Array, v: jax.Array) -> "Cache":
        """The cache with k and v, [B, 1, G, K], in a slot: int32 []."""
        k, v = (rows_and_heads(x) for x in (k, v))
        keys = jax.lax.dynamic_update_slice(
            self.keys, k.swapaxes(1, 2)[:, None], (0, slot // TILE, 0, slot % TILE)
        )
        values = jax.lax.dynamic_update_slice(self.values, v, (0, slot, 0))
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

    def put_piece(
        self, row: jax.Array, start: jax.Array, n: jax.Array, k: jax.Array, v: jax.Array
    ) -> "Cache":
        """The cache with the first n of k and v, [P, G, K], in the slots of a row from `start` on.

        S must be P at least. What lies before the first slot, as `start` may, or behind the last is
        left out, and all other slots keep what they hold.
        """
        P, G, _ = k.shape
        S, tiles, K = self.values.shape[1], *self.keys.shape[1:3]
        # All P lie in the cache, the n from `start` on and some that stay.
        begin = jnp.clip(start, 0, S - P)
        k, v = (jnp.roll(x.swapaxes(0, 1), start - begin, axis=1) for x in (k, v))
        place = begin + jnp.arange(P)
        within = ((place >= start) & (place < start + n))[:, None]
        values = _put(self.values, v, (row * G, begin, 0), within)
        touched = min((P + TILE - 2) // TILE + 1, tiles)
        first = jnp.minimum(begin // TILE, tiles - touched)
        place = (row * G, first, 0, 0)
        piece = jax.lax.dynamic_slice(self.keys, place, (G, touched, K, TILE))
        piece = piece.swapaxes(2, 3).reshape(G, -1, K)
        piece = _put(piece, k, (0, begin - first * TILE, 0), within)
        piece = piece.reshape(G, touched, TILE, K).swapaxes(2, 3)
        keys = jax.lax.dynamic_update_slice(self.keys, piece, place)
        return Cache(*jax.lax.optimization_barrier((keys, values)))


def _whole_tiles(slots: int) -> int:
    """As many or more, in tiles. Two at least: of one, XLA makes products eight times as slow."""
    return max(-(-slots // TILE), 2) * TILE


def _put(array: jax.Array, new: jax.Array, place: tuple, within: jax.Array) -> jax.Array:
    """An array with what of another is `within` at a place of it."""
    new = jnp.where(within, new, jax.lax.dynamic_slice(array, place, new.shape))
    return jax.lax.dynamic_update_slice(array, new, place)


def rows_and_heads(x: jax.Array) -> jax.Array:
    """[B, L, G, K] -> [B * G, L, K]."""
    return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])
