"""One optimizer step: loss and gradients, micro-batch by micro-batch, and the update.

It is compiled once per row shape, and is the same on one CPU device and on a pod.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from qwen_audio_jax.models.adapters import attach_dropout, with_keys
from qwen_audio_jax.models.cuts import Cut, together
from qwen_audio_jax.models.language_model import head_of
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.monitoring.flops import sums_of
from qwen_audio_jax.parallel.sharding import row_constraint, shardings
from qwen_audio_jax.step_config import NO_PREFERENCE, OptimizerConfig, PreferenceConfig
from qwen_audio_jax.training.next_token import next_token_loss, next_token_losses
from qwen_audio_jax.training.optimizer import MATRICES, cuts_of, make_optimizer, split
from qwen_audio_jax.training.preference import METRICS, answers_of, preference_loss


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Between two steps.

    Attributes:
        step: steps done.
        parameters: what is trained, float32; None where nothing of a parameter is.
        frozen: the rest, likewise; `models.cuts.merge` makes one tree of the two. Matrices lie in
            the dtype that is computed in, to which each of their uses would cast them.
        optimizer: its state, for what is trained.
    """

    step: jax.Array
    parameters: Any
    frozen: Any
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step is made of.

    Attributes:
        model: its configuration.
        optimizer: its configuration.
        steps: of the whole run, which the schedule needs; 0 where it follows the time.
        seed: of the initial parameters.
        accumulate: micro-batches that a batch's rows are divided into.
        preference: which loss of pairs; tokens are learned where it is off.
    """

    model: ModelConfig
    optimizer: OptimizerConfig
    steps: int
    seed: int
    accumulate: int = 1
    preference: PreferenceConfig = NO_PREFERENCE


def make_init(recipe: Recipe) -> tuple[nnx.GraphDef, Callable[[], TrainState]]:
    """Returns (graph of the model, function that makes the first TrainState)."""
    model = recipe.model
    graph, _ = abstract_model(model)

    def init() -> TrainState:
        parameters = nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(recipe.seed)))[1])
        return first_state(recipe, parameters)

    return graph, init


def first_state(recipe: Recipe, parameters: Any) -> TrainState:
    """The state before the first step, of a whole tree of parameters."""
    new = recipe.model.decoder.first_new_token
    trained, frozen = split(recipe.optimizer, parameters, new)
    frozen = _small(frozen, jnp.dtype(recipe.model.compute.dtype))
    optimizer = make_optimizer(recipe.optimizer, recipe.steps, recipe_cuts(recipe))
    return TrainState(jnp.int32(0), trained, frozen, optimizer.init(trained))


def _small(frozen: Any, dtype: jnp.dtype) -> Any:
    """Frozen matrices in the dtype that they are multiplied in, where that is smaller.

    Norms compute in float32; with the biases they are some thousandths of all.
    """

    def one(path, leaf):
        return leaf.astype(dtype) if path_name(path).endswith(MATRICES) else leaf

    return jax.tree_util.tree_map_with_path(one, frozen)


@functools.cache
def abstract_model(model: ModelConfig) -> tuple[nnx.GraphDef, Any]:
    """(graph of the model, ShapeDtypeStructs of all its parameters)."""
    graph, parameters = nnx.split(nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0))))
    return graph, nnx.to_pure_dict(parameters)


def dropping_graph(model: ModelConfig) -> nnx.GraphDef:
    """Graph of the model with its adapters' dropout, which only a step has."""

    def made():
        whole = QwenAudio(model, nnx.Rngs(0))
        attach_dropout(whole, model.adapters)
        return whole

    return nnx.split(nnx.eval_shape(made))[0]


def recipe_cuts(recipe: Recipe) -> dict[str, Cut]:
    """How each parameter that is trained in part is cut, by its path."""
    model = recipe.model
    return cuts_of(recipe.optimizer, abstract_model(model)[1], model.decoder.first_new_token)


