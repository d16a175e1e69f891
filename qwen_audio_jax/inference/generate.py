"""Decoding with a KV cache: prefill, then one token a step, in one compiled program."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.inference.sampling import GREEDY, Sampling, choose
from qwen_audio_jax.models.cache import Cache
from qwen_audio_jax.models.language_model import LanguageModel, rope
from qwen_audio_jax.models.segments import Segments


def generate(
    graph: nnx.GraphDef,
    parameters: Any,
    batch: dict[str, jax.Array],
    *,
    stop: tuple[int, ...],
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
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
    model = nnx.merge(graph, parameters)
    decoder = model.decoder.cast()
    B, L = batch["tokens"].shape
    blocks = decoder.unstack(turned=B > 1)
    in_prompt = batch["segments"] > 0
    lengths = jnp.sum(in_prompt, axis=1)
    slots = jnp.arange(L + max_new_tokens - 1)
    prompt_slots = jnp.pad(in_prompt, ((0, 0), (0, max_new_tokens - 1)))
    last, caches = _prefill(decoder, model.embed(batch), batch["positions"], in_prompt, len(slots))

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
        step, (token, *state), caches = carry
        slot = L + step - 1
        rotate = rope(decoder.config, (lengths + step - 1)[:, None], lengths)
        attend = functools.partial(Cache.attend, seen=prompt_slots | (slots >= L) & (slots <= slot))
        x = decoder.embed(token[:, None])
        hidden, caches = decoder.decode(blocks, x, rotate, caches, slot, attend)
        return step + 1, write(hidden, step, *state), caches

    used = _ids(batch["tokens"], in_prompt, decoder) if sampling.repetition_penalty != 1 else None
    written = jnp.full((B, max_new_tokens), stop[0], jnp.int32)
    first = write(last, 0, lengths == 0, used, written)
    _, (*_, written), _ = jax.lax.while_loop(running, body, (jnp.int32(1), first, caches))
    return written


def _prefill(
    decoder: LanguageModel, x: jax.Array, positions: jax.Array, in_prompt: jax.Array, slots: int
) -> tuple[jax.Array, list[Cache]]:
    """Each prompt's last hidden state [B, 1, D], and the caches."""
    lengths = jnp.sum(in_prompt, axis=1)
    rotate = rope(decoder.config, positions, lengths)
    segments = Segments.of(in_prompt.astype(jnp.int32))
    hidden, caches = decoder.prefill(x, segments, rotate, slots)
    last = jnp.maximum(lengths - 1, 0)[:, None, None]
    return jnp.take_along_axis(hidden, last, axis=1), caches


def _ids(tokens: jax.Array, in_prompt: jax.Array, decoder: LanguageModel) -> jax.Array:
    """Which ids each prompt holds, bool [B, V]."""
    rows = jnp.arange(len(tokens))[:, None]
    none = jnp.zeros((len(tokens), decoder.config.vocab_size), bool)
    return none.at[rows, tokens].max(in_prompt)
