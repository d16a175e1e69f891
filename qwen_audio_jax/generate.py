"""Decoding with a KV cache: prefill, then one token a step, in one compiled program."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.language_model import LanguageModel, rotation


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


def generate(
    graph: nnx.GraphDef,
    parameters: Any,
    batch: dict[str, jax.Array],
    *,
    stop: tuple[int, ...],
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    seeds: jax.Array | None = None,
) -> jax.Array:
    """A continuation of each row. For use inside `jax.jit`.

    Prompts lie at the left of their rows and may differ in length; what is generated goes into
    cache slots behind the longest one, so rows never see each other or each other's padding.

    Args:
        graph, parameters: the model, from `nnx.split`.
        batch: the Batch fields, one prompt a row; `segments` is 1 on the prompt and 0 after it.
        stop: ids that end an answer.
        max_new_tokens: how many tokens to write at most.
        sampling: how each token is chosen.
        seeds: int32 [B], needed if the temperature is above 0. A row's draws depend on its own
            seed and on the step alone, so it is answered alike in any batch.

    Returns:
        int32 [B, max_new_tokens]: up to its end with the stop token, then `stop[0]`.

    Raises:
        ValueError: `stop` is empty, or the seeds are missing.
    """
    if not stop:
        raise ValueError("stop: name one id at least that ends an answer")
    if sampling.temperature > 0 and seeds is None:
        raise ValueError("seeds: sampling with a temperature above 0 needs a seed for each row")
    model = nnx.merge(graph, parameters)
    decoder = _cast(model.decoder)
    B, L = batch["tokens"].shape
    in_prompt = batch["segments"] > 0
    lengths = jnp.sum(in_prompt, axis=1)
    slots = jnp.arange(L + max_new_tokens - 1)

    def rotate(positions):
        return rotation(decoder.config, positions, lengths)

    # A position sees itself in any case, so that no softmax over padding is empty.
    mask = (in_prompt[:, None] & jnp.tri(L, dtype=bool)) | jnp.eye(L, dtype=bool)
    hidden, cache = decoder.prefill(
        model.embed(batch), mask[:, None], rotate(batch["positions"]), len(slots)
    )
    last = jnp.take_along_axis(hidden, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)

    def write(hidden, step, done, used, written):
        """Chooses the token of `step`; a row that is done gets the filling."""
        token = choose(decoder.logits(hidden[:, 0]), step, used, sampling, seeds)
        token = jnp.where(done, stop[0], token)
        if used is not None:
            used = used.at[jnp.arange(B), token].set(True)
        done |= jnp.isin(token, jnp.array(stop))
        return token, done, used, written.at[:, step].set(token)

    def running(carry):
        step, (_, done, _, _), _ = carry
        return (step < max_new_tokens) & ~jnp.all(done)

    def body(carry):
        step, (token, *state), cache = carry
        slot = L + step - 1
        hidden, cache = decoder.decode(
            decoder.embed(token[:, None]),
            jnp.where(slots < L, _widen(in_prompt, len(slots)), slots <= slot),
            rotate((lengths + step - 1)[:, None]),
            cache,
            slot,
        )
        return step + 1, write(hidden, step, *state), cache

    used = _ids(batch["tokens"], in_prompt, decoder) if sampling.repetition_penalty != 1 else None
    written = jnp.full((B, max_new_tokens), stop[0], jnp.int32)
    first = write(last, 0, lengths == 0, used, written)
    _, (*_, written), _ = jax.lax.while_loop(running, body, (jnp.int32(1), first, cache))
    return written


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


def _cast(decoder: LanguageModel) -> LanguageModel:
    """The decoder with parameters in its compute dtype, so that no step converts them again."""
    graph, parameters = nnx.split(decoder)
    return nnx.merge(graph, jax.tree.map(lambda w: w.astype(decoder.dtype), parameters))


def _widen(in_prompt: jax.Array, slots: int) -> jax.Array:
    return jnp.pad(in_prompt, ((0, 0), (0, slots - in_prompt.shape[1])))


def _ids(tokens: jax.Array, in_prompt: jax.Array, decoder: LanguageModel) -> jax.Array:
    """Which ids each prompt holds, bool [B, V]."""
    rows = jnp.arange(len(tokens))[:, None]
    none = jnp.zeros((len(tokens), decoder.config.vocab_size), bool)
    return none.at[rows, tokens].max(in_prompt)
