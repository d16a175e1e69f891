"""LoRA: what is adapted, what it computes, and that its gradients are the right ones."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapted import EVERYWHERE, LORA, parameters_of, recipe_of, run_config
from conftest import make_example, pretrain_values, tiny_config
from flax import nnx
from test_step import batch, mesh_of

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.models.adapters import is_adapter, merged
from qwen_audio_jax.models.cuts import merge
from qwen_audio_jax.models.presets import Compute, ModelConfig, model_config, preset_parts
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.step_config import LoraConfig
from qwen_audio_jax.training import lora
from qwen_audio_jax.training.step import (
    Recipe,
    abstract_model,
    make_init,
    make_losses,
    make_step,
)


def without(parameters, adapters):
    """(the parameters of the model without adapters as they are, and as adapters change them)."""
    base, changed = ({}, {})
    leaves = by_path(parameters)
    for path, leaf in leaves.items():
        if not is_adapter(path):
            base[path] = changed[path] = leaf
    for adapter in adapters:
        kernel, *both = (leaves[f"{adapter.path}/{n}"] for n in ("kernel", "lora_a", "lora_b"))
        changed[f"{adapter.path}/kernel"] = merged(kernel, *both, adapter.scale)
    tree = jax.tree_util.tree_map_with_path

    def like(values):
        bare = nested_without_adapters(parameters)
        return tree(lambda path, _: values["/".join(key.key for key in path)], bare)

    return like(base), like(changed)


def nested_without_adapters(tree):
    return {
        name: nested_without_adapters(node) if isinstance(node, dict) else node
        for name, node in tree.items()
        if name not in ("lora_a", "lora_b")
    }


@functools.cache
def losses_of(model: ModelConfig):
    """losses(parameters, batch) of a model: what the logits of each position give."""
    losses = jax.jit(make_losses(abstract_model(model)[0], mesh_of(1, 1, 1)))
    return lambda parameters, rows: np.asarray(losses(parameters, rows))


# What is adapted.


def test_adapters_are_those_of_the_patterns():
    chosen = LoraConfig(
        rank=4,
        alpha=8.0,
        targets=("^decoder/blocks/(query|up)$", "^projector$"),
        rank_pattern={"/query$": 2},
        alpha_pattern={"^projector": 12.0},
    )
    model = tiny_config("qwen_audio")
    found = {a.path: (a.rank, a.scale) for a in lora.with_adapters(chosen, model).adapters}
    assert found == {
        "decoder/blocks/query": (2, 4.0),
        "decoder/blocks/up": (4, 2.0),
        "projector": (4, 3.0),
    }
    rslora = lora.with_adapters(dataclasses.replace(chosen, rslora=True), model).adapters
    assert {a.path: a.scale for a in rslora} == {
        "decoder/blocks/query": 8 / math.sqrt(2),
        "decoder/blocks/up": 4.0,
        "projector": 6.0,
    }
    assert lora.with_adapters(LoraConfig(), model) == model


def test_so_many_are_trained(config):
    """By the formula, and at the size of Qwen2-Audio."""
    recipe = recipe_of(EVERYWHERE, config)
    state = jax.eval_shape(make_init(recipe)[1])
    kernels = {path: leaf.shape for path, leaf in by_path(abstract_model(config)[1]).items()}
    expected = 0
    for path, shape in kernels.items():
        if path.endswith("/kernel") and "conv" not in path:
            expected += 3 * sum(shape[-2:]) * math.prod(shape[:-2])
    assert sum(leaf.size for leaf in jax.tree.leaves(state.parameters)) == expected
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim)
    assert moments == 2 * expected


def test_seven_billion_have_twenty_million():
    parts = preset_parts("qwen2_audio_7b", "qwen2_audio", 156032)
    model = model_config("qwen2_audio", *parts, audio_begin=0, audio_end=1)
    state = jax.eval_shape(make_init(recipe_of(LoraConfig(rank=8), model))[1])
    assert sum(leaf.size for leaf in jax.tree.leaves(state.parameters)) == 19_988_480


def test_they_are_drawn_as_peft_draws_them():
    """A uniformly within 1 / sqrt(in), B zero; and all else as without them."""
    recipe = recipe_of(EVERYWHERE)
    leaves = by_path(merge(*_first(recipe), {}))
    without_them = by_path(merge(*_first(recipe_of(LoraConfig())), {}))
    assert {path for path in leaves if not is_adapter(path)} == without_them.keys()
    for path, leaf in leaves.items():
        if path.endswith("/lora_b"):
            assert not np.any(leaf)
        elif path.endswith("/lora_a"):
            bound = leaf.shape[-2] ** -0.5
            assert 0.9 * bound < np.abs(leaf).max() <= bound
            assert abs(np.std(leaf) - bound / math.sqrt(3)) < 0.15 * bound
        else:
            np.testing.assert_array_equal(leaf, without_them[path])


def _first(recipe):
    state = jax.jit(make_init(recipe)[1])()
    return state.parameters, state.frozen


# What they compute.


def test_at_first_nothing_changes(config):
    """The losses are those of the model without adapters, to the bit."""
    model = lora.with_adapters(EVERYWHERE, config)
    parameters = parameters_of(model, trained=False)
    base, _ = without(parameters, model.adapters)
    one, other = losses_of(model)(parameters, batch(0)), losses_of(config)(base, batch(0))
    assert np.count_nonzero(one) > 20
    np.testing.assert_array_equal(one, other)


def test_an_adapter_is_the_kernel_with_it_merged(config):
    """And the change is large enough to be seen."""
    model = lora.with_adapters(EVERYWHERE, config)
    parameters = parameters_of(model)
    base, changed = without(parameters, model.adapters)
    adapted, bare = losses_of(model)(parameters, batch(0)), losses_of(config)
    np.testing.assert_allclose(adapted, bare(changed, batch(0)), rtol=0, atol=1e-5)
    assert np.abs(adapted - bare(base, batch(0))).max() > 0.1


def test_answers_are_those_of_merged_kernels():
    config = tiny_config("qwen2_audio")
    model = lora.with_adapters(LoraConfig(rank=4, alpha=16.0), config)
    parameters = parameters_of(model)
    base, changed = without(parameters, model.adapters)
    prompts = empty_batch(3, 32, 64, mel_bins=16)
    for row in range(3):
        fill_row(prompts, row, [make_example(row, (20 + row,))])

    def answers_of(of):
        graph = abstract_model(of)[0]
        return jax.jit(
            lambda values: generate(graph, values, prompts, stop=(95,), max_new_tokens=6)
        )

    bare = answers_of(config)
    found = answers_of(model)(parameters)
    np.testing.assert_array_equal(found, bare(changed))
    assert (found != bare(base)).any()


def test_packed_is_alone():
    model = lora.with_adapters(EVERYWHERE, tiny_config("qwen2_audio"))
    parameters = parameters_of(model)
    examples = [make_example(1, (20,)), make_example(2, (9, 31))]
    packed, alone = (empty_batch(8, 64, 128, mel_bins=16) for _ in range(2))
    fill_row(packed, 0, examples)
    for row, example in enumerate(examples):
        fill_row(alone, row, [example])
    one, other = (losses_of(model)(parameters, rows) for rows in (packed, alone))
    first, second = (len(example.text.tokens) for example in examples)
    assert one.sum() > 1
    # An example's last position has no loss, and the packed row goes on behind it.
    np.testing.assert_allclose(one[0, :first], other[0, :first], atol=1e-5)
    np.testing.assert_allclose(one[0, first : first + second], other[1, :second], atol=1e-5)


# Their gradients.


def gradient_of(model: ModelConfig, parameters):
    """Of a mean over positions of products with fixed directions, by path."""
    graph, rows = abstract_model(model)[0], jax.tree.map(jnp.asarray, batch(0))

    def loss(parameters):
        hidden = nnx.merge(graph, parameters)(rows)
        direction = jnp.cos(jnp.arange(hidden.size)).reshape(hidden.shape)
        return jnp.sum(hidden * direction * (rows["segments"] > 0)[..., None]) / hidden.size

    return by_path(jax.jit(jax.grad(loss))(parameters))


@pytest.mark.parametrize("remat", ["none", pytest.param("full", marks=pytest.mark.slow)])
def test_gradients_are_those_of_the_product(remat):
    """Of W' = W + s A B they are s dW' Bᵀ and s Aᵀ dW', whatever is computed anew."""
    config = dataclasses.replace(tiny_config("qwen_audio"), compute=Compute(remat=remat))
    model = lora.with_adapters(EVERYWHERE, config)
    parameters = parameters_of(model)
    _, changed = without(parameters, model.adapters)
    found, kernels = gradient_of(model, parameters), gradient_of(config, changed)
    leaves = by_path(parameters)
    for adapter in model.adapters:
        dense = np.asarray(kernels[f"{adapter.path}/kernel"], np.float64)
        a, b = (np.asarray(leaves[f"{adapter.path}/{n}"], np.float64) for n in ("lora_a", "lora_b"))
        for name, expected in (
            ("lora_a", adapter.scale * dense @ b.swapaxes(-1, -2)),
            ("lora_b", adapter.scale * a.swapaxes(-1, -2) @ dense),
        ):
            largest = np.abs(expected).max()
            assert largest > 0
            error = np.abs(found[f"{adapter.path}/{name}"] - expected).max() / largest
            assert error < 1e-4, (adapter.path, name)


