"""What decays, what is frozen, and the schedule's three points."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import pretrain_values

from qwen_audio_jax.config_fields import ConfigError
from qwen_audio_jax.models.cuts import Cut, merge, part
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.step_config import OptimizerConfig
from qwen_audio_jax.training.optimizer import cuts_of, make_optimizer, rate_by_time, schedule, split

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


def test_a_rate_by_time_rises_by_steps_then_falls_with_the_time():
    def rate(count, share):
        return float(rate_by_time(CONFIG, jnp.int32(count), jnp.float32(share)))

    np.testing.assert_allclose([rate(0, 0), rate(5, 0), rate(10, 0)], [0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose([rate(50, 0.5), rate(99, 1.0)], [0.55, 0.1], atol=1e-6)
    # Never above the line while it warms up, and never up again after it.
    assert rate(5, 0.9) < rate(5, 0.1) == 0.5
    falling = [rate(20, share) for share in np.linspace(0, 1, 50)]
    assert falling == sorted(falling, reverse=True)
    without = dataclasses.replace(CONFIG, warmup_steps=0)
    assert float(rate_by_time(without, jnp.int32(0), jnp.float32(0))) == 1


@pytest.mark.slow
def test_time_moves_a_parameter_as_steps_do_at_the_same_rate():
    trained, _ = split(CONFIG, PARAMETERS)
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.3), trained)
    by_steps, by_time = make_optimizer(CONFIG, 110, {}), make_optimizer(CONFIG, 0, {})
    one, other = by_steps.init(trained), by_time.init(trained)
    for count in range(20):
        # The share at which the cosine of time is that of steps.
        share = jnp.float32(max(count - 10, 0) / 100)
        updates, one = by_steps.update(gradient, one, trained)
        timed, other = by_time.update(gradient, other, trained, share=share)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), updates, timed
        )


def updated(config, steps=3):
    """Parameters after some updates by a gradient of zero, and the optimizer's state."""
    optimizer = make_optimizer(config, 110, cuts_of(config, PARAMETERS))
    trained, frozen = split(config, PARAMETERS)
    state = optimizer.init(trained)
    for _ in range(steps):
        zero = jax.tree.map(jnp.zeros_like, trained)
        updates, state = optimizer.update(zero, state, trained)
        trained = jax.tree.map(jnp.add, trained, updates)
    return merge(trained, frozen, cuts_of(config, PARAMETERS)), state


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
        (("^encoder/[:]", "^decoder/"), r"'\^encoder/\[:\]' .* encoder/conv1/kernel, which has no"),
        (("^decoder/head[0:1]",), r"'\^decoder/head\[0:1\]' .* decoder/head, which has no layers"),
        (("^encoder/blocks[0:3]",), r"3 is past the end of encoder/blocks, which has 2 layers"),
        (("^encoder/blocks[-3:]",), r"-3 is past the end of encoder/blocks, which has 2 layers"),
        (
            ("^encoder/blocks[1:1]",),
            r"is an empty range of the 2 layers of encoder/blocks",
        ),
        (("^encoder/blocks[2:]",), r"is an empty range of the 2 layers of encoder/blocks"),
        (
            ("^encoder/blokcs[0:1]",),
            r"in no parameter's path; did you mean 'encoder/blocks",
        ),
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


def frozen_of(*patterns, first_new_token=0, **changes):
    """(what is wholly frozen, the cuts) of some patterns."""
    config = dataclasses.replace(CONFIG, frozen=patterns, **changes)
    _, frozen = split(config, PARAMETERS, first_new_token)
    cuts = cuts_of(config, PARAMETERS, first_new_token)
    leaves = jax.tree_util.tree_leaves_with_path(frozen)
    return {path_name(path) for path, _ in leaves} - set(cuts), cuts


def test_a_range_behind_a_pattern_freezes_layers():
    blocks = {"encoder/blocks/norm/scale", "encoder/blocks/query/kernel"}
    always = {"encoder/positions"}
    for text, interval in (
        ("[0:1]", (0, 1)),
        ("[:1]", (0, 1)),
        ("[-1:]", (1, 2)),
        ("[1:]", (1, 2)),
    ):
        for pattern in (f"^encoder/blocks{text}", f"^encoder/blocks/{text}"):
            wanted = dict.fromkeys(blocks, Cut(0, (interval,)))
            assert frozen_of(pattern) == (always, wanted)
    assert frozen_of("^encoder/blocks[:]") == (blocks | always, {})
    assert frozen_of("^encoder/blocks[:1]", "blocks[1:]") == (blocks | always, {})
    # A set of characters stays one.
    frozen, cuts = frozen_of("(query|norm)/[ks]", "^encoder/blocks/norm[0:1]")
    assert (frozen, cuts) == (blocks | always, {})


