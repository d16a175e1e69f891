"""What decays, what is frozen, and the schedule's three points."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwen_audio_jax.models.cuts import Cut, merge, part
from qwen_audio_jax.run_config import ConfigError, OptimizerConfig
from qwen_audio_jax.training.optimizer import cuts_of, make_optimizer, schedule, split

CONFIG = OptimizerConfig(
    learning_rate=1.0,
    final_learning_rate=0.1,
    warmup_steps=10,
    beta1=0.9,
    beta2=0.98,
    eps=1e-6,
    weight_decay=0.5,
    clip_norm=1.0,
    frozen=("^decoder/head$",),
)
PARAMETERS = {
    "encoder": {
        "positions": jnp.ones((3, 2)),
        "conv1": {"kernel": jnp.ones((3, 1, 2))},
        "blocks": {
            "norm": {"scale": jnp.ones((2, 3))},
            "query": {"kernel": jnp.ones((2, 2, 2))},
        },
    },
    "decoder": {"head": jnp.ones((2, 2)), "embedding": jnp.ones((2, 2))},
}


def test_schedule_rises_then_falls():
    rate = schedule(CONFIG, 110)
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(110)], [0, 0.5, 1, 0.1], atol=1e-6)


def updated(config, steps=3):
    """Parameters after some updates by a gradient of zero, and the optimizer's state."""
    optimizer = make_optimizer(config, 110, cuts_of(config, PARAMETERS))
    trained, frozen = split(config, PARAMETERS)
    state = optimizer.init(trained)
    for _ in range(steps):
        zero = jax.tree.map(jnp.zeros_like, trained)
        updates, state = optimizer.update(zero, state, trained)
        trained = jax.tree.map(jnp.add, trained, updates)
    return merge(trained, frozen, {}), state


def test_only_matrices_decay_and_frozen_parameters_stay():
    parameters, _ = updated(CONFIG)
    assert np.all(parameters["encoder"]["positions"] == 1)
    assert np.all(parameters["encoder"]["blocks"]["norm"]["scale"] == 1)
    assert np.all(parameters["decoder"]["head"] == 1)
    assert np.all(parameters["decoder"]["embedding"] < 1)


def test_frozen_parameters_carry_no_moments():
    _, state = updated(CONFIG)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state))
    trained = 6 + 8 + 4 + 6  # norm scale, query kernel, embedding, convolution
    assert 2 * trained <= sizes < 2 * trained + 5


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (("enncoder",), r"frozen: 'enncoder' is found in no parameter's path; did you .*'encoder'"),
        (("^encoder/", "^decoder/haed$"), r"'\^decoder/haed\$' is found .* mean .*'decoder/head'"),
        (("xyz",), r"'xyz' is found in no parameter's path; paths begin with decoder, encoder"),
        (("^encoder/", "^decoder/"), r"frozen: .* so nothing would be trained; leave one out"),
        ((".",), r"frozen: .* so nothing would be trained; leave one out"),
    ],
)
def test_patterns_that_freeze_nothing_or_everything_are_refused(frozen, message):
    config = dataclasses.replace(CONFIG, frozen=frozen)
    with pytest.raises(ConfigError, match=rf"config\.optimizer\.{message}|{message}"):
        jax.eval_shape(lambda: split(config, PARAMETERS))


def test_infinity_is_no_clipping():
    def change(norm):
        optimizer = make_optimizer(
            dataclasses.replace(CONFIG, clip_norm=norm, weight_decay=0.0), 9, {}
        )
        trained, _ = split(CONFIG, PARAMETERS)
        state = optimizer.init(trained)
        updates = []
        for size in (1e3, 1e-3, 1e-3):
            gradient = jax.tree.map(lambda leaf: size * jnp.ones_like(leaf), trained)  # noqa: B023
            update, state = optimizer.update(gradient, state, trained)
            updates.append(float(jax.tree.leaves(update)[0].ravel()[0]))
        return updates, jax.tree.structure(state)

    (plain, layout), (huge, _), (one, layout_of_one) = change(np.inf), change(1e12), change(1.0)
    assert plain == huge
    assert plain != one
    # A checkpoint of one may be gone on from with the other.
    assert layout == layout_of_one


def test_deeper_blocks_of_the_encoder_learn_slower():
    slowed, _ = updated(dataclasses.replace(CONFIG, encoder_layer_decay=0.5), steps=2)
    plain, _ = updated(CONFIG, steps=2)

    def change(tree, *path):
        for name in path:
            tree = tree[name]
        return 1 - np.asarray(tree)

    # One step of these two is at rate 0, so what is left is a single step's decay.
    kernel = ("encoder", "blocks", "query", "kernel")
    ratios = change(slowed, *kernel) / change(plain, *kernel)
    np.testing.assert_allclose(ratios[:, 0, 0], [0.25, 0.5], rtol=1e-5)
    conv = ("encoder", "conv1", "kernel")
    np.testing.assert_allclose(change(slowed, *conv) / change(plain, *conv), 0.125, rtol=1e-5)
    assert np.all(slowed["decoder"]["embedding"] == plain["decoder"]["embedding"])


@pytest.mark.parametrize(
    ("cut", "trained", "frozen"),
    [
        (Cut(0, ((0, 3),)), [3, 4, 5], [0, 1, 2]),
        (Cut(0, ((4, 6),)), [0, 1, 2, 3], [4, 5]),
        (Cut(0, ((1, 2), (3, 5))), [0, 2, 5], [1, 3, 4]),
    ],
)
def test_what_is_cut_is_put_together_again(cut, trained, frozen):
    whole = {"a": jnp.arange(6), "b": jnp.ones(2), "c": {"d": jnp.zeros((2, 6)) + jnp.arange(6)}}
    cuts = {"a": cut, "c/d": dataclasses.replace(cut, axis=1)}
    one, other = part(whole, {"b"}, cuts)
    assert one["b"] is None
    np.testing.assert_array_equal(one["a"], trained)
    np.testing.assert_array_equal(other["a"], frozen)
    np.testing.assert_array_equal(other["c"]["d"], [frozen] * 2)
    jax.tree.map(np.testing.assert_array_equal, merge(one, other, cuts), whole)
