"""Attention by blocks of queries, with a gradient of its own, in plain XLA."""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from qwen_audio_jax.models.layers import ATTENTION_OUTPUT
from qwen_audio_jax.models.segments import Segments

_QUERIES = 128


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, causal: bool):
    """Attention in plain XLA, some queries at a time, so that logits stay in a CPU's cache.

    Blocks leave out the keys behind a causal block's end. The gradient makes the logits anew, and
    takes what a softmax's needs from the output, [B, L, H, K], where XLA would sum over all pairs.
    """
    return _blocked_forward(q, k, v, segments, causal)[0]


def _blocked_forward(q, k, v, segments, causal):
    queries, keys, values = _by_head(q, k.shape[2]), _by_head(k), _by_head(v)
    outs, sums = [], []
    for here, there in _blocks(q.shape[1], causal):
        logits = _logits(queries[..., here, :], keys[..., there, :], segments, here, there, causal)
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = _product("bgnqs,bgsk->bgnqk", weights.astype(v.dtype), values[..., there, :])
        outs.append(out / total)
        sums.append(largest + jnp.log(total))
    out = checkpoint_name(
        _by_position(jnp.concatenate(outs, axis=3)).astype(q.dtype), ATTENTION_OUTPUT
    )
    sums = checkpoint_name(jnp.concatenate(sums, axis=3), ATTENTION_OUTPUT)
    return out, (q, k, v, segments, out, sums)


def _blocked_backward(causal, kept, slope):
    q, k, v, segments, out, sums = kept
    G, scale = k.shape[2], q.shape[-1] ** -0.5
    queries, keys, values = _by_head(q, G), _by_head(k), _by_head(v)
    slope, out = _by_head(slope, G), _by_head(out, G)
    mean = jnp.sum(slope.astype(jnp.float32) * out, axis=-1, keepdims=True)
    by_q, by_k, by_v = [], jnp.zeros(keys.shape), jnp.zeros(values.shape)
    for here, there in _blocks(q.shape[1], causal):
        q_here, slope_here = queries[..., here, :], slope[..., here, :]
        k_there, v_there = keys[..., there, :], values[..., there, :]
        logits = _logits(q_here, k_there, segments, here, there, causal)
        weights = jnp.exp(logits - sums[..., here, :])
        by_weights = _product("bgnqk,bgsk->bgnqs", slope_here, v_there)
        by_logits = (weights * (by_weights - mean[..., here, :]) * scale).astype(q.dtype)
        weights = weights.astype(v.dtype)
        by_q.append(_product("bgnqs,bgsk->bgnqk", by_logits, k_there))
        by_k = by_k.at[..., there, :].add(_product("bgnqs,bgnqk->bgsk", by_logits, q_here))
        by_v = by_v.at[..., there, :].add(_product("bgnqs,bgnqk->bgsk", weights, slope_here))
    by_q = _by_position(jnp.concatenate(by_q, axis=3)).astype(q.dtype)
    return by_q, by_k.swapaxes(1, 2).astype(k.dtype), by_v.swapaxes(1, 2).astype(v.dtype), None


blocked_attention.defvjp(_blocked_forward, _blocked_backward)
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _blocks(length: int, causal: bool) -> list[tuple[slice, slice]]:
    """Some queries, and the keys that any of them may see."""
    ends = [min(start + _QUERIES, length) for start in range(0, length, _QUERIES)]
    return [
        (slice(start, end), slice(0, end if causal else length))
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _by_head(x: jax.Array, groups: int = 0) -> jax.Array:
    """[B, L, H, K] -> [B, H, L, K], or [B, G, H / G, L, K]: a key head's query heads together."""
    x = x.swapaxes(1, 2)
    return x.reshape(len(x), groups, -1, *x.shape[2:]) if groups else x


def _by_position(x: jax.Array) -> jax.Array:
    """[B, G, H / G, L, K] -> [B, L, H, K]."""
    return x.reshape(len(x), -1, *x.shape[3:]).swapaxes(1, 2)


def _logits(q, k, segments, here, there, causal):
    """Float32 [B, G, H / G, queries, keys], the lowest number where a query does not see a key."""
    mask = segments.queries[:, here, None] == segments.keys[:, None, there]
    if causal:
        mask &= jnp.tri(*mask.shape[1:], here.start, dtype=bool)
    logits = _product("bgnqk,bgsk->bgnqs", q, k) * q.shape[-1] ** -0.5
    return jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)
