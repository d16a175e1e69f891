"""A loaded model with its layers stacked, as `generate` takes it, for comparisons."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.models.qwen_audio import QwenAudio


def stacked(loaded: Loaded) -> tuple[nnx.GraphDef, dict[str, Any]]:
    """Its graph and parameters."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: QwenAudio(loaded.model, nnx.Rngs(0))))
    decoder = loaded.parameters["decoder"]

    def stack(path, *layers):
        turned = path[-1].key == "kernel"
        return jnp.stack([layer.T if turned else layer for layer in layers])

    blocks = jax.tree_util.tree_map_with_path(stack, *decoder["blocks"].values())
    return graph, loaded.parameters | {"decoder": decoder | {"blocks": blocks}}
