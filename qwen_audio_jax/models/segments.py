"""Which positions of packed rows belong together, and so may see one another."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Segments:
    """A query sees the keys that have its number.

    Attributes:
        queries: int32 [B, L]; 0 is padding.
        keys: int32 [B, L]; padding is seen by padding, so that no softmax is empty.
    """

    queries: jax.Array
    keys: jax.Array

    @classmethod
    def of(cls, segments: jax.Array, hidden: jax.Array | None = None) -> "Segments":
        """Of a packed row's segment numbers, int32 [B, L].

        `hidden`, bool [B, L], are positions within segments that nobody may see; a segment must
        have others.
        """
        keys = segments
        if hidden is not None:
            keys = jnp.where(hidden & (segments > 0), -1, segments)
        return cls(segments, keys)
