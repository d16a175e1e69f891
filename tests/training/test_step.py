"""One step: however it is computed, it is the same step."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_example, on_eight_devices, tiny_config
from flax import nnx
from jax.sharding import NamedSharding

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.checkpoint import abstract
from qwen_audio_jax.models.cuts import merge
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.parallel.sharding import AXES, ROWS, make_mesh, place_rows, shardings
from qwen_audio_jax.step_config import OptimizerConfig
from qwen_audio_jax.training.step import (
    Recipe,
    TrainState,
    first_state,
    make_init,
    make_step,
    recipe_cuts,
)

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
RECIPE = Recipe(tiny_config("qwen2_audio"), OPTIMIZER, steps=20, seed=0)
STEPS = 10


def batch(seed: int) -> dict[str, np.ndarray]:
    made = empty_batch(8, 64, 128, mel_bins=16)
    for row in range(8):
        fill_row(made, row, [make_example(100 * seed + row, (20 + row,)), make_example(seed, (9,))])
    return made


def mesh_of(*sizes: int) -> jax.sharding.Mesh:
    """Of the first devices."""
    return make_mesh(dict(zip(AXES, sizes, strict=True)), jax.devices()[: math.prod(sizes)])


@functools.cache
def compiled(recipe: Recipe, sizes: tuple[int, int, int] = (1, 1, 1)):
    """The step of a recipe."""
    graph, init = make_init(recipe)
    mesh = mesh_of(*sizes)
    state = jax.eval_shape(init)
    layout = shardings(state, mesh)
    step = jax.jit(make_step(graph, recipe, mesh), out_shardings=(layout, None))
    rows = NamedSharding(mesh, ROWS)
    sharded = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), batch(0)
    )
    with jax.set_mesh(mesh):
        return step.lower(abstract(state, layout), sharded).compile()


@functools.cache
def first_parameters():
    return whole(jax.jit(make_init(RECIPE)[1])(), RECIPE)


def trained(
    recipe: Recipe, batches=None, sizes: tuple[int, int, int] = (1, 1, 1)
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The losses of ten steps, and the parameters after them."""
    mesh, step = mesh_of(*sizes), compiled(recipe, sizes)
    state = first_state(recipe, first_parameters())
    state = jax.device_put(state, shardings(state, mesh))
    losses = []
    for one in batches or [batch(seed) for seed in range(STEPS)]:
        state, metrics = step(state, place_rows(one, mesh))
        losses.append(float(metrics["loss"]))
    return losses, jax.tree.map(np.asarray, whole(state, recipe))


def whole(state: TrainState, recipe: Recipe):
    """All parameters."""
    return merge(state.parameters, state.frozen, recipe_cuts(recipe))


def compute(**changes) -> Recipe:
    return dataclasses.replace(
        RECIPE, model=dataclasses.replace(RECIPE.model, compute=Compute(**changes))
    )


@pytest.fixture(scope="module")
def plain():
    return trained(RECIPE)


