"""How the next token is chosen from the logits."""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; as it stands, the most likely one (greedy decoding).

    The names, rules and order are those of transformers' `generate`: repetition penalty,
    temperature, top-k, top-p, draw.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token and leaves out what follows.
        top_k: draw among the k most likely tokens and those as likely as the k-th; 0 is off.
        top_p: draw among the most likely tokens that reach this probability together, one at
            least; 1 is off.
        repetition_penalty: divides the positive logits, and multiplies the negative ones, of ids
            that the prompt or the answer already holds; 1 is off.

    Raises:
        ValueError: a value is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature: {self.temperature} is not a finite number from 0 up")
        if self.top_k != int(self.top_k) or self.top_k < 0:
            raise ValueError(f"top_k: {self.top_k} is not a whole number from 0 up")
        if not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} is not between 0 and 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty: {self.repetition_penalty} is not a finite number above 0"
            )


GREEDY = Sampling()
"""The most likely token."""


def choose(
    logits: jax.Array,
    step: jax.Array,
    used: jax.Array | None,
    sampling: Sampling,
    seeds: jax.Array | None,
) -> jax.Array:
    """The next token of each row, int32 [B]; see `process` and `generate`."""
    scores = process(logits, used, sampling)
    if sampling.temperature == 0:
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)
    if seeds is None:
        raise ValueError("seeds: sampling with a temperature above 0 needs a seed for each row")

    def draw(seed, scores):
        # Named, because another generator's draws would depend on the batch.
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
        return jax.random.categorical(key, scores)

    return jax.vmap(draw)(seeds, scores).astype(jnp.int32)


def process(logits: jax.Array, used: jax.Array | None, sampling: Sampling) -> jax.Array:
    """The unnormalised log-probabilities that a token is drawn from.

    Args:
        logits: float32 [B, V].
        used: bool [B, V], ids already in the row; None if the repetition penalty is off.
        sampling: what to apply.

    Returns:
        float32 [B, V]; -inf where top-k or top-p leaves a token out.
    """
    scores = logits
    if sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        lowered = jnp.where(scores < 0, scores * penalty, scores / penalty)
        scores = jnp.where(used, lowered, scores)
    if sampling.temperature == 0:
        return scores
    scores = scores / sampling.temperature
    if sampling.top_k > 0:
        kth = jax.lax.top_k(scores, min(sampling.top_k, scores.shape[-1]))[0][:, -1:]
        scores = jnp.where(scores < kth, -jnp.inf, scores)
    if sampling.top_p < 1:
        order = jnp.argsort(scores, axis=-1)
        ascending = jnp.take_along_axis(scores, order, axis=-1)
        # What the token and all less likely ones have together.
        tail = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)
        kept = (tail > 1 - sampling.top_p).at[:, -1].set(True)
        kept = jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1)
        scores = jnp.where(kept, scores, -jnp.inf)
    return scores
