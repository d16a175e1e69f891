"""One optimizer step: loss and gradients, micro-batch by micro-batch, and the update.

It is compiled once per row shape, and is the same on one CPU device and on a pod.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from qwen_audio_jax.models.language_model import head_of
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.monitoring.flops import sums_of
from qwen_audio_jax.parallel.sharding import row_constraint, shardings
from qwen_audio_jax.run_config import OptimizerConfig
from qwen_audio_jax.training.next_token import next_token_loss
from qwen_audio_jax.training.optimizer import make_optimizer, merge, split


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Steps done, parameters (float32) and optimizer state, of which frozen ones have none."""

    step: jax.Array
    parameters: Any
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step is made of.

    Attributes:
        model: its configuration.
        optimizer: its configuration.
        steps: of the whole run, which the schedule needs.
        seed: of the initial parameters.
        accumulate: micro-batches that a batch's rows are divided into.
    """

    model: ModelConfig
    optimizer: OptimizerConfig
    steps: int
    seed: int
    accumulate: int = 1


def make_init(recipe: Recipe) -> tuple[nnx.GraphDef, Callable[[], TrainState]]:
    """Returns (graph of the model, function that makes the first TrainState)."""
    model = recipe.model
    optimizer = make_optimizer(recipe.optimizer, recipe.steps)
    graph, _ = nnx.split(nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0))))

    def init() -> TrainState:
        parameters = nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(recipe.seed)))[1])
        trained, _ = split(recipe.optimizer, parameters)
        return TrainState(jnp.int32(0), parameters, optimizer.init(trained))

    return graph, init


def make_step(graph: nnx.GraphDef, recipe: Recipe, mesh: Mesh):
    """Returns step(state, batch) -> (state, metrics): loss, gradient_norm, and what was useful.

    A step whose loss or gradient is not finite changes nothing but the count of steps.
    """
    constrain = row_constraint(mesh)
    optimizer = make_optimizer(recipe.optimizer, recipe.steps)

    def loss_sum(trained, frozen, batch):
        parameters = merge(trained, frozen)
        hidden = nnx.merge(graph, parameters)(batch, constrain)
        head, axes = head_of(parameters["decoder"])
        targets, weights = batch["targets"], batch["loss_weights"]
        return next_token_loss(hidden, head, targets, weights, axes=axes, mesh=mesh)

    def sums(trained, frozen, batch):
        """((loss, weight), gradients), all of them sums over the batch."""
        differentiate = jax.value_and_grad(loss_sum, has_aux=True)
        if recipe.accumulate == 1:
            return differentiate(trained, frozen, batch)

        def add(total, part):
            part = jax.tree.map(constrain, part)
            return jax.tree.map(jnp.add, total, differentiate(trained, frozen, part)), None

        layout = shardings(trained, mesh)
        zeros = jax.lax.with_sharding_constraint(jax.tree.map(jnp.zeros_like, trained), layout)
        total = ((jnp.float32(0), jnp.float32(0)), zeros)
        return jax.lax.scan(add, total, micro_batches(batch, recipe.accumulate))[0]

    def step(state: TrainState, batch: dict[str, jax.Array]):
        trained, frozen = split(recipe.optimizer, state.parameters)
        (total, weight), gradients = sums(trained, frozen, batch)
        weight = jnp.maximum(weight, 1.0)
        gradients = jax.tree.map(lambda gradient: gradient / weight, gradients)
        norm = optax.tree.norm(gradients)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, trained)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        trained, optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (optax.apply_updates(trained, updates), optimizer_state),
            (trained, state.optimizer),
        )
        metrics = {"loss": total / weight, "gradient_norm": norm, "useful": sums_of(batch)}
        return TrainState(state.step + 1, merge(trained, frozen), optimizer_state), metrics

    return step


def micro_batches(batch: dict[str, jax.Array], number: int) -> dict[str, jax.Array]:
    """Divides rows [B, ...] into [number, B / number, ...].

    Each part takes every `number`-th row, so that rows stay on their devices.
    """
    return {
        name: x.reshape(len(x) // number, number, *x.shape[1:]).swapaxes(0, 1)
        for name, x in batch.items()
    }
