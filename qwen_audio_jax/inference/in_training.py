"""A model that is being trained, made ready to answer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from data_pipelines.examples import Preprocessor
from qwen_audio_jax.inference.by_layer import by_layer
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.parallel.local_copies import local_copy


def loaded_here(
    name: str, model: ModelConfig, parameters: Any, preprocessor: Preprocessor, *, tuned: bool
) -> Loaded:
    """What `loading.load` gives, of parameters in memory: whole on this process's devices.

    All processes call it together. It needs room for the model once more, its decoder in the
    compute dtype, on the devices of each process.

    Args:
        name: for people.
        model: its configuration.
        parameters: nested dict of arrays on a mesh of all processes; they stay as they are.
        preprocessor: how records become prompts.
        tuned: see `Loaded`.
    """
    dtype = jnp.dtype(model.compute.dtype)
    # A copy in the smaller dtype is what travels, and what is deleted layer by layer below.
    decoder = jax.tree.map(lambda leaf: _copied(leaf, dtype), parameters["decoder"])
    stacked, mesh = local_copy(parameters | {"decoder": decoder})
    with jax.set_mesh(mesh):
        graph, own = by_layer(model, stacked, delete=True)
    return Loaded(name, model.family, model, graph, own, mesh, preprocessor, tuned)


@functools.partial(jax.jit, static_argnums=1)
def _copied(leaf: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jnp.copy(leaf.astype(dtype))
