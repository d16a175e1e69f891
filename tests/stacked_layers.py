"""A model's layers stacked again, as `generate` takes them, for comparisons."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio


def stacked(config: ModelConfig, parameters: dict[str, Any]) -> tuple[nnx.GraphDef, dict[str, Any]]:
    """A model's graph and parameters, from those of `by_layer`."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: QwenAudio(config, nnx.Rngs(0))))
    decoder = parameters["decoder"]

    def stack(path, *layers):
        turned = path[-1].key == "kernel"
        return jnp.stack([layer.T if turned else layer for layer in layers])

    blocks = jax.tree_util.tree_map_with_path(stack, *decoder["blocks"].values())
    head = {} if config.decoder.tied else {"head": decoder["head"].T}
    return graph, parameters | {"decoder": decoder | {"blocks": blocks} | head}
