"""Attention by blocks of queries, with a gradient of its own, in plain XLA.

It is made for a CPU, which takes one key head of one row after another, with the query heads that
share it, so that the logits of a block stay in its caches. Each product is one of two matrices
that lie as they are multiplied, since XLA copies whatever lies otherwise; backward, logits lie as
[keys, queries] for that.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from qwen_audio_jax.models.layers import ATTENTION_OUTPUT
from qwen_audio_jax.models.segments import Segments

_QUERIES, _CAUSAL_QUERIES, _POSITIONS = 512, 128, 1536
"""At most of a block, and of all heads taken at a time: as many logits as a CPU caches. Causal
blocks are smaller because they leave out more keys so."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, causal: bool):
    """Softmax attention; see `attention.attend`.

    Blocks leave out the keys behind a causal block's end. The gradient makes the logits anew, and
    takes what a softmax's needs from the output, [B, L, H, K], where XLA would sum over all pairs.
    """
    return _forward(q, k, v, segments, causal)[0]


def _forward(q, k, v, segments, causal):
    G, one_head = k.shape[2], functools.partial(_forward_head, causal=causal)
    out, sums = _each_head(one_head, *(_by_head(x, G) for x in (q, k, v)), _repeat(segments, G))
    out = checkpoint_name(_by_position(out, G), ATTENTION_OUTPUT)
    sums = checkpoint_name(sums, ATTENTION_OUTPUT)
    return out, (q, k, v, segments, out, sums)


def _backward(causal, kept, slope):
    q, k, v, segments, out, sums = kept
    G, one_head = k.shape[2], functools.partial(_backward_head, causal=causal)
    mean = jnp.sum(slope.astype(jnp.float32) * out, axis=-1, keepdims=True)
    arrays = (_by_head(x, G) for x in (q, k, v, slope, mean))
    gradients = _each_head(one_head, *arrays, sums, _repeat(segments, G))
    return (*(_by_position(x, G) for x in gradients), None)


blocked_attention.defvjp(_forward, _backward)
_product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


def _forward_head(q, k, v, segments, causal):
    """One key head, n query heads.

    Args:
        q: [n, L, K].
        k, v: [1, L, K].
        segments: of [L].
        causal: see `attention.attend`.

    Returns:
        (result [n, L, K], logarithms of the softmax's sums, float32 [n, L]).
    """
    # Without the barrier JAX takes the masks of all blocks out of the loop over layers.
    segments, q = jax.lax.optimization_barrier((segments, q))
    n, L, K = q.shape
    outs, sums = [], []
    for here, there in _blocks(L, causal):
        logits = _product(q[:, here].reshape(-1, K), k[0, there].T) * K**-0.5
        hidden = _hidden(segments, here, there, causal, axis=0)
        logits = logits.reshape(n, *hidden.shape) + hidden
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = _product(weights.reshape(-1, weights.shape[-1]).astype(v.dtype), v[0, there])
        outs.append(out.reshape(n, -1, K) / total)
        sums.append(largest + jnp.log(total))
    out, sums = (jnp.concatenate(parts, axis=1) for parts in (outs, sums))
    return out.astype(q.dtype), sums[..., 0]


def _backward_head(q, k, v, slope, mean, sums, segments, causal):
    """The same backward.

    Args:
        q, k, v, segments, causal: as in `_forward_head`.
        slope: by the result, [n, L, K].
        mean: of slope under the softmax, float32 [n, L, 1].
        sums: from `_forward_head`.

    Returns:
        Gradients by q, k and v, whose shapes they have.
    """
    segments, q = jax.lax.optimization_barrier((segments, q))
    (n, L, K), dtype, keys_turned = q.shape, q.dtype, k[0].T
    by_q, by_k, by_v = [], 0.0, 0.0
    for here, there in _blocks(L, causal):
        q_here, slope_here = q[:, here].reshape(-1, K), slope[:, here].reshape(-1, K)
        logits = _product(k[0, there], q_here.T) * K**-0.5
        by_weights = _product(v[0, there], slope_here.T)
        logits, by_weights = (x.reshape(len(x), n, -1) for x in (logits, by_weights))
        hidden = _hidden(segments, here, there, causal, axis=1)[:, None]
        weights = jnp.exp(logits + hidden - sums[:, here])
        by_logits = weights * (by_weights - mean[:, here, 0]) * K**-0.5
        weights, by_logits = (x.reshape(len(x), -1).astype(dtype) for x in (weights, by_logits))
        by_q.append(_product(keys_turned[:, there], by_logits).reshape(K, n, -1))
        behind = ((0, L - there.stop), (0, 0))
        by_k += jnp.pad(_product(by_logits, q_here), behind)
        by_v += jnp.pad(_product(weights, slope_here), behind)
    by_q = jnp.concatenate(by_q, axis=-1).transpose(1, 2, 0)
    return tuple(x.astype(dtype) for x in (by_q, by_k[None], by_v[None]))


def _blocks(length: int, causal: bool) -> list[tuple[slice, slice]]:
    """Some queries, and the keys that any of them may see."""
    count = -(-length // (_CAUSAL_QUERIES if causal else _QUERIES))
    size = -(-length // (32 * count)) * 32  # alike, and as wide as a CPU multiplies
    ends = [min(start + size, length) for start in range(0, length, size)]
    return [
        (slice(start, end), slice(0, end if causal else length))
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _hidden(segments: Segments, here: slice, there: slice, causal: bool, *, axis: int) -> jax.Array:
    """What is added to a logit: 0, or a number that hides the key from the query.

    Float32 of two axes, `axis` that of the queries.
    """

    def lie(of_queries, of_keys):
        return jnp.expand_dims(of_queries, 1 - axis), jnp.expand_dims(of_keys, axis)

    query, key = lie(segments.queries[here], segments.keys[there])
    seen = query == key
    if segments.trunks is not None:
        seen |= lie(segments.trunks[here], segments.keys[there])[0] == key
    if causal:
        query, key = lie(jnp.arange(here.start, here.stop), jnp.arange(there.stop))
        seen &= key <= query
    return jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min / 2)


def _each_head(one: Callable, *arrays):
    """Runs it on each of their leading axis: on a CPU a few at a time, all at once elsewhere."""
    heads, length = arrays[0].shape[0], arrays[0].shape[2]
    few = [n for n in range(1, heads + 1) if heads % n == 0 and n * length <= _POSITIONS]
    at_once = max(few, default=1) if jax.default_backend() == "cpu" else heads
    # A batch of one is a loop too, but its arrays would be copied once more.
    batch = at_once if at_once > 1 else None
    return jax.lax.map(lambda of_head: one(*of_head), arrays, batch_size=batch)


def _by_head(x: jax.Array, groups: int) -> jax.Array:
    """[B, L, H, K] -> [B * G, H / G, L, K]."""
    B, L, H, K = x.shape
    return x.swapaxes(1, 2).reshape(B * groups, H // groups, L, K)


def _by_position(x: jax.Array, groups: int) -> jax.Array:
    """[B * G, H / G, L, K] -> [B, L, H, K]."""
    _, heads, L, K = x.shape
    return x.reshape(-1, groups * heads, L, K).swapaxes(1, 2)


def _repeat(segments: Segments, groups: int) -> Segments:
    """[B, L] -> [B * G, L]."""
    return jax.tree.map(lambda x: jnp.repeat(x, groups, axis=0), segments)
