"""A decoder's layers one by one, as steps of decoding read them fastest.

Out of a stack, as training has it, a step would copy every layer that it reads.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.layers import TransposedLinear
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio


def by_layer(
    config: ModelConfig, parameters: dict[str, Any], *, delete: bool = False
) -> tuple[nnx.GraphDef, dict[str, Any]]:
    """A model's parameters with the decoder's layers apart, its head turned, and all of it cast.

    Args:
        config: of the model.
        parameters: nested dict of arrays, the decoder's blocks stacked.
        delete: whether the stacks are deleted, one after another, so that memory holds no more
            than one of them twice.

    Returns:
        The graph of the model with `decoder.blocks` a list (see `LanguageModel.unstack`), and its
        parameters: `decoder.blocks` a dict by the number of the layer, in the compute dtype.
    """

    def apart() -> QwenAudio:
        model = QwenAudio(config, nnx.Rngs(0))
        decoder = model.decoder
        decoder.blocks = nnx.List(decoder.unstack(turned=True))
        if not config.decoder.tied:
            decoder.head, decoder.head_axes = nnx.Param(decoder.head[...].T), "vd"
        return model

    model = nnx.eval_shape(apart)
    graph, first = nnx.graphdef(model), model.decoder.blocks[0]
    dtype = jnp.dtype(config.compute.dtype)
    decoder = dict(parameters["decoder"])
    stacks = decoder.pop("blocks")
    layers: list[dict[str, Any]] = [{} for _ in range(config.decoder.layers)]
    for name, leaves in stacks.items():
        turned = isinstance(getattr(first, name), TransposedLinear)
        for leaf, stack in leaves.items():
            cut = _turned_layers if turned and leaf == "kernel" else _layers
            for layer, array in zip(layers, cut(stack, dtype), strict=True):
                layer.setdefault(name, {})[leaf] = array
            if delete:
                stack.delete()
    if "head" in decoder:
        head = decoder["head"]
        decoder["head"] = _turned(head, dtype)
        if delete:
            head.delete()
    cast = jax.tree.map(lambda leaf: leaf.astype(dtype), decoder)
    return graph, parameters | {"decoder": cast | {"blocks": dict(enumerate(layers))}}


def _cut(stack: jax.Array, dtype: jnp.dtype) -> list[jax.Array]:
    return [layer.astype(dtype) for layer in stack]


def _turn(kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return kernel.T.astype(dtype)


def _cut_and_turn(stack: jax.Array, dtype: jnp.dtype) -> list[jax.Array]:
    return [_turn(layer, dtype) for layer in stack]


_turned = jax.jit(_turn, static_argnums=1)
_layers = jax.jit(_cut, static_argnums=1)
_turned_layers = jax.jit(_cut_and_turn, static_argnums=1)
