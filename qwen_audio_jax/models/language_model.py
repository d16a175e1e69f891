"""The decoder, Qwen's or Llama's: RMSNorm, rotary positions, grouped key/value heads, gated MLP."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.attention import attend
from qwen_audio_jax.models.cache import Cache
from qwen_audio_jax.models.cuts import Parted
from qwen_audio_jax.models.layers import (
    RMSNorm,
    TransposedLinear,
    linear,
    scan_layers,
    stack_layers,
)
from qwen_audio_jax.models.long_cache import BufferedCache, LongCache
from qwen_audio_jax.models.presets import Compute, DecoderConfig
from qwen_audio_jax.models.segments import Segments


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoPE:
    """What attention needs to know of the positions.

    Attributes:
        cos, sin: float32 [B, L, 1, K].
        query_scale: float32 [B, L, 1, 1]; the log-n factor, 1 where it does not apply.
    """

    cos: jax.Array
    sin: jax.Array
    query_scale: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Rotates [B, L, heads, K], halves against each other, in float32."""
        first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        turned = jnp.concatenate([-second, first], axis=-1)
        return (x.astype(jnp.float32) * self.cos + turned * self.sin).astype(x.dtype)


def ntk_alpha(length: jax.Array, trained_length: int) -> jax.Array:
    """Dynamic-NTK factor of rows of `length` tokens: 1, 3, 7, 15 ... per doubling (Qwen-Audio)."""
    doublings = jnp.ceil(jnp.log2(length.astype(jnp.float32) / trained_length) + 1)
    return jnp.maximum(2.0**doublings - 1, 1.0)


def slowed(frequencies: jax.Array, config: DecoderConfig) -> jax.Array:
    """Llama 3.1's rotary frequencies: the slowest turn slower by a factor, and those between less.

    They are told apart by how often each turns within the length that was trained before.
    """
    turns = frequencies * (config.rope_length / (2 * math.pi))
    kept = jnp.clip((turns - config.rope_low) / (config.rope_high - config.rope_low), 0.0, 1.0)
    return frequencies * (kept + (1 - kept) / config.rope_factor)


def rope(config: DecoderConfig, positions: jax.Array, lengths: jax.Array | None = None) -> RoPE:
    """Rotary tables for positions.

    Args:
        config: the decoder's.
        positions: int32 [B, L], within the example.
        lengths: int32 [B], each row's length at prefill. Given in evaluation, it lets log-n and
            dynamic-NTK scaling act, where the configuration has them; in training it is None.
    """
    K = config.head_dim
    base = jnp.full((positions.shape[0], 1, 1), config.rope_base)
    scale = jnp.ones(positions.shape)
    if lengths is not None and config.dynamic_ntk:
        alpha = ntk_alpha(lengths, config.trained_length)[:, None, None]
        base = base * alpha ** (K / (K - 2))
    if lengths is not None and config.log_n:
        logs = jnp.log(positions + 1.0) / jnp.log(float(config.trained_length))
        scale = jnp.where(positions + 1 > config.trained_length, logs, 1.0)
    frequencies = base ** (-jnp.arange(0, K, 2) / K)
    if config.rope_factor != 1:
        frequencies = slowed(frequencies, config)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    angles = jnp.concatenate([angles, angles], axis=-1)[:, :, None]
    return RoPE(jnp.cos(angles), jnp.sin(angles), scale[..., None, None])


def head_of(decoder: Mapping[str, Any]) -> tuple[Any, str]:
    """The output head among a decoder's parameters, and its axes: "dv", or "vd" where it is tied.

    A tied one is not turned round, which would copy it; another is where `head_axes` says so.
    """
    if "head" not in decoder:
        return decoder["embedding"], "vd"
    return decoder["head"], decoder.get("head_axes", "dv")


