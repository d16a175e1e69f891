"""Attention by blocks of queries, with a gradient of its own, in plain XLA.

It is made for a CPU, which takes one key head of one row after another, with the query heads that
share it, so that the logits of a block stay in its caches. Each product is one of two matrices
that lie as they are multiplied, since XLA copies whatever lies otherwise; backward, logits lie as
[keys, queries] for that.

Keys that no query of a block sees are left out: those behind a causal block, and in a long row,
see `models/windows.py`, those of other segments too.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from qwen_audio_jax.models.layers import ATTENTION_OUTPUT
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.models.windows import (
    SIZE,
    Span,
    cut,
    each_block,
    filled_up,
    seen_by,
    windows_of,
    without_end,
)

_QUERIES, _CAUSAL_QUERIES, _POSITIONS = 512, 128, 1536
"""At most of a block, and of all heads taken at a time: as many logits as a CPU caches. Causal
blocks are smaller because they leave out more keys so."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, causal: bool):
    """Softmax attention; see `attention.attend`.

    The gradient makes the logits anew, and takes what a softmax's needs from the output,
    [B, L, H, K], where XLA would sum over all pairs.
    """
    return _forward(q, k, v, segments, causal)[0]


def _forward(q, k, v, segments, causal):
    G, one_head = k.shape[2], functools.partial(_forward_head, causal=causal)
    arrays = (_by_head(x, G) for x in (q, k, v))
    out, sums = _each_head(one_head, *arrays, segments=segments, causal=causal)
    out = checkpoint_name(_by_position(out, G), ATTENTION_OUTPUT)
    sums = checkpoint_name(sums, ATTENTION_OUTPUT)
    return out, (q, k, v, segments, out, sums)


def _backward(causal, kept, slope):
    q, k, v, segments, out, sums = kept
    G, one_head = k.shape[2], functools.partial(_backward_head, causal=causal)
    mean = jnp.sum(slope.astype(jnp.float32) * out, axis=-1, keepdims=True)
    arrays = (_by_head(x, G) for x in (q, k, v, slope, mean))
    gradients = _each_head(one_head, *arrays, sums, segments=segments, causal=causal)
    return (*(_by_position(x, G) for x in gradients), None)


blocked_attention.defvjp(_forward, _backward)
_product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


def _forward_head(q, k, v, segments, windows, causal):
    """One key head, n query heads.

    Args:
        q: [n, L, K].
        k, v: [1, L, K].
        segments: of [L].
        windows: of `windows.windows_of`, [blocks, 2], or None.
        causal: see `attention.attend`.

    Returns:
        (result [n, L, K], logarithms of the softmax's sums, float32 [n, L]).
    """
    # Without the barrier JAX takes the masks of all blocks out of the loop over layers.
    segments, windows, q = jax.lax.optimization_barrier((segments, windows, q))
    (n, L, K), dtype = q.shape, q.dtype
    if windows is not None:
        segments, q = without_end(segments), filled_up(q, 1)

    def block(carry, here, there):
        logits = _product(cut(q, here, 1).reshape(-1, K), cut(k[0], there, 0).T) * K**-0.5
        hidden = _hidden(seen_by(segments, here, there, causal))
        logits = logits.reshape(n, *hidden.shape) + hidden
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights.reshape(-1, weights.shape[-1]).astype(v.dtype)
        out = _product(weights, cut(v[0], there, 0)).reshape(n, -1, K) / total
        return carry, (out.astype(dtype), (largest + jnp.log(total))[..., 0])

    return _over_blocks(block, (), L, windows, causal)[1]