def test_new_tokens_are_trained_where_their_table_is_frozen():
    rows = {"decoder/embedding": Cut(0, ((0, 1),)), "decoder/head": Cut(1, ((0, 1),))}
    frozen, cuts = frozen_of("^decoder/", first_new_token=1)
    assert (frozen, cuts) == ({"encoder/positions"}, rows)
    assert frozen_of("embedding", first_new_token=1)[1].keys() == {"decoder/embedding"}
    assert frozen_of("^decoder/", first_new_token=1, train_new_tokens=False)[1] == {}
    assert frozen_of("^decoder/", first_new_token=2)[1] == {}  # none is behind the last
    # Even alone.
    assert frozen_of(".", first_new_token=1)[1] == rows


def test_rates_multiply_the_update():
    """Of Adam and of weight decay alike, and no state is added."""

    def update(**changes):
        config = dataclasses.replace(CONFIG, **changes)
        trained, _ = split(config, PARAMETERS)
        optimizer = make_optimizer(config, 110, {})
        state = optimizer.init(trained)
        random = np.random.default_rng(0)
        gradient = jax.tree.map(
            lambda leaf: jnp.float32(random.standard_normal(leaf.shape)), trained
        )
        for _ in range(2):
            updates, state = optimizer.update(gradient, state, trained)
        return updates, jax.tree.structure(state)

    rates = {"^encoder/conv1": 0.25, "^encoder/blocks/(norm|query)": 2.0}
    (plain, structure), (scaled, same) = update(), update(rates=rates)
    assert structure == same
    for name, factor in (("conv1", 0.25), ("blocks", 2.0)):
        ours, theirs = (jax.tree.leaves(tree["encoder"][name]) for tree in (scaled, plain))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b * factor, rtol=1e-6)
    np.testing.assert_array_equal(scaled["decoder"]["embedding"], plain["decoder"]["embedding"])
    # With rates by depth they multiply.
    both, slowed = update(rates=rates, encoder_layer_decay=0.5), update(encoder_layer_decay=0.5)
    np.testing.assert_allclose(
        both[0]["encoder"]["conv1"]["kernel"],
        slowed[0]["encoder"]["conv1"]["kernel"] * 0.25,
        rtol=1e-6,
    )


def test_depth_is_counted_in_the_whole_encoder():
    """Though only its last layer is trained."""
    config = dataclasses.replace(CONFIG, frozen=("^encoder/blocks[:1]",), encoder_layer_decay=0.5)
    slowed, _ = updated(config, steps=2)
    plain, _ = updated(dataclasses.replace(config, encoder_layer_decay=1.0), steps=2)
    changes = [
        1 - np.asarray(tree["encoder"]["blocks"]["query"]["kernel"])[:, 0, 0]
        for tree in (slowed, plain)
    ]
    assert changes[0][0] == changes[1][0] == 0
    np.testing.assert_allclose(changes[0][1] / changes[1][1], 0.5, rtol=1e-5)
    conv = [1 - np.asarray(tree["encoder"]["conv1"]["kernel"]).max() for tree in (slowed, plain)]
    np.testing.assert_allclose(conv[0] / conv[1], 0.125, rtol=1e-5)


def test_a_rate_has_no_range_of_layers():
    values = pretrain_values()
    values["optimizer"]["rates"] = {"^decoder/blocks[0:2]": 0.5}
    with pytest.raises(ConfigError, match="no range of layers behind it"):
        from_mapping(values)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"^decodr/": 0.1}, "'\\^decodr/' is found in no trained parameter's path; did you mean"),
        ({"^decoder/head": 0.1}, "'\\^decoder/head' is found in no trained parameter's path"),
        ({"^encoder/": 0.1, "blocks": 0.2}, "are found in encoder/blocks/norm/scale and give it"),
    ],
)
def test_rates_that_say_nothing_or_two_things_are_refused(rates, message):
    with pytest.raises(ConfigError, match=rf"config\.optimizer\.rates: .*{message}"):
        split(dataclasses.replace(CONFIG, rates=rates), PARAMETERS)
    agreeing = {"^encoder/": 0.1, "blocks": 0.1}
    split(dataclasses.replace(CONFIG, rates=agreeing), PARAMETERS)