class DecoderBlock(nnx.Module):
    """Pre-norm attention (bias on query, key and value at most) and SwiGLU MLP."""

    def __init__(self, config: DecoderConfig, compute: Compute, rngs: nnx.Rngs):
        D, K, bias = config.width, config.head_dim, config.qkv_bias
        self.head_dim, self.qk_norm = K, config.qk_norm
        self.backend = compute.attention
        residual = (2 * config.layers) ** -0.5
        self.attention_norm = RMSNorm(D, config.norm_eps)
        self.query = linear(D, config.heads * K, compute, rngs, bias=bias)
        self.key = linear(D, config.kv_heads * K, compute, rngs, bias=bias)
        self.value = linear(D, config.kv_heads * K, compute, rngs, bias=bias)
        if config.qk_norm:
            self.query_norm, self.key_norm = (RMSNorm(K, config.norm_eps) for _ in range(2))
        self.out = linear(config.heads * K, D, compute, rngs, bias=False, scale=residual)
        self.mlp_norm = RMSNorm(D, config.norm_eps)
        self.gate = linear(D, config.mlp_width, compute, rngs, bias=False)
        self.up = linear(D, config.mlp_width, compute, rngs, bias=False)
        self.down = linear(config.mlp_width, D, compute, rngs, bias=False, scale=residual)

    def __call__(self, x: jax.Array, segments: Segments, rotate: RoPE) -> jax.Array:
        """A whole row at once, [B, L, D]."""
        return self.with_cache(x, segments, rotate)[0]

    def with_cache(
        self, x: jax.Array, segments: Segments, rotate: RoPE
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """The same, and the rotated keys and the values, [B, L, G, K]."""
        q, k, v = self.project(x, rotate)
        attended = attend(q, k, v, segments, causal=True, backend=self.backend)
        return self.finish(x, attended), (k, v)

    def project(self, x: jax.Array, rotate: RoPE) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rotated query [B, L, H, K], scaled by log-n; rotated key and value [B, L, G, K]."""
        y = self.attention_norm(x)
        q, k, v = (
            project(y).reshape(*y.shape[:2], -1, self.head_dim)
            for project in (self.query, self.key, self.value)
        )
        if self.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        q = rotate(q)
        return q * rotate.query_scale.astype(q.dtype), rotate(k), v

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """The block from the attention's result on."""
        x = x + self.out(attended.reshape(*x.shape[:2], -1))
        y = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(y)) * self.up(y))


