"""Attention of packed rows behind one function: segment ids say who sees whom, in every backend."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P

BACKENDS = ("xla", "cudnn", "splash")
OUTPUT = "attention_output"
"""What rematerialisation calls the result (and the softmax's sums, where a kernel keeps them)."""

_QUERIES = 128
_TILE = 128
_BLOCKS = (512, 256, 128)
_ROWS, _HEADS = ("replica", "fsdp"), "tensor"


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


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, *, causal: bool, backend: str
) -> jax.Array:
    """Softmax attention within segments, at scale 1/sqrt(K); logits and softmax in float32.

    Args:
        q: [B, L, H, K]. k, v: [B, L, G, K] with G dividing H.
        segments: who sees whom.
        causal: whether a position sees none after itself.
        backend: "xla" anywhere; "cudnn" on an NVIDIA GPU; "splash", a Pallas kernel, on a TPU. The
            last runs under `jax.set_mesh` where there are several devices.

    Returns:
        [B, L, H, K]. Rows of padding hold finite values that nobody reads.
    """
    if backend == "splash":
        return _splash(q, k, v, segments, causal=causal)
    if backend == "xla":
        return _blocked(q, k, v, segments, causal)
    mask = segments.queries[:, None, :, None] == segments.keys[:, None, None, :]
    # Causality is told apart from the mask: the kernel then passes over the blocks behind it.
    out = jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation=backend)
    return checkpoint_name(out, OUTPUT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _blocked(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, causal: bool):
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
    out = checkpoint_name(_by_position(jnp.concatenate(outs, axis=3)).astype(q.dtype), OUTPUT)
    sums = checkpoint_name(jnp.concatenate(sums, axis=3), OUTPUT)
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


_blocked.defvjp(_blocked_forward, _blocked_backward)
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


def _splash(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, *, causal: bool):
    """Pallas's splash attention, on each device's rows and heads."""
    local = functools.partial(_splash_rows, causal=causal)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(q, k, v, segments)
    # GSPMD cannot divide a kernel. Key heads that do not divide over the axis are repeated.
    heads = mesh.shape[_HEADS]
    if k.shape[2] % heads:
        k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    split = P(_ROWS, None, _HEADS if q.shape[2] % heads == 0 else None)
    return jax.shard_map(
        local,
        in_specs=(split, split, split, P(_ROWS)),
        out_specs=split,
        check_vma=False,  # the kernel does not say how its results vary
    )(q, k, v, segments)


def _splash_rows(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, *, causal: bool):
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    B, L, H, K = q.shape
    G = k.shape[2]
    room = (0, -L % _TILE)
    q, k, v = (jnp.pad(x, ((0, 0), room, (0, 0), (0, 0))) for x in (q * K**-0.5, k, v))
    ids = splash.SegmentIds(
        *(jnp.pad(x, ((0, 0), room)) for x in (segments.queries, segments.keys))
    )
    kernel = _kernel(H // G, q.shape[1], causal)
    # [B, G, H / G, L, K]: each key head with the query heads that share it.
    q = q.reshape(B, -1, G, H // G, K).transpose(0, 2, 3, 1, 4)
    k, v = (x.transpose(0, 2, 1, 3) for x in (k, v))
    one_row = jax.vmap(kernel, in_axes=(0, 0, 0, None))
    out = jax.vmap(one_row)(q.astype(k.dtype), k, v, ids)
    return out.transpose(0, 3, 1, 2, 4).reshape(B, -1, H, K)[:, :L]


def _kernel(heads: int, length: int, causal: bool):
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    block = next(size for size in _BLOCKS if length % size == 0)
    mask = (splash.CausalMask if causal else splash.FullMask)((length, length))
    sizes = dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv"), block)
    return splash.make_splash_mqa_single_device(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=splash.BlockSizes(**sizes, block_q_dq=block, block_kv_dq=block),
        residual_checkpoint_name=OUTPUT,
    )
