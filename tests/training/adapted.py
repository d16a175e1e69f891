"""Tiny models with adapters, and some steps of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from conftest import pretrain_values, tiny_config
from test_step import OPTIMIZER, batch, compiled, mesh_of, whole

from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.parallel.sharding import place_rows, shardings
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.step_config import LoraConfig
from qwen_audio_jax.training import lora
from qwen_audio_jax.training.step import (
    Recipe,
    abstract_model,
    first_state,
)

LORA = LoraConfig(rank=4, alpha=8.0)
EVERYWHERE = LoraConfig(rank=3, alpha=6.0, targets=("^encoder/blocks/", "^projector$", "^decoder/"))
STEPS = 4


def run_config(chosen: LoraConfig, **optimizer):
    config = from_mapping(pretrain_values())
    # Adam makes a whole step of a gradient near 0, be it only rounding; not with so large an eps.
    free = dataclasses.replace(OPTIMIZER, eps=1e-3, **optimizer)
    return dataclasses.replace(config, lora=chosen, optimizer=free)


def recipe_of(chosen: LoraConfig, model: ModelConfig | None = None, **optimizer) -> Recipe:
    model = lora.with_adapters(chosen, model or tiny_config("qwen2_audio"))
    return Recipe(model, lora.optimizer_of(run_config(chosen, **optimizer), model), 20, seed=0)


def parameters_of(model: ModelConfig, *, trained: bool = True):
    """Drawn anew; adapters as if they had been trained, or with B as at first."""
    random = np.random.default_rng(3)

    def drawn(path, leaf):
        name, noise = path[-1].key, random.standard_normal(leaf.shape).astype(np.float32)
        if name in ("kernel", "lora_a"):
            return jnp.asarray(noise / np.sqrt(leaf.shape[-2]))
        factor = {"scale": 0.0, "lora_b": 0.1 * trained}.get(name, 0.1)
        return jnp.asarray(factor * noise + (name == "scale"))

    return jax.tree_util.tree_map_with_path(drawn, abstract_model(model)[1])


def trained(recipe, parameters, batches=None, sizes=(1, 1, 1)):
    """(losses, all parameters, the last state) of a few steps."""
    mesh, step = mesh_of(*sizes), compiled(recipe, sizes)
    state = first_state(recipe, parameters)
    state = jax.device_put(state, shardings(state, mesh))
    losses = []
    for one in batches or [batch(seed) for seed in range(STEPS)]:
        state, metrics = step(state, place_rows(one, mesh))
        losses.append(float(metrics["loss"]))
    return losses, jax.tree.map(np.asarray, whole(state, recipe)), state


@functools.cache
def plain():
    recipe = recipe_of(EVERYWHERE)
    return trained(recipe, parameters_of(recipe.model))


def dropping() -> Recipe:
    return recipe_of(dataclasses.replace(EVERYWHERE, dropout=0.25))
