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


def _whole_tiles(slots: int) -> int:
    """As many or more, in tiles. Two at least: of one, XLA makes products eight times as slow."""
    return max(-(-slots // TILE), 2) * TILE


def rows_and_heads(x: jax.Array) -> jax.Array:
    """[B, L, G, K] -> [B * G, L, K]."""
    return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])