def assert_same(one, two):
    np.testing.assert_allclose(one[0], two[0], rtol=0, atol=1e-5)
    assert jax.tree.structure(one[1]) == jax.tree.structure(two[1])
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(two[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.slow
@on_eight_devices
def test_any_mesh_is_one_device():
    alone = trained(RECIPE)
    for sizes in ((1, 8, 1), (2, 2, 2), (1, 2, 4)):
        assert_same(trained(RECIPE, sizes=sizes), alone)
    assert_same(trained(dataclasses.replace(RECIPE, accumulate=2), sizes=(2, 2, 2)), alone)


def test_a_scan_over_layers_is_one_after_another(plain, monkeypatch):
    layers = []

    def unrolled(body, x, stack):
        for number in range(len(jax.tree.leaves(stack)[0])):
            x, _ = body(x, jax.tree.map(lambda leaf, number=number: leaf[number], stack))
            layers.append(number)
        return x, None

    monkeypatch.setattr(jax.lax, "scan", unrolled)
    # Another seed of first parameters, which are given: so that it is compiled anew.
    assert_same(trained(dataclasses.replace(RECIPE, seed=1)), plain)
    assert max(layers) > 0


def test_micro_batches_are_the_whole_batch(plain):
    assert_same(trained(dataclasses.replace(RECIPE, accumulate=4)), plain)


@pytest.mark.parametrize(
    "remat",
    [
        pytest.param(policy, marks=[] if policy == "full" else pytest.mark.slow)
        for policy in REMAT
        if policy != "none"
    ],
)
def test_what_is_computed_anew_is_the_same(plain, remat):
    assert_same(trained(compute(remat=remat)), plain)


def test_less_is_kept_from_policy_to_policy():
    """Otherwise they would be names for one thing."""
    kept = [kept_for_backward(remat) for remat in REMAT]
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == len(kept)


def kept_for_backward(remat: str) -> int:
    """How many numbers, parameters among them."""
    graph, _ = make_init(compute(remat=remat))

    def pull(parameters):
        return jax.vjp(lambda parameters: nnx.merge(graph, parameters)(batch(0)), parameters)[1]

    leaves = jax.tree.leaves(jax.eval_shape(pull, first_parameters()))
    return sum(leaf.size for leaf in leaves)


def test_frozen_is_a_gradient_thrown_away():
    """The other parts train as if nothing were frozen, and what is frozen stays to the bit."""
    # Adam makes a whole step of a gradient near 0, be it only rounding; not with so large an eps.
    free = dataclasses.replace(OPTIMIZER, clip_norm=1e9, eps=1e-3)
    frozen = dataclasses.replace(free, frozen=("^decoder/",))
    # The first step is at rate 0, and after the second everything differs.
    one = trained(dataclasses.replace(RECIPE, optimizer=frozen), [batch(0)] * 2)
    two = trained(dataclasses.replace(RECIPE, optimizer=free), [batch(0)] * 2)
    for part in ("encoder", "projector"):
        leaves = zip(jax.tree.leaves(one[1][part]), jax.tree.leaves(two[1][part]), strict=True)
        for a, b in leaves:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    start = first_parameters()["decoder"]
    for a, b in zip(jax.tree.leaves(one[1]["decoder"]), jax.tree.leaves(start), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_matrices_lie_in_the_dtype_that_is_computed_in():
    """Which leaves every step what it would be with float32 ones."""
    optimizer = dataclasses.replace(OPTIMIZER, frozen=("^encoder/", "^decoder/blocks[0:1]"))
    recipe = dataclasses.replace(compute(dtype="bfloat16"), optimizer=optimizer)
    state = first_state(recipe, first_parameters())
    names = {
        path_name(path): leaf.dtype
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.frozen)
    }
    assert names["encoder/conv1/kernel"] == names["decoder/blocks/up/kernel"] == jnp.bfloat16
    assert names["encoder/norm/scale"] == names["encoder/positions"] == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state.parameters)} == {jnp.dtype(jnp.float32)}

    float32 = dataclasses.replace(recipe, model=RECIPE.model)
    large = dataclasses.replace(state, frozen=first_state(float32, first_parameters()).frozen)
    mesh = mesh_of(1, 1, 1)
    step = jax.jit(make_step(make_init(recipe)[0], recipe, mesh))
    made = place_rows(batch(0), mesh)
    (one, _), (other, _) = step(state, made), step(large, made)
    jax.tree.map(np.testing.assert_array_equal, one.parameters, other.parameters)


@pytest.mark.parametrize("frozen", [("^decoder/",), ("^encoder/",)])
def test_nothing_is_computed_for_what_is_frozen(frozen):
    """Fewer floating-point operations, and no moments."""

    def cost(optimizer):
        recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
        graph, init = make_init(recipe)
        step = make_step(graph, recipe, make_mesh({"replica": 1, "fsdp": -1, "tensor": 1}))
        state = jax.eval_shape(init)
        flops = jax.jit(step).lower(state, batch(0)).cost_analysis()["flops"]
        return flops, sum(leaf.size for leaf in jax.tree.leaves(state.optimizer))

    less, all_of_it = cost(dataclasses.replace(OPTIMIZER, frozen=frozen)), cost(OPTIMIZER)
    assert less[0] < all_of_it[0]
    assert less[1] < all_of_it[1]


@pytest.mark.parametrize("parts", [1, 4])
def test_a_step_that_is_not_finite_changes_nothing(parts):
    recipe = dataclasses.replace(RECIPE, accumulate=parts)
    broken = batch(1)
    broken["mel"][3, 8] = np.inf
    good = [batch(0), batch(2)]
    losses, parameters = trained(recipe, [good[0], broken, broken])
    assert np.isfinite(losses[0])
    assert not np.isfinite(losses[1:]).any()
    _, before = trained(recipe, good[:1])
    for a, b in zip(jax.tree.leaves(parameters), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    # And the moments with them: what follows is finite.
    losses, _ = trained(recipe, [good[0], broken, good[1]])
    assert np.isfinite(losses[2])