def make_step(graph: nnx.GraphDef, recipe: Recipe, mesh: Mesh):
    """Returns step(state, batch) -> (state, metrics): loss, gradient_norm, and what was useful.

    Of pairs the metrics are those of `preference_loss`, too.

    Where the schedule follows the time, it is step(state, batch, share), of which float32 [] is
    spent. A step whose loss or gradient is not finite changes nothing but the count of steps.
    """
    constrain = row_constraint(mesh)
    cuts = recipe_cuts(recipe)
    dropout = any(adapter.dropout for adapter in recipe.model.adapters)
    graph = dropping_graph(recipe.model) if dropout else graph
    optimizer = make_optimizer(recipe.optimizer, recipe.steps, cuts)

    def loss_sum(trained, frozen, batch, key):
        """(loss, (weight, what is told of pairs)), all of them sums over the batch."""
        parameters = together(trained, frozen, cuts)
        if key is not None:
            parameters = with_keys(parameters, recipe.model.adapters, key)
        hidden = nnx.merge(graph, parameters)(batch, constrain)
        head, axes = head_of(parameters["decoder"])
        if recipe.preference:
            answers = answers_of(hidden, head, batch, axes=axes, mesh=mesh)
            (loss, pairs), told = preference_loss(answers, batch["references"], recipe.preference)
            return loss, (pairs, told)
        targets, weights = batch["targets"], batch["loss_weights"]
        loss, weight = next_token_loss(hidden, head, targets, weights, axes=axes, mesh=mesh)
        return loss, (weight, {})

    def sums(trained, frozen, batch, key):
        """(what `loss_sum` gives, gradients)."""
        differentiate = jax.value_and_grad(loss_sum, has_aux=True)
        if recipe.accumulate == 1:
            return differentiate(trained, frozen, batch, key)

        def add(total, part_and_key):
            part, key = part_and_key
            part = jax.tree.map(constrain, part)
            return jax.tree.map(jnp.add, total, differentiate(trained, frozen, part, key)), None

        layout = shardings(trained, mesh)
        zeros = jax.lax.with_sharding_constraint(jax.tree.map(jnp.zeros_like, trained), layout)
        nothing = (jnp.float32(0), jnp.float32(0))
        told = dict.fromkeys(METRICS, nothing) if recipe.preference else {}
        total = ((jnp.float32(0), (jnp.float32(0), told)), zeros)
        keys = None if key is None else jax.random.split(key, recipe.accumulate)
        return jax.lax.scan(add, total, (micro_batches(batch, recipe.accumulate), keys))[0]

    def step(state: TrainState, batch: dict[str, jax.Array], share: jax.Array | None = None):
        trained, frozen = state.parameters, state.frozen
        key = jax.random.fold_in(jax.random.key(recipe.seed), state.step) if dropout else None
        (total, (weight, of_pairs)), gradients = sums(trained, frozen, batch, key)
        weight = jnp.maximum(weight, 1.0)
        gradients = jax.tree.map(lambda gradient: gradient / weight, gradients)
        norm = optax.tree.norm(gradients)
        told = {} if share is None else {"share": share}
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, trained, **told)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        trained, optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (optax.apply_updates(trained, updates), optimizer_state),
            (trained, state.optimizer),
        )
        metrics = {"loss": total / weight, "gradient_norm": norm, "useful": sums_of(batch)}
        metrics |= {name: total / jnp.maximum(n, 1.0) for name, (total, n) in of_pairs.items()}
        return TrainState(state.step + 1, trained, frozen, optimizer_state), metrics

    return step


def make_losses(graph: nnx.GraphDef, mesh: Mesh, accumulate: int = 1):
    """Returns losses(parameters, batch) -> float32 [B, L]: what each position gives to the loss.

    As a step does, it takes a batch's rows in so many micro-batches, one after another.
    """

    def losses(hidden, head, batch, **where):
        targets, weights = batch["targets"], batch["loss_weights"]
        return next_token_losses(hidden, head, targets, weights, **where)

    return _measured(losses, graph, mesh, accumulate)


def make_answers(graph: nnx.GraphDef, mesh: Mesh, accumulate: int = 1):
    """Returns answers(parameters, batch) -> Answers, of batches of pairs; likewise."""
    return _measured(answers_of, graph, mesh, accumulate)


def _measured(measure: Callable, graph: nnx.GraphDef, mesh: Mesh, accumulate: int) -> Callable:
    """(parameters, batch) -> arrays [B, ...], which are measured on the hidden states."""
    constrain = row_constraint(mesh)

    def measured(parameters, batch):
        hidden = nnx.merge(graph, parameters)(batch, constrain)
        head, axes = head_of(parameters["decoder"])
        return measure(hidden, head, batch, axes=axes, mesh=mesh)

    def in_parts(parameters, batch):
        def of_part(part):
            return measured(parameters, jax.tree.map(constrain, part))

        parts = jax.lax.map(of_part, micro_batches(batch, accumulate))
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)

    return measured if accumulate == 1 else in_parts


def micro_batches(batch: dict[str, jax.Array], number: int) -> dict[str, jax.Array]:
    """Divides rows [B, ...] into [number, B / number, ...].

    Each part takes every `number`-th row, so that rows stay on their devices.
    """
    return {
        name: x.reshape(len(x) // number, number, *x.shape[1:]).swapaxes(0, 1)
        for name, x in batch.items()
    }
