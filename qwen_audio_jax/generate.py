"""Greedy decoding with a KV cache: prefill, then one token a step, in one compiled program."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.language_model import rotation


def greedy(
    graph: nnx.GraphDef,
    parameters: Any,
    batch: dict[str, jax.Array],
    *,
    end: int,
    max_new_tokens: int,
) -> jax.Array:
    """The most likely continuation of each row.

    Prompts lie at the left of their rows and may differ in length; what is generated goes into
    cache slots behind the longest one, so rows never see each other or each other's padding.

    Args:
        graph, parameters: the model, from `nnx.split`.
        batch: the Batch fields, one prompt a row; `segments` is 1 on the prompt and 0 after it.
        end: the id that ends an answer.
        max_new_tokens: how many tokens to write at most.

    Returns:
        int32 [B, max_new_tokens]; `end` from where a row has ended.
    """
    model = nnx.merge(graph, parameters)
    B, L = batch["tokens"].shape
    lengths = jnp.sum(batch["segments"] > 0, axis=1)
    slots = jnp.arange(L + max_new_tokens)
    in_prompt = slots < lengths[:, None]

    def rotate(positions):
        return rotation(model.config.decoder, positions, lengths)

    mask = in_prompt[:, None] & (slots <= jnp.arange(L)[:, None])
    hidden, cache = model.decoder.with_cache(
        model.embed(batch),
        # A row of padding alone sees its first slot, so that no softmax is empty.
        (mask | (slots == 0))[:, None],
        rotate(batch["positions"]),
        model.decoder.empty_cache(B, L + max_new_tokens),
        jnp.int32(0),
    )
    last = jnp.take_along_axis(hidden, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)

    def next_token(hidden):
        return jnp.argmax(model.decoder.logits(hidden[:, 0]), axis=-1).astype(jnp.int32)

    def running(carry):
        step, _, done, _, _ = carry
        return (step < max_new_tokens) & ~jnp.all(done)

    def body(carry):
        step, token, done, cache, written = carry
        written = written.at[:, step].set(jnp.where(done, end, token))
        done |= token == end
        seen = in_prompt | ((slots >= L) & (slots <= L + step))
        hidden, cache = model.decoder.with_cache(
            model.decoder.embed(token[:, None]),
            seen[:, None, None],
            rotate((lengths + step)[:, None]),
            cache,
            L + step,
        )
        return step + 1, next_token(hidden), done, cache, written

    written = jnp.full((B, max_new_tokens), end, jnp.int32)
    start = (jnp.int32(0), next_token(last), lengths == 0, cache, written)
    return jax.lax.while_loop(running, body, start)[-1]
