"""How the next token of each row is chosen where each has rules of its own.

The rules are those of `sampling.py`, which the tests compare them with. There they are part of the
compiled program; here they are its input, so that no request has anything compiled.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from qwen_audio_jax.inference.sampling import Sampling


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class RowSampling:
    """The rules of B rows, see `Sampling`: float32 [B], but `top_k` and `seeds` int32 [B].

    `seeds` are what draws depend on, beside the number of the token.
    """

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    repetition_penalty: np.ndarray
    seeds: np.ndarray

    @classmethod
    def greedy(cls, rows: int) -> "RowSampling":
        """The most likely token in every row."""
        made = cls(
            *(np.zeros(rows, kind) for kind in (np.float32, np.int32, np.float32, np.float32)),
            np.zeros(rows, np.int32),
        )
        for row in range(rows):
            made.put(row, Sampling(), 0)
        return made

    def put(self, row: int, sampling: Sampling, seed: int) -> None:
        """Gives a row its rules."""
        for name in ("temperature", "top_k", "top_p", "repetition_penalty"):
            getattr(self, name)[row] = getattr(sampling, name)
        self.seeds[row] = seed


def choose_each(
    logits: jax.Array, steps: jax.Array, used: jax.Array, sampling: RowSampling
) -> jax.Array:
    """The next token of each row, int32 [B]; see `sampling.choose`.

    Args:
        logits: float32 [B, V].
        steps: int32 [B], how many tokens each row has written.
        used: bool [B, V], ids already in the row.
        sampling: the rows' rules. What no row asks for is not computed.
    """
    penalty = sampling.repetition_penalty[:, None]
    lowered = jnp.where(logits < 0, logits * penalty, logits / penalty)
    scores = jnp.where(used, lowered, logits)
    likeliest = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    drawing = sampling.temperature > 0

    def draw(seed, step, scores):
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
        return jax.random.categorical(key, scores)

    def drawn():
        warmed = scores / jnp.where(drawing, sampling.temperature, 1.0)[:, None]
        cut = drawing & ((sampling.top_k > 0) | (sampling.top_p < 1))
        left = jax.lax.cond(jnp.any(cut), lambda: _cut(warmed, sampling), lambda: warmed)
        tokens = jax.vmap(draw)(sampling.seeds, steps, left).astype(jnp.int32)
        return jnp.where(drawing, tokens, likeliest)

    return jax.lax.cond(jnp.any(drawing), drawn, lambda: likeliest)


def _cut(scores: jax.Array, sampling: RowSampling) -> jax.Array:
    """-inf where top-k or top-p leaves a token out."""
    V = scores.shape[1]
    order = jnp.argsort(scores, axis=-1)
    ascending = jnp.take_along_axis(scores, order, axis=-1)
    k = jnp.where(sampling.top_k > 0, jnp.minimum(sampling.top_k, V), V)
    kth = jnp.take_along_axis(ascending, (V - k)[:, None], axis=-1)
    ascending = jnp.where(ascending < kth, -jnp.inf, ascending)
    # What the token and all less likely ones have together.
    tail = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)
    top_p = sampling.top_p[:, None]
    kept = ((tail > 1 - top_p) | (top_p >= 1)).at[:, -1].set(True)
    kept = jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(kept & (scores >= kth), scores, -jnp.inf)