class LanguageModel(nnx.Module):
    """Embeddings in, hidden states out; word embedding and output head beside them.

    The head is an array of its own, [D, V], or the word embedding where they are tied, [V, D].

    Attributes:
        head_axes: "vd" where a head of its own was turned round, as few positions are multiplied
            with it fastest on the CPU, see `TransposedLinear`.
    """

    head_axes = "dv"

    def __init__(self, config: DecoderConfig, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.dtype = jnp.dtype(compute.dtype)
        self.remat = compute.remat
        V, D = config.vocab_size, config.width
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (V, D)) * 0.02)
        self.blocks = stack_layers(
            lambda rngs: DecoderBlock(config, compute, rngs), config.layers, rngs
        )
        self.norm = RMSNorm(D, config.norm_eps)
        if not config.tied:
            self.head = nnx.Param(jax.random.normal(rngs.params(), (D, V)) * D**-0.5)

    def cast(self) -> "LanguageModel":
        """The same with parameters in the compute dtype, so that no step converts them again."""
        graph, parameters = nnx.split(self)
        return nnx.merge(graph, jax.tree.map(lambda w: w.astype(self.dtype), parameters))

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int32 [B, L] -> [B, L, D] in the compute dtype."""
        table = self.embedding[...]
        rows = table.rows(tokens) if isinstance(table, Parted) else table[tokens]
        return rows.astype(self.dtype)

    def __call__(self, x: jax.Array, segments: Segments, rotate: RoPE) -> jax.Array:
        """Embeddings [B, L, D] of packed rows -> normalised hidden states [B, L, D]."""
        return self.norm(scan_layers(self.blocks, x, segments, rotate, remat=self.remat))

    def prefill(
        self, x: jax.Array, segments: Segments, rotate: RoPE, slots: int
    ) -> tuple[jax.Array, list[Cache]]:
        """The same for a prompt, keeping its keys and values.

        Args:
            x: [B, L, D].
            segments: 1 on the prompt and 0 after it.
            rotate: of the prompt's positions.
            slots: S, how many positions the caches have room for; L at least.

        Returns:
            Normalised hidden states [B, L, D], and each layer's cache, its first L slots filled.
        """
        graph, parameters = nnx.split(self.blocks)

        def body(x, layer_parameters):
            return nnx.merge(graph, layer_parameters).with_cache(x, segments, rotate)

        x, (keys, values) = jax.lax.scan(body, x, parameters)
        return self.norm(x), [Cache.of(k, v, slots) for k, v in zip(keys, values, strict=True)]

    def unstack(self, *, turned: bool) -> list[DecoderBlock]:
        """The blocks one by one, for `decode` and `read`.

        A loop over steps would copy each layer out of the stack in every step.

        Args:
            turned: whether kernels are turned round, see `TransposedLinear`.
        """
        graph, parameters = nnx.split(self.blocks)
        blocks = [
            nnx.merge(graph, jax.tree.map(lambda w, layer=layer: w[layer], parameters))
            for layer in range(self.config.layers)
        ]
        if turned:
            for block in blocks:
                for name in ("query", "key", "value", "out", "gate", "up", "down"):
                    setattr(block, name, TransposedLinear(getattr(block, name)))
        return blocks

    def decode(
        self,
        blocks: Sequence[DecoderBlock],
        x: jax.Array,
        rotate: RoPE,
        caches: Sequence[Cache] | Sequence[BufferedCache],
        slot: jax.Array,
        attend: Callable[[Any, jax.Array], jax.Array],
    ) -> tuple[jax.Array, list[Any]]:
        """The same for one more position of each row, which enters the caches.

        Args:
            blocks: from `unstack`.
            x: [B, 1, D], the new position.
            rotate: of the new position.
            caches: each layer's, of S slots.
            slot: int32 [], where in the caches the new position goes.
            attend: (cache, query [B, 1, H, K]) -> what is seen in it, the new position too.

        Returns:
            Normalised hidden states [B, 1, D], and the caches with that slot filled.
        """
        filled = []
        for block, cache in zip(blocks, caches, strict=True):
            q, k, v = block.project(x, rotate)
            filled.append(cache.put(slot, k, v))
            x = block.finish(x, attend(filled[-1], q))
        return self.norm(x), filled

    def read(
        self,
        blocks: Sequence[DecoderBlock],
        x: jax.Array,
        rotate: RoPE,
        caches: Sequence[LongCache],
        row: jax.Array,
        start: jax.Array,
        n: jax.Array,
    ) -> tuple[jax.Array, list[LongCache]]:
        """The same for a piece of one row's prompt, which follows on what its slots hold.

        Args:
            blocks: from `unstack`.
            x: [P, 1, D], the positions from `start` on.
            rotate: of these positions, [P, 1].
            caches: each layer's.
            row: int32, which of the caches' rows.
            start: int32, the first of its slots that is filled.
            n: int32, how many of the P there are; the rest fills up.

        Returns:
            Normalised hidden states [P, 1, D], and the caches with n slots filled.
        """
        filled = []
        for block, cache in zip(blocks, caches, strict=True):
            q, k, v = (y[:, 0] for y in block.project(x, rotate))
            filled.append(cache.put_piece(row, start, n, k, v))
            attended = filled[-1].attend_piece(row, start, q, self.config.kv_heads)
            x = block.finish(x, attended[:, None])
        return self.norm(x), filled

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., D] -> float32 [..., V]."""
        head, axes = head_of(vars(self))
        kernel, product = head[...].astype(self.dtype), jnp.float32
        if axes == "dv":
            return jnp.einsum("...d,dv->...v", hidden, kernel, preferred_element_type=product)
        turned = jnp.einsum("vd,...d->v...", kernel, hidden, preferred_element_type=product)
        return jnp.moveaxis(jax.lax.optimization_barrier(turned), 0, -1)
