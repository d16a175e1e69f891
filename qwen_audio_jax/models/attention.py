"""Attention of packed rows behind one function: segment ids say who sees whom, in every backend."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.models.blocked_attention import blocked_attention
from qwen_audio_jax.models.layers import ATTENTION_INPUT, ATTENTION_OUTPUT
from qwen_audio_jax.models.segments import Segments

BACKENDS = ("xla", "cudnn", "splash")
_TILE = 128
_BLOCKS = (512, 256, 128)
_ROWS, _HEADS = ("replica", "fsdp"), "tensor"
_HIDDEN = 2.0**15  # exact in every dtype; exp(-_HIDDEN) is 0


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, *, causal: bool, backend: str
) -> jax.Array:
    """Softmax attention within segments, at scale 1/sqrt(K); logits and softmax in float32.

    Args:
        q: [B, L, H, K]. k, v: [B, L, G, K] with G dividing H.
        segments: who sees whom.
        causal: whether a position sees none after itself.
        backend: "xla" anywhere; "cudnn" on an NVIDIA GPU; "splash", a Pallas kernel, on a TPU.
            Where there are several devices, all run under `jax.set_mesh`.

    Returns:
        [B, L, H, K]. Rows of padding hold finite values that nobody reads.
    """
    q, k, v = (checkpoint_name(x, ATTENTION_INPUT) for x in (q, k, v))
    if backend == "cudnn":
        # Causality is told apart from the mask: the kernel then passes over the blocks behind it.
        out = jax.nn.dot_product_attention(
            q, k, v, mask=segments.seen[:, None], is_causal=causal, implementation=backend
        )
        return checkpoint_name(out, ATTENTION_OUTPUT)
    rows = {"xla": blocked_attention, "splash": _splash}[backend]
    return _on_each_device(functools.partial(rows, causal=causal), q, k, v, segments)


def _on_each_device(
    rows: Callable, q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments
) -> jax.Array:
    """Attention of each device's rows and heads. GSPMD divides neither kernels nor loops."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return rows(q, k, v, segments)
    # Key heads that do not divide over the axis are repeated.
    heads = mesh.shape[_HEADS]
    if k.shape[2] % heads:
        k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    split = P(_ROWS, None, _HEADS if q.shape[2] % heads == 0 else None)
    return jax.shard_map(
        rows,
        in_specs=(split, split, split, P(_ROWS)),
        out_specs=split,
        check_vma=False,  # a kernel does not say how its results vary
    )(q, k, v, segments)


def _splash(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, causal: bool):
    """Pallas's splash attention."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    B, L, H, _ = q.shape
    G = k.shape[2]
    q = q * q.shape[-1] ** -0.5
    ids = segments.queries, segments.keys
    if segments.trunks is not None:
        q, k, ids = _with_branches(q, k, segments)
    room = (0, -L % _TILE)
    q, k, v = (jnp.pad(x, ((0, 0), room, (0, 0), (0, 0))) for x in (q, k, v))
    ids = splash.SegmentIds(*(jnp.pad(x, ((0, 0), room)) for x in ids))
    kernel = _kernel(H // G, q.shape[1], causal)
    # [B, G, H / G, L, K]: each key head with the query heads that share it.
    q = q.reshape(B, -1, G, H // G, q.shape[-1]).transpose(0, 2, 3, 1, 4)
    k, v = (x.transpose(0, 2, 1, 3) for x in (k, v))
    one_row = jax.vmap(kernel, in_axes=(0, 0, 0, None))
    out = jax.vmap(one_row)(q.astype(k.dtype), k, v, ids)
    return out.transpose(0, 3, 1, 2, 4).reshape(B, -1, H, v.shape[-1])[:, :L]


def _with_branches(q: jax.Array, k: jax.Array, segments: Segments):
    """(queries, keys, numbers of both) under which a causal kernel sees what branches see.

    It compares one number of a query with one of a key: that of the trunk here, which lets the
    second branch see the first one too. One more entry of both vectors hides that: its product is
    so far below all logits that the weight, and any gradient through it, is exactly 0.
    """
    branch = (segments.queries - segments.trunks)[..., None, None]
    second, first = (jnp.where(branch == 2, 1.0, 0.0), jnp.where(branch == 1, -_HIDDEN, 0.0))
    q, k = (
        jnp.concatenate([x, jnp.broadcast_to(one, (*x.shape[:-1], 1)).astype(x.dtype)], axis=-1)
        for x, one in ((q, second), (k, first))
    )
    return q, k, (segments.trunks, segments.trunks)


def _kernel(heads: int, length: int, causal: bool):
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    block = next(size for size in _BLOCKS if length % size == 0)
    mask = (splash.CausalMask if causal else splash.FullMask)((length, length))
    sizes = dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv"), block)
    return splash.make_splash_mqa_single_device(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=splash.BlockSizes(**sizes, block_q_dq=block, block_kv_dq=block),
        residual_checkpoint_name=ATTENTION_OUTPUT,
    )
