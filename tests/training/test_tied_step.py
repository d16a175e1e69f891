"""A step with a tied head: one array has the gradients of both its uses, on any mesh."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from conftest import make_example, on_eight_devices, tiny_config

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.parallel.sharding import AXES, make_mesh, place_rows, shardings
from qwen_audio_jax.step_config import OptimizerConfig
from qwen_audio_jax.training.step import Recipe, make_init, make_step

OPTIMIZER = OptimizerConfig(
    learning_rate=1e-3,
    final_learning_rate=1e-4,
    warmup_steps=1,
    beta1=0.9,
    beta2=0.98,
    eps=1e-6,
    weight_decay=0.05,
    clip_norm=1.0,
)
PLAIN = tiny_config("qwen2_audio")
TIED = dataclasses.replace(PLAIN, decoder=dataclasses.replace(PLAIN.decoder, tied=True))
USED = 80
"""`make_example` takes its words from the ids below."""


def batch() -> dict[str, np.ndarray]:
    made = empty_batch(8, 64, 128, mel_bins=16)
    for row in range(8):
        fill_row(made, row, [make_example(100 + row, (20 + row,)), make_example(row, (9,))])
    return made


def trained(steps: int, sizes=(1, 1, 1), **optimizer):
    """(parameters before, parameters after, losses)."""
    recipe = Recipe(TIED, dataclasses.replace(OPTIMIZER, **optimizer), steps=20, seed=0)
    graph, init = make_init(recipe)
    mesh = make_mesh(dict(zip(AXES, sizes, strict=True)), jax.devices()[: math.prod(sizes)])
    layout = shardings(jax.eval_shape(init), mesh)
    state, losses = jax.jit(init, out_shardings=layout)(), []
    before = jax.tree.map(np.asarray, state.parameters)
    with jax.set_mesh(mesh):
        step = jax.jit(make_step(graph, recipe, mesh), out_shardings=(layout, None))
        for _ in range(steps):
            state, metrics = step(state, place_rows(batch(), mesh))
            losses.append(float(metrics["loss"]))
    return before, jax.tree.map(np.asarray, state.parameters), losses


def test_the_embedding_is_trained_as_the_head_is():
    before, after, losses = trained(3)
    assert "head" not in after["decoder"]
    assert losses[-1] < losses[0]
    # A word that no example has is moved as a column of the head: it becomes less likely.
    moved = np.abs(after["decoder"]["embedding"] - before["decoder"]["embedding"]).max(axis=1)
    assert np.all(moved[USED:] > 1e-4)


@pytest.mark.slow
@on_eight_devices
def test_any_mesh_is_one_device():
    _, alone, losses = trained(5)
    for sizes in ((1, 8, 1), (2, 2, 2), (1, 2, 4)):
        _, sharded, same = trained(5, sizes)
        np.testing.assert_allclose(losses, same, rtol=0, atol=1e-5)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(sharded), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