def test_no_gradient_of_a_kernel_is_formed():
    """No product in the step has a kernel's shape; where all is trained, each kernel has one."""
    wide = dict(layers=2, width=32, heads=6, kv_heads=3, head_dim=8, mlp_width=56, vocab_size=96)
    model = tiny_config("qwen2_audio", **wide)
    shapes = {(32, 48), (32, 24), (48, 32), (32, 56), (56, 32)}
    assert shapes <= products(recipe_of(LoraConfig(), model))
    for chosen in (LORA, dataclasses.replace(LORA, dropout=0.1)):
        assert not shapes & products(recipe_of(chosen, model))


def products(recipe: Recipe) -> set[tuple[int, ...]]:
    """Shapes of what products in a step make, either way round."""
    graph, init = make_init(recipe)
    step = make_step(graph, recipe, mesh_of(1, 1, 1))
    closed = jax.make_jaxpr(step)(jax.eval_shape(init), batch(0))
    found = set()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                shape = equation.outvars[0].aval.shape
                found.update({shape, shape[::-1]})
            for value in jax.tree.leaves(list(equation.params.values())):
                if hasattr(value, "eqns"):  # what a scan or a checkpoint runs
                    walk(value)

    walk(closed.jaxpr)
    return found


# What cannot be.


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            dict(targets=("^decoder/blocks/q_proj$",)),
            r"config.lora.targets: '\^decoder/blocks/q_proj\$' is found in no linear layer's path; "
            "did you mean 'decoder/blocks",
        ),
        (dict(targets=("conv1",)), "config.lora.targets: 'conv1' is found in no linear layer's"),
        (
            dict(rank=25, targets=("^decoder/", "^projector$")),
            "config.lora.rank: a rank of 25 is above the smaller side of decoder/blocks/key/kernel,"
            " which is 16",
        ),
        (
            dict(rank_pattern={"/key$": 17}),
            "config.lora.rank_pattern: a rank of 17 is above the smaller side of decoder/blocks/ke",
        ),
        (
            dict(rank_pattern={"encoder": 2}),
            "config.lora.rank_pattern: 'encoder' is found in no target's path",
        ),
        (
            dict(alpha_pattern={"/(key|value)$": 2.0, "/key$": 3.0}),
            "are found in decoder/blocks/key and give it different values",
        ),
    ],
)
def test_a_pattern_that_cannot_be_is_a_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        lora.with_adapters(dataclasses.replace(LORA, **changes), tiny_config("qwen2_audio"))


def test_a_pattern_of_what_else_is_trained_must_be_found():
    model = lora.with_adapters(LORA, tiny_config("qwen2_audio"))
    chosen = dataclasses.replace(LORA, train=("^projektor",))
    with pytest.raises(ConfigError, match=re.escape("did you mean 'projector'")):
        lora.optimizer_of(run_config(chosen), model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank", -1),
        ("rank", 2.5),
        ("alpha", 0),
        ("alpha", -8.0),
        ("alpha", float("nan")),
        ("dropout", 1.0),
        ("targets", ()),
        ("targets", ("(",)),
        ("targets", ("^decoder/blocks[0:2]",)),
        ("rank_pattern", {"query": 0}),
        ("rank_pattern", {"(": 2}),
        ("alpha_pattern", {"query": 0.0}),
    ],
)
def test_a_value_that_cannot_be_is_a_sentence(key, value):
    values = pretrain_values()
    values["lora"][key] = value
    with pytest.raises(ConfigError, match=rf"config\.lora\.{key}.*must be"):
        from_mapping(values)
