"""Which positions of packed rows belong together, and so may see one another."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Segments:
    """A query sees the keys that have its number, and those that have its trunk's.

    Attributes:
        queries: int32 [B, L]; 0 is padding.
        keys: int32 [B, L]; padding is seen by padding, so that no softmax is empty.
        trunks: int32 [B, L]; the segment that a branch's query sees beside its own, and its own
            number for others; None where no row has branches. Those of a trunk are two, they lie
            behind it and have the two numbers after its own (see `data_pipelines/pairs.py`).
    """

    queries: jax.Array
    keys: jax.Array
    trunks: jax.Array | None = None

    @classmethod
    def of(
        cls,
        segments: jax.Array,
        hidden: jax.Array | None = None,
        trunks: jax.Array | None = None,
    ) -> "Segments":
        """Of a packed row's segment numbers, int32 [B, L], and those of trunks, if it has any.

        `hidden`, bool [B, L], are positions within segments that nobody may see; a segment must
        have others.
        """
        keys = segments
        if hidden is not None:
            keys = jnp.where(hidden & (segments > 0), -1, segments)
        return cls(segments, keys, trunks)

    @property
    def seen(self) -> jax.Array:
        """Bool [B, L, L]: whether a query, the first of the two, sees a key."""
        keys = self.keys[:, None]
        seen = self.queries[..., None] == keys
        return seen if self.trunks is None else seen | (self.trunks[..., None] == keys)
