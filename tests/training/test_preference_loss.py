"""The losses of pairs are what their papers write, and pairs are the same however they lie."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_eight_devices, tiny_config
from flax import nnx
from paired import PAIRS, PREFERENCE, alone, batch_of

from qwen_audio_jax.config_fields import ConfigError
from qwen_audio_jax.models.language_model import head_of, rope
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.parallel.sharding import AXES, make_mesh, place_rows, row_constraint, shardings
from qwen_audio_jax.step_config import PreferenceConfig
from qwen_audio_jax.training.preference import METRICS, Answers, answers_of, preference_loss

CONFIGS = [
    PreferenceConfig(loss="sigmoid"),
    PreferenceConfig(loss="sigmoid", beta=0.3, label_smoothing=0.1),
    PreferenceConfig(loss="robust", label_smoothing=0.2),
    PreferenceConfig(loss="hinge", beta=0.05),
    PreferenceConfig(loss="ipo", beta=0.2),
    PreferenceConfig(loss="sigmoid", sft_weight=0.7),
]


def reference_loss(log_probabilities, references, tokens, config):
    """(loss of each pair, its gradient by the two log-probabilities), written out in float64."""
    c, r = np.float64(log_probabilities).T
    c_ref, r_ref = np.float64(references).T
    beta, eps = config.beta, config.label_smoothing

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    d, per_token = (c - c_ref) - (r - r_ref), np.ones_like(tokens)
    if config.loss == "sigmoid":
        loss = -(1 - eps) * np.log(sigmoid(beta * d)) - eps * np.log(sigmoid(-beta * d))
        slope = -(1 - eps) * beta * sigmoid(-beta * d) + eps * beta * sigmoid(beta * d)
    elif config.loss == "robust":
        loss = -(1 - eps) * np.log(sigmoid(beta * d)) + eps * np.log(sigmoid(-beta * d))
        slope = -(1 - eps) * beta * sigmoid(-beta * d) - eps * beta * sigmoid(beta * d)
        loss, slope = loss / (1 - 2 * eps), slope / (1 - 2 * eps)
    elif config.loss == "hinge":
        loss, slope = np.maximum(0, 1 - beta * d), np.where(beta * d < 1, -beta, 0)
    else:
        per_token = tokens
        d = (c - c_ref) / tokens[:, 0] - (r - r_ref) / tokens[:, 1]
        loss, slope = (d - 1 / (2 * beta)) ** 2, 2 * (d - 1 / (2 * beta))
    gradient = np.stack([slope, -slope], axis=1) / per_token
    loss -= config.sft_weight * c / tokens[:, 0]
    gradient[:, 0] -= config.sft_weight / tokens[:, 0]
    return loss, gradient


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.loss}-{c.label_smoothing}-{c.sft_weight}"
)
def test_each_loss_and_its_gradient(config):
    """Of pairs that are learned, forgotten and far out, with room for others."""
    random = np.random.default_rng(0)
    tokens = random.integers(1, 60, (3, 4, 2)).astype(np.float32)
    log_probabilities = (-3 * tokens + 4 * random.standard_normal(tokens.shape)).astype(np.float32)
    references = (-3 * tokens + 4 * random.standard_normal(tokens.shape)).astype(np.float32)
    references[0, 0] = log_probabilities[0, 0] + [300, -300]
    there = np.ones((3, 4), bool)
    there[1, 2:] = there[2, :] = False
    tokens[~there] = log_probabilities[~there] = 0
    references[~there] = np.nan  # nobody reads them

    def ours(log_probabilities):
        (loss, pairs), told = preference_loss(
            Answers(log_probabilities, tokens), references, config
        )
        return loss, (pairs, told)

    (loss, (pairs, told)), gradient = jax.value_and_grad(ours, has_aux=True)(log_probabilities)
    arrays = (x[there] for x in (log_probabilities, references, tokens))
    wanted, slopes = reference_loss(*arrays, config)
    assert pairs == there.sum() == 6
    np.testing.assert_allclose(loss, wanted.sum(), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(gradient[there], slopes, rtol=1e-6, atol=1e-6)
    assert np.all(gradient[~there] == 0)
    assert set(told) == set(METRICS)
    per = tokens if config.loss == "ipo" else np.ones_like(tokens)
    gains = config.beta * (log_probabilities - references)[there] / per[there]
    margin = gains[:, 0] - gains[:, 1]
    expected = {
        "margin": margin,
        "accuracy": margin > 0,
        "reward_chosen": gains[:, 0],
        "reward_rejected": gains[:, 1],
        "log_probability_chosen": log_probabilities[there][:, 0],
        "log_probability_rejected": log_probabilities[there][:, 1],
        "tokens_chosen": tokens[there][:, 0],
        "tokens_rejected": tokens[there][:, 1],
    }
    for name, (total, weight) in told.items():
        np.testing.assert_allclose(total, expected[name].sum(), rtol=1e-5, err_msg=name)
        assert weight == 6


def test_at_the_reference_it_is_the_logarithm_of_two():
    tokens = jnp.full((1, 2, 2), 7.0)
    lp = jnp.array([[[-40.5, -3.25], [-200.0, -11.0]]])
    (loss, pairs), told = preference_loss(Answers(lp, tokens), lp, PreferenceConfig(loss="sigmoid"))
    np.testing.assert_allclose(loss / pairs, np.log(2), rtol=0, atol=1e-6)
    assert told["margin"][0] == told["reward_chosen"][0] == told["accuracy"][0] == 0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"loss": "hinge", "label_smoothing": 0.1}, "sigmoid and robust alone"),
        ({"loss": "robust"}, "is 0, with which the loss robust is sigmoid"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values, told):
    with pytest.raises(ConfigError, match=told):
        PreferenceConfig(**values)


def packed_loss(parameters, batch, graph, constrain=lambda x: x, mesh=None):
    """The loss of a batch of pairs, in the way of a step, and the log-probabilities."""
    hidden = nnx.merge(graph, parameters)(batch, constrain)
    head, axes = head_of(parameters["decoder"])
    answers = answers_of(hidden, head, batch, axes=axes, mesh=mesh)
    (loss, pairs), _ = preference_loss(answers, batch["references"], PREFERENCE)
    return loss / pairs, answers


def plain_loss(parameters, batch, references, graph):
    """The same of rows with one answer each, through all logits."""
    model = nnx.merge(graph, parameters)
    logits = jax.nn.log_softmax(model.decoder.logits(model(batch)))
    picked = jnp.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
    log_probabilities = jnp.sum(picked * batch["loss_weights"], axis=1).reshape(-1, 2)
    difference = (log_probabilities - references) @ jnp.array([1.0, -1.0])
    return jnp.mean(jnp.log1p(jnp.exp(-PREFERENCE.beta * difference))), log_probabilities


@functools.cache
def made(family):
    graph, parameters = nnx.split(QwenAudio(tiny_config(family), nnx.Rngs(0)))
    return graph, nnx.to_pure_dict(parameters)


def differentiated(loss, *static):
    return jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=static)


def assert_same(ours, wanted):
    assert jax.tree.structure(ours) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "family", ["qwen2_audio", pytest.param("qwen_audio", marks=pytest.mark.slow)]
)
def test_branches_and_apart_are_each_answer_alone(family):
    """Loss, log-probabilities, and the gradient by every parameter."""
    graph, parameters = made(family)
    batches = {layout: batch_of(layout) for layout in ("branches", "apart")}
    there = batches["apart"]["references"][:, :, 0] != 0
    references = batches["apart"]["references"][there]
    (loss, each), gradients = differentiated(plain_loss, 3)(parameters, alone(), references, graph)
    for batch in batches.values():
        (ours, answers), found = differentiated(packed_loss, 2)(parameters, batch, graph)
        np.testing.assert_allclose(ours, loss, rtol=0, atol=1e-5)
        np.testing.assert_allclose(answers.log_probabilities[there], each, rtol=0, atol=1e-4)
        assert np.all(answers.log_probabilities[~there] == 0)
        assert_same(found, gradients)
    # A clip of a pair is encoded once, in either layout.
    frames = {layout: int((batch["mel_segments"] > 0).sum()) for layout, batch in batches.items()}
    assert 2 * frames["apart"] == 2 * frames["branches"] == int((alone()["mel_segments"] > 0).sum())
    used = {layout: int((batch["segments"] > 0).sum()) for layout, batch in batches.items()}
    assert used["branches"] < used["apart"]


LONG = (((0, (40,), (64, 64)), (1, (), (64, 9))), ((2, (9, 22), (23, 64)),))


def test_long_answers_are_each_alone_in_qwen_audio():
    """Log-probabilities of 64 tokens; of Qwen2-Audio transformers says what they are."""
    graph, parameters = made("qwen_audio")
    references = np.zeros((3, 2))
    one_by_one = jax.jit(plain_loss, static_argnums=3)
    _, each = one_by_one(parameters, alone(LONG), references, graph)
    assert np.std(each) > 30  # so that none could stand for another
    packed = jax.jit(packed_loss, static_argnums=2)
    for layout in ("branches", "apart"):
        _, answers = packed(parameters, batch_of(layout, LONG, tokens=384), graph)
        there = np.asarray(answers.tokens[..., 0] > 0)
        assert answers.tokens[there].tolist() == [[64, 64], [64, 9], [23, 64]]
        found = answers.log_probabilities[there]
        np.testing.assert_allclose(found, each, rtol=0, atol=1e-4, err_msg=layout)


@pytest.mark.parametrize("layout", ["branches", "apart"])
def test_an_answer_has_no_gradient_by_the_other(layout):
    """By the embedding of each position, and none by another pair's either."""
    graph, parameters = made("qwen2_audio")
    batch = batch_of(layout)

    def log_probability(x, number):
        model = nnx.merge(graph, parameters)
        segments = Segments.of(batch["segments"], trunks=batch.get("trunks"))
        hidden = model.decoder(x, segments, rope(model.config.decoder, batch["positions"]))
        answers = answers_of(hidden, parameters["decoder"]["head"], batch)
        return answers.log_probabilities.reshape(2, -1)[0, number]

    x = nnx.merge(graph, parameters).embed(batch)
    gradient = jax.jit(jax.grad(log_probability))
    for number in range(4):
        moved = np.any(np.asarray(gradient(x, number)) != 0, axis=-1)
        answer, segments = batch["answers"][0] == 1 + number, batch["segments"]
        own = segments == segments[0][answer][0]
        if layout == "branches":
            own |= segments == batch["trunks"][0][answer][0]
        own[1] = False
        assert np.any(moved[0])
        assert not np.any(moved & ~own)


@pytest.mark.slow
@on_eight_devices
def test_a_mesh_is_one_device():
    graph, parameters = made("qwen2_audio")
    batch = batch_of("branches", PAIRS * 4)
    one = differentiated(packed_loss, 2)(parameters, batch, graph)
    for sizes in ((1, 8, 1), (2, 2, 2), (1, 2, 4)):
        mesh = make_mesh(dict(zip(AXES, sizes, strict=True)))
        loss = functools.partial(
            packed_loss, graph=graph, constrain=row_constraint(mesh), mesh=mesh
        )
        layout = shardings(parameters, mesh)
        placed = jax.device_put(parameters, layout), place_rows(batch, mesh)
        with jax.set_mesh(mesh):
            assert_same(differentiated(loss)(*placed), one)
