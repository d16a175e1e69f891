"""Building blocks that encoder and decoder share, and the scan over stacked layers."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from qwen_audio_jax.models.cuts import Parted
from qwen_audio_jax.models.presets import Compute


class DropoutKey(nnx.Variable):
    """Raw key of a layer's dropout, uint32 [2]; given to each step, and no parameter."""


class Linear(nnx.Linear):
    """nnx.Linear, on rows laid end to end where attention is plain XLA: on a CPU, that is.

    Over several axes at once XLA turns activations round there before it sums their products up to
    a kernel's gradient. On a TPU it would be laying them end to end that copies them.

    It may have an adapter, see `models/adapters.py`.
    """

    end_to_end = False
    lora_a = lora_b = lora_key = None
    lora_scale, lora_dropout = 1.0, 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.end_to_end:
            return self._product(x)
        return self._product(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    def _product(self, x: jax.Array) -> jax.Array:
        y = super().__call__(x)
        return checkpoint_name(y if self.lora_a is None else y + self.adapted(x), LINEAR_OUTPUT)

    def adapted(self, x: jax.Array) -> jax.Array:
        """What the adapter adds: [..., in] -> [..., out], without a matrix of the kernel's size."""
        a, b, x = (w[...].astype(self.dtype) for w in (self.lora_a, self.lora_b, x))
        if self.lora_key is not None:
            keep = 1 - self.lora_dropout
            key = jax.random.wrap_key_data(self.lora_key[...])
            x = jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0)
        if self.end_to_end:
            # The gradient of a thin matrix is summed up fastest lying along what is not thin.
            turned = jax.lax.optimization_barrier(a.T)
            thin = jnp.einsum("...i,ri->...r", x, turned)
        else:
            thin = x @ a
        return checkpoint_name(thin * self.lora_scale, LINEAR_OUTPUT) @ b


def linear(
    features_in: int,
    features_out: int,
    compute: Compute,
    rngs: nnx.Rngs,
    *,
    bias: bool,
    scale: float = 1.0,
) -> Linear:
    """A linear layer, kernel [in, out] drawn with deviation scale / sqrt(in)."""
    layer = Linear(
        features_in,
        features_out,
        use_bias=bias,
        dtype=jnp.dtype(compute.dtype),
        kernel_init=jax.nn.initializers.variance_scaling(scale**2, "fan_in", "normal"),
        rngs=rngs,
    )
    layer.end_to_end = compute.attention == "xla"
    return layer


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, by erf as in PyTorch; jax.nn's takes erfc, which costs twice as much."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


class TransposedLinear(nnx.Module):
    """A linear layer whose kernel lies as [out, in], for one position a row: [B, 1, in].

    With a few rows XLA on the CPU multiplies so in two thirds of the time.
    """

    lora_key, end_to_end = None, False
    adapted = Linear.adapted

    def __init__(self, same: Linear):
        self.kernel = nnx.Param(same.kernel[...].T)
        self.bias = same.bias
        self.dtype = same.dtype
        self.lora_a, self.lora_b, self.lora_scale = same.lora_a, same.lora_b, same.lora_scale

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, row = self.kernel[...].astype(self.dtype), x[:, 0].astype(self.dtype)
        y = jnp.einsum("oi,bi->ob", kernel, row)
        # Without the barrier XLA takes the transpose into the product, and turns the kernel round.
        y = jax.lax.optimization_barrier(y).T[:, None]
        y = y if self.bias is None else y + self.bias[...].astype(self.dtype)
        return y if self.lora_a is None else y + self.adapted(x)


def layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm in float32; the caller casts its result."""
    return nnx.LayerNorm(width, epsilon=1e-5, dtype=jnp.float32, rngs=rngs)


class RMSNorm(nnx.Module):
    """Root-mean-square norm: computed in float32, cast back, then scaled (as Qwen does)."""

    def __init__(self, width: int, eps: float):
        self.scale = nnx.Param(jnp.ones((width,)))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * self.scale[...].astype(x.dtype)


def stack_layers(
    make_layer: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs
) -> nnx.Module:
    """Builds `layers` equal modules as one whose parameters have a leading layer axis."""
    return nnx.vmap(make_layer)(rngs.split(layers))


LINEAR_OUTPUT = "linear_output"
"""What the results of linear layers are called, their adapters' with them."""

ATTENTION_INPUT = "attention_input"
"""What queries, keys and values are called, rotated where they are."""

ATTENTION_OUTPUT = "attention_output"
"""What its result is called, and the softmax's sums where a kernel keeps them."""

REMAT = ("none", "dots", "attention", "full")
"""What the backward pass finds kept of each block, from most to least; the rest is computed anew:

none: the results of products and what attention takes and gives; norms and activations are computed
anew, which is faster than reading them back. dots: the results of products with weights. attention:
the block's input and the attention's result. full: the input alone.
"""


def scan_layers(stack: nnx.Module, x: jax.Array, *shared: Any, remat: str) -> jax.Array:
    """Runs x through stacked layers, so that compile time does not grow with their number.

    A stack of which some layers are frozen is run in pieces, one after another. What is frozen is
    read layer by layer from where it lies; of what is trained in several pieces, each is copied.

    Args:
        stack: from `stack_layers`; each layer is called as `layer(x, *shared)` and returns x. Its
            parameters may be `Parted` along the layers.
        x: what passes from layer to layer.
        *shared: what every layer gets alike.
        remat: one of REMAT.
    """
    graph, parameters = nnx.split(stack)
    leaves, structure = jax.tree.flatten(parameters, is_leaf=_is_parted)
    for first, end in _pieces(leaves):
        moving, still = {}, {}
        for number, leaf in enumerate(leaves):
            frozen, start = leaf.cut.place(first, len(leaf)) if _is_parted(leaf) else (False, first)
            if frozen:
                still[number] = leaf.frozen, start
            else:
                trained = leaf.trained if _is_parted(leaf) else leaf
                moving[number] = jax.lax.slice_in_dim(trained, start, start + end - first)

        def body(x, layer, still=still):
            moving, index = layer
            here = {
                number: jax.lax.dynamic_index_in_dim(array, start + index, keepdims=False)
                for number, (array, start) in still.items()
            } | moving
            parameters = structure.unflatten(here[number] for number in range(len(here)))
            return nnx.merge(graph, parameters)(x, *shared), None

        counted = jnp.arange(end - first) if still else None
        x, _ = jax.lax.scan(_remat(body, remat), x, (moving, counted))
    return x


def _is_parted(leaf: Any) -> bool:
    return isinstance(leaf, Parted)


def _pieces(leaves: Sequence[jax.Array | Parted]) -> list[tuple[int, int]]:
    """Runs of layers within which each parameter is wholly trained or wholly frozen."""
    edges = {0, len(leaves[0])}
    for leaf in filter(_is_parted, leaves):
        edges.update(edge for interval in leaf.cut.frozen for edge in interval)
    return list(itertools.pairwise(sorted(edges)))


def _remat(body: Callable, remat: str) -> Callable:
    policies = jax.checkpoint_policies
    around = ATTENTION_INPUT, ATTENTION_OUTPUT
    policy = {
        "none": policies.save_only_these_names(LINEAR_OUTPUT, *around),
        "dots": policies.save_only_these_names(LINEAR_OUTPUT),
        "attention": policies.save_only_these_names(ATTENTION_OUTPUT),
        "full": policies.nothing_saveable,
    }
    # The scan itself keeps the recomputation from being merged away, so prevent_cse is not needed.
    return jax.checkpoint(body, prevent_cse=False, policy=policy[remat])
