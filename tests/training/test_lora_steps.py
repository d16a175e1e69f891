"""LoRA: steps change the adapters alone, on any mesh, and what dropout drops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapted import EVERYWHERE, LORA, dropping, parameters_of, plain, recipe_of, trained
from conftest import make_example, on_eight_devices, tiny_config
from flax import nnx
from jax.sharding import AbstractMesh
from test_step import assert_same, batch, mesh_of

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.models.adapters import is_adapter, with_keys
from qwen_audio_jax.parallel.sharding import AXES, spec_of
from qwen_audio_jax.training.optimizer import make_optimizer
from qwen_audio_jax.training.step import (
    dropping_graph,
    first_state,
    make_init,
    make_losses,
    make_step,
)

# Their training.


def test_the_model_itself_stays_to_the_bit():
    recipe = recipe_of(EVERYWHERE)
    start = by_path(parameters_of(recipe.model))
    _, after, state = plain()
    changed = {
        path for path, leaf in by_path(after).items() if not np.array_equal(leaf, start[path])
    }
    assert changed == {path for path in start if is_adapter(path)}
    assert by_path(state.parameters).keys() == changed


def test_other_parameters_are_trained_if_they_are_named():
    chosen = dataclasses.replace(LORA, train=("^projector/kernel", "^delimiters$"))
    model = dataclasses.replace(
        tiny_config("qwen_audio"),
        decoder=dataclasses.replace(tiny_config("qwen_audio").decoder, first_new_token=90),
    )
    # What is frozen without adapters does not matter with them.
    recipe = recipe_of(chosen, model, frozen=("^projector/", "^decoder/"))
    state = jax.eval_shape(make_init(recipe)[1])
    also = {path: leaf for path, leaf in by_path(state.parameters).items() if not is_adapter(path)}
    assert also.keys() == {
        "projector/kernel",
        "delimiters",
        "decoder/embedding",
        "decoder/head",
    }
    assert also["decoder/embedding"].shape == (6, 32)
    without_new = recipe_of(LORA, model, train_new_tokens=False)
    state = jax.eval_shape(make_init(without_new)[1])
    assert all(map(is_adapter, by_path(state.parameters)))


def test_rates_are_found_in_their_paths():
    """LoRA+ has B learn faster."""
    made = []
    for rates in ({}, {"/lora_b$": 4.0}):
        recipe = recipe_of(dataclasses.replace(LORA, targets=("/query$",)), rates=rates)
        state = first_state(recipe, parameters_of(recipe.model))
        optimizer = make_optimizer(recipe.optimizer, 20, {})
        ones, update = jax.tree.map(jnp.ones_like, state.parameters), jax.jit(optimizer.update)
        _, later = update(ones, state.optimizer, state.parameters)  # at rate 0
        made.append(by_path(update(ones, later, state.parameters)[0]))
    for path, update in made[0].items():
        factor = 4 if path.endswith("/lora_b") else 1
        np.testing.assert_allclose(made[1][path], factor * update, rtol=1e-6)
        assert np.any(update)


@pytest.mark.slow
def test_micro_batches_are_the_whole_batch():
    recipe = dataclasses.replace(recipe_of(EVERYWHERE), accumulate=4)
    assert_same(trained(recipe, parameters_of(recipe.model))[:2], plain()[:2])


@pytest.mark.slow
@on_eight_devices
def test_any_mesh_is_one_device():
    recipe = recipe_of(EVERYWHERE)
    parameters = parameters_of(recipe.model)
    alone = trained(recipe, parameters)[:2]
    for sizes in ((1, 8, 1), (2, 2, 2), (1, 2, 4)):
        assert_same(trained(recipe, parameters, sizes=sizes)[:2], alone)
    alone = trained(dropping(), parameters)[:2]
    assert_same(trained(dropping(), parameters, sizes=(2, 2, 2))[:2], alone)


def test_they_are_divided_as_the_kernel_is():
    mesh = AbstractMesh((1, 2, 4), AXES)

    def spec(name, *shape):
        return tuple(spec_of(name, shape, mesh))

    assert spec("decoder/blocks/query/lora_a", 2, 32, 4) == (None, "fsdp", None)
    assert spec("decoder/blocks/query/lora_b", 2, 4, 32) == (None, None, "tensor")
    assert spec("encoder/blocks/down/lora_a", 2, 32, 4) == (None, "tensor", None)
    assert spec("encoder/blocks/down/lora_b", 2, 4, 32) == (None, None, "fsdp")
    assert spec("projector/lora_a", 24, 4) == ("fsdp", None)
    assert spec("projector/lora_b", 4, 32) == (None, "tensor")


# Dropout.


def test_dropout_is_of_what_enters_the_adapter():
    """By hand for one linear: a quarter of it is 0, and the rest larger by 4 / 3."""
    model = dropping().model
    parameters = parameters_of(model)
    with_their_keys = with_keys(parameters, model.adapters, jax.random.key(7))
    made = nnx.merge(dropping_graph(model), with_their_keys).projector
    x = jax.random.normal(jax.random.key(1), (400, 24))
    key = jax.random.wrap_key_data(with_their_keys["projector"]["lora_key"])
    kept = jax.random.bernoulli(key, 0.75, x.shape)
    assert abs(kept.mean() - 0.75) < 0.02
    leaves = parameters["projector"]
    expected = x @ leaves["kernel"] + leaves["bias"]
    expected += 2.0 * (jnp.where(kept, x / 0.75, 0) @ leaves["lora_a"]) @ leaves["lora_b"]
    np.testing.assert_allclose(made(x), expected, atol=1e-5)


def test_each_layer_and_each_linear_drops_others():
    model = dropping().model
    made = with_keys(parameters_of(model), model.adapters, jax.random.key(7))
    keys = [
        tuple(key)
        for path, leaf in by_path(made).items()
        if path.endswith("/lora_key")
        for key in np.reshape(leaf, (-1, 2)).tolist()
    ]
    assert len(keys) == len(set(keys)) == 7 * 2 + 6 * 2 + 1


@pytest.mark.slow
def test_dropout_is_of_the_step():
    parameters = parameters_of(dropping().model)
    same = [batch(0)] * 2
    once, again = (trained(dropping(), parameters, same)[0] for _ in range(2))
    assert once == again
    # The first step is at rate 0: the second one differs by what it drops alone.
    assert once[0] != once[1]


@pytest.mark.slow
def test_micro_batches_drop_others():
    """Of equal rows in both halves: with one key for all, they would give the loss of one."""
    recipe = dataclasses.replace(dropping(), accumulate=2)
    parameters = parameters_of(recipe.model)
    made = make_example(5, (20,))
    same, single = (empty_batch(rows, 64, 128, mel_bins=16) for rows in (8, 4))
    for row in range(8):
        fill_row(same, row, [made])
    for row in range(4):
        fill_row(single, row, [made])
    (mean,), _, _ = trained(recipe, parameters, [same])
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 2)
    graph = dropping_graph(recipe.model)

    @jax.jit
    def loss(key):
        values = with_keys(parameters, recipe.model.adapters, key)
        return make_losses(graph, mesh_of(1, 1, 1))(values, single).sum()

    each = [float(loss(key)) / single["loss_weights"].sum() for key in keys]
    assert abs(each[0] - each[1]) > 1e-4
    np.testing.assert_allclose(mean, sum(each) / 2, rtol=1e-5)


def test_without_dropout_nothing_is_drawn():
    def drawn(recipe):
        graph, init = make_init(recipe)
        step = make_step(graph, recipe, mesh_of(1, 1, 1))
        return "random_" in str(jax.make_jaxpr(step)(jax.eval_shape(init), batch(0)))

    assert drawn(dropping())
    assert not drawn(recipe_of(EVERYWHERE))
