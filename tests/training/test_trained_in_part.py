"""Layers and tokens that are trained while the rest of their stack or table is frozen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_eight_devices, pretrain_values, tiny_config
from flax import nnx
from test_step import OPTIMIZER, batch, compiled, mesh_of, whole

from qwen_audio_jax.checkpoint import Checkpoints
from qwen_audio_jax.models.cuts import merge, together
from qwen_audio_jax.models.language_model import head_of
from qwen_audio_jax.parallel.sharding import place_rows, shardings
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.training import step as step_module
from qwen_audio_jax.training.next_token import chunk_of, next_token_loss
from qwen_audio_jax.training.start import restore_or_init
from qwen_audio_jax.training.step import Recipe, make_init, make_step, recipe_cuts

NEW = 60
MODEL = tiny_config(
    "qwen_audio",
    vocab_size=96,
    layers=4,
    width=32,
    heads=4,
    kv_heads=4,
    head_dim=8,
    mlp_width=48,
    first_new_token=NEW,
)
LAYERS = ("^decoder/blocks[:2]", "^decoder/blocks/(gate|up)[3:]", "^encoder/blocks[-1:]")
TABLES = ("^decoder/(embedding|head|norm)",)


def recipe_of(*frozen: str, **optimizer) -> Recipe:
    # Adam makes a whole step of a gradient near 0, be it only rounding; not with so large an eps.
    config = dataclasses.replace(OPTIMIZER, frozen=frozen, clip_norm=1e9, eps=1e-3, **optimizer)
    return Recipe(MODEL, config, steps=20, seed=0)


def leaves(tree) -> dict[str, np.ndarray]:
    return {
        "/".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def trained_part(name: str, whole: np.ndarray, cuts) -> np.ndarray:
    return np.asarray(cuts[name].take(jnp.asarray(whole))[0]) if name in cuts else whole


@pytest.mark.slow
def test_in_pieces_is_whole():
    """The same hidden states to the bit, and gradients of what is trained."""
    recipe = recipe_of("^decoder/blocks[:2]", "^encoder/", *TABLES, "^decoder/blocks/down/")
    graph, init = make_init(recipe)
    cuts, rows = recipe_cuts(recipe), jax.tree.map(jnp.asarray, batch(0))
    state = jax.jit(init)()

    def hidden(trained, put_together):
        return nnx.merge(graph, put_together(trained, state.frozen, cuts))(rows)

    def loss(trained, put_together):
        head, axes = head_of(put_together(trained, state.frozen, cuts)["decoder"])
        learned = rows["targets"], rows["loss_weights"]
        return next_token_loss(hidden(trained, put_together), head, *learned, axes=axes)[0]

    def of(function, put_together):
        return jax.jit(function, static_argnums=1)(state.parameters, put_together)

    np.testing.assert_array_equal(of(hidden, together), of(hidden, merge))
    pieces, wholes = (leaves(of(jax.grad(loss), way)) for way in (together, merge))
    for name, wanted in wholes.items():
        atol = 2e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(pieces[name], wanted, rtol=0, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def free():
    """Parameters after two steps of which the first is at rate 0, with nothing frozen."""
    return after_two_steps(recipe_of())


def first(recipe):
    state = jax.jit(make_init(recipe)[1])()
    return state, leaves(whole(state, recipe))


def after_two_steps(recipe, sizes=(1, 1, 1)):
    mesh = mesh_of(*sizes)
    state, _ = first(recipe)
    state = jax.device_put(state, shardings(state, mesh))
    step = compiled(recipe, sizes)
    for _ in range(2):
        state, _ = step(state, place_rows(batch(0), mesh))
    return state, leaves(whole(state, recipe))


@pytest.mark.parametrize("frozen", [(*LAYERS, *TABLES), ("^encoder/", "^decoder/")])
def test_what_is_trained_is_as_if_nothing_were_frozen(free, frozen):
    """And what is frozen stays to the bit; of new tokens alone there are moments."""
    recipe = recipe_of(*frozen)
    cuts, (_, before) = recipe_cuts(recipe), first(recipe)
    state, after = after_two_steps(recipe)
    assert {"decoder/embedding", "decoder/head"} <= set(cuts)
    for name, expected in free[1].items():
        moved = np.abs(after[name] - before[name])
        if name in leaves(state.parameters):
            part = trained_part(name, after[name], cuts)
            wanted = trained_part(name, expected, cuts)
            np.testing.assert_allclose(part, wanted, rtol=0, atol=1e-6, err_msg=name)
            assert trained_part(name, moved, cuts).max() > 1e-5, name
        if name in leaves(state.frozen):
            still = cuts[name].take(jnp.asarray(moved))[1] if name in cuts else moved
            assert np.max(still) == 0, name
    moments = state.optimizer[1][0].mu["decoder"]
    assert moments["embedding"].shape == (96 - NEW, 32)
    assert moments["head"].shape == (32, 96 - NEW)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state.parameters))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer)) == 2 * sizes + 2


def test_tags_are_told_apart():
    """Before and after training with a frozen decoder."""
    recipe = recipe_of("^encoder/", "^decoder/")
    graph, _ = make_init(recipe)

    @jax.jit
    def hidden(parameters, tag):
        rows = batch(0)
        rows["tokens"] = jnp.asarray(rows["tokens"]).at[:, 0].set(tag)
        return nnx.merge(graph, parameters)(rows)

    for state in (first(recipe)[0], after_two_steps(recipe)[0]):
        parameters = whole(state, recipe)
        one, other = hidden(parameters, NEW + 1), hidden(parameters, NEW + 2)
        assert np.abs(one - other).max() > 1e-2


def test_of_a_tied_embedding_the_new_rows_are_trained_alone():
    model = dataclasses.replace(MODEL, decoder=dataclasses.replace(MODEL.decoder, tied=True))
    recipe = dataclasses.replace(recipe_of("^encoder/", "^decoder/"), model=model)
    _, before = first(recipe)
    _, after = after_two_steps(recipe)
    before, after = (one["decoder/embedding"] for one in (before, after))
    np.testing.assert_array_equal(after[:NEW], before[:NEW])
    assert np.abs(after[NEW:] - before[NEW:]).max() > 1e-5


def test_new_tokens_may_be_frozen_too():
    for frozen, keep in ((("^decoder/",), False), (("^projector/",), True)):
        assert recipe_cuts(recipe_of(*frozen, train_new_tokens=keep)) == {}
    old = dataclasses.replace(MODEL.decoder, first_new_token=0)
    recipe = recipe_of("^decoder/")
    model = dataclasses.replace(MODEL, decoder=old)
    assert recipe_cuts(dataclasses.replace(recipe, model=model)) == {}


def program(*frozen, rows=1):
    """A step of wide layers and many tokens, not yet compiled."""
    wide = dict(vocab_size=2000, layers=6, width=64, heads=4, kv_heads=4, head_dim=16)
    model = tiny_config("qwen_audio", **wide, mlp_width=2048, first_new_token=1900)
    recipe = Recipe(model, dataclasses.replace(OPTIMIZER, frozen=frozen), steps=20, seed=0)
    graph, init = make_init(recipe)
    step = jax.jit(make_step(graph, recipe, mesh_of(1, 1, 1)), donate_argnums=0)
    few = {name: array[:rows] for name, array in batch(0).items()}
    return step.lower(jax.eval_shape(init), few)


@pytest.mark.slow
def test_nothing_is_copied_of_what_is_frozen(monkeypatch):
    """Putting the layers together would take as much memory as those that are frozen."""
    frozen = ("^encoder/", "^decoder/(embedding|head)", "^decoder/blocks[:4]")

    def memory():
        return program(*frozen).compile().memory_analysis().temp_size_in_bytes

    pieces = memory()
    monkeypatch.setattr(step_module, "together", merge)
    assert memory() - pieces > 4 * 64 * (4 * 64 + 3 * 2048) * np.float32().nbytes


@pytest.mark.slow
def test_nothing_is_computed_for_what_is_frozen(monkeypatch):
    """A frozen layer costs no gradient by its kernels, nor does an old column of the head."""
    monkeypatch.setattr(jax.lax, "scan", unrolled)  # a loop's work would be counted once
    others = ("^encoder/", "^projector/", "^delimiters", "^decoder/(embedding|norm)")
    tokens = 8 * 64

    def flops(*frozen):
        return program(*others, *frozen, rows=8).cost_analysis()["flops"]

    two, four, six = (flops(f"^decoder/blocks[:{n}]") for n in (2, 4, 6))
    layer = 2 * tokens * 64 * (4 * 64 + 3 * 2048)
    assert (two - four) / layer == pytest.approx(2, rel=0.05)
    assert (four - six) / layer == pytest.approx(2, rel=0.05)
    head = six - flops("^decoder/blocks/", "^decoder/head")
    assert head / (2 * chunk_of(tokens) * 64 * 1900) == pytest.approx(1, rel=0.3)


def unrolled(body, x, stack):
    for number in range(len(jax.tree.leaves(stack)[0])):
        x, _ = body(x, jax.tree.map(lambda leaf, number=number: leaf[number], stack))
    return x, None


def test_resumes_to_the_bit(tmp_path):
    recipe = recipe_of(*LAYERS, *TABLES)
    state, _ = after_two_steps(recipe)
    config, cuts = from_mapping(pretrain_values()), recipe_cuts(recipe)
    checkpoints = Checkpoints(tmp_path, 1, cuts)
    checkpoints.save(2, state, next_slot=2, config={"a": 1})
    checkpoints.close()
    layout = shardings(jax.eval_shape(make_init(recipe)[1]), mesh_of(1, 1, 1))
    again, slot = restore_or_init(config, Checkpoints(tmp_path, 1, cuts), recipe, layout)
    assert slot == 2
    jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.mark.slow
@on_eight_devices
def test_sharded_is_one_device():
    for frozen in (*LAYERS, *TABLES), ("^encoder/", "^decoder/"):
        _, alone = after_two_steps(recipe_of(*frozen))
        for sizes in ((1, 8, 1), (2, 2, 2), (1, 1, 8)):
            _, sharded = after_two_steps(recipe_of(*frozen), sizes)
            for name, array in sharded.items():
                np.testing.assert_allclose(array, alone[name], rtol=0, atol=1e-5, err_msg=name)