def _backward_head(q, k, v, slope, mean, sums, segments, windows, causal):
    """The same backward.

    Args:
        q, k, v, segments, windows, causal: as in `_forward_head`.
        slope: by the result, [n, L, K].
        mean: of slope under the softmax, float32 [n, L, 1].
        sums: from `_forward_head`.

    Returns:
        Gradients by q, k and v, whose shapes they have.
    """
    segments, windows, q = jax.lax.optimization_barrier((segments, windows, q))
    (n, L, K), dtype, keys_turned = q.shape, q.dtype, k[0].T
    if windows is not None:
        segments = without_end(segments)
        q, slope, mean, sums = (filled_up(x, 1) for x in (q, slope, mean, sums))

    def block(carry, here, there):
        q_here, slope_here = (cut(x, here, 1).reshape(-1, K) for x in (q, slope))
        logits = _product(cut(k[0], there, 0), q_here.T) * K**-0.5
        by_weights = _product(cut(v[0], there, 0), slope_here.T)
        logits, by_weights = (x.reshape(len(x), n, -1) for x in (logits, by_weights))
        hidden = _hidden(seen_by(segments, here, there, causal).T)[:, None]
        weights = jnp.exp(logits + hidden - cut(sums, here, 1))
        by_logits = weights * (by_weights - cut(mean, here, 1)[..., 0]) * K**-0.5
        weights, by_logits = (x.reshape(len(x), -1).astype(dtype) for x in (weights, by_logits))
        by_q = _product(cut(keys_turned, there, 1), by_logits).reshape(K, n, -1)
        added = _product(by_logits, q_here), _product(weights, slope_here)
        carry = tuple(
            jax.lax.dynamic_update_slice_in_dim(x, cut(x, there, 0) + more, there[0], 0)
            for x, more in zip(carry, added, strict=True)
        )
        return carry, by_q.transpose(1, 2, 0).astype(dtype)

    zeros = jnp.zeros((L, K), jnp.float32)
    (by_k, by_v), by_q = _over_blocks(block, (zeros, zeros), L, windows, causal)
    return by_q, by_k[None].astype(dtype), by_v[None].astype(dtype)


def _over_blocks(run: Callable, carry, length: int, windows, causal: bool):
    """`windows.each_block`, or where there are no windows, over `_blocks`; likewise."""
    if windows is not None:
        return each_block(run, carry, length, windows)
    parts = []
    for here, there in _blocks(length, causal):
        carry, part = run(carry, here, there)
        parts.append(part)
    return carry, jax.tree.map(lambda *part: jnp.concatenate(part, axis=1), *parts)


def _blocks(length: int, causal: bool) -> list[tuple[Span, Span]]:
    """Some queries, and the keys that any of them may see."""
    count = -(-length // (_CAUSAL_QUERIES if causal else _QUERIES))
    size = -(-length // (32 * count)) * 32  # alike, and as wide as a CPU multiplies
    ends = [min(start + size, length) for start in range(0, length, size)]
    return [
        ((start, end - start), (0, end if causal else length))
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _hidden(seen: jax.Array) -> jax.Array:
    """What is added to a logit: 0, or a number that hides the key from the query; float32."""
    return jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min / 2)


def _each_head(one: Callable, *arrays, segments: Segments, causal: bool):
    """Runs it on each of their leading axis: on a CPU a few at a time, all at once elsewhere.

    One at a time is where windows pay: of several, XLA would compute all widths.
    """
    heads, length = arrays[0].shape[0], arrays[0].shape[2]
    few = [n for n in range(1, heads + 1) if heads % n == 0 and n * length <= _POSITIONS]
    at_once = max(few, default=1) if jax.default_backend() == "cpu" else heads
    windows = windows_of(segments, causal) if at_once == 1 and length > SIZE else None
    groups = heads // len(segments.keys)
    of_rows = jax.tree.map(lambda x: jnp.repeat(x, groups, axis=0), (segments, windows))
    # A batch of one is a loop too, but its arrays would be copied once more.
    batch = at_once if at_once > 1 else None
    return jax.lax.map(lambda of_head: one(*of_head), (*arrays, *of_rows), batch_size=batch)


def _by_head(x: jax.Array, groups: int) -> jax.Array:
    """[B, L, H, K] -> [B * G, H / G, L, K]."""
    B, L, H, K = x.shape
    return x.swapaxes(1, 2).reshape(B * groups, H // groups, L, K)


def _by_position(x: jax.Array, groups: int) -> jax.Array:
    """[B * G, H / G, L, K] -> [B, L, H, K]."""
    _, heads, L, K = x.shape
    return x.reshape(-1, groups * heads, L, K).swapaxes(1, 2)
