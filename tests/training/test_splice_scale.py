"""A new projector gives audio tokens the length of words; one that was trained stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from flax import nnx

from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import make_mesh, shardings
from qwen_audio_jax.training.splice_scale import at_word_norm
from qwen_audio_jax.training.step import TrainState


def lengths(vectors):
    return np.linalg.norm(np.asarray(vectors, np.float32), axis=-1)


@pytest.fixture(scope="module")
def parameters():
    config = tiny_config("qwen2_audio")
    init = jax.jit(lambda: nnx.to_pure_dict(nnx.split(QwenAudio(config, nnx.Rngs(0)))[1]))
    parameters = init()
    random = np.random.default_rng(0)
    # As trained ones: not all of one length.
    norm = parameters["encoder"]["norm"]
    norm["scale"] = jnp.asarray(random.uniform(0.5, 3, norm["scale"].shape), jnp.float32)
    norm["bias"] = jnp.asarray(random.normal(size=norm["bias"].shape), jnp.float32)
    parameters["decoder"]["embedding"] = parameters["decoder"]["embedding"] * 5
    return parameters


def scaled(parameters, first_new_token=0):
    state = TrainState(None, parameters, None, None)
    layout = shardings(parameters, make_mesh({"replica": 1, "fsdp": 1, "tensor": 1}))
    layout = TrainState(None, layout, None, None)
    return at_word_norm(state, layout, first_new_token).parameters


@jax.jit
def audio_tokens(parameters):
    config = tiny_config("qwen2_audio")
    graph = nnx.split(nnx.eval_shape(lambda: QwenAudio(config, nnx.Rngs(0))))[0]
    model = nnx.merge(graph, parameters)
    F = 240
    mel = jax.random.normal(jax.random.key(0), (4, F, config.encoder.mel_bins))
    positions = jnp.broadcast_to(jnp.arange(F), (4, F)) % 120
    segments = jnp.where(jnp.arange(F) < 120, 1, 2) * jnp.ones((4, 1), jnp.int32)
    return model.projector(model.encoder(mel, positions, segments))


def test_audio_tokens_are_as_long_as_words(parameters):
    words = np.median(lengths(parameters["decoder"]["embedding"]))
    before = np.median(lengths(audio_tokens(parameters)))
    after = np.median(lengths(audio_tokens(scaled(parameters))))
    assert before > 10 * words
    # Components of an encoder's output go together, which the two vectors of its norm do not tell.
    assert after == pytest.approx(words, rel=0.3)


def test_nothing_else_changes(parameters):
    after = scaled(parameters)
    ratio = after["projector"]["kernel"] / parameters["projector"]["kernel"]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
    same = jax.tree.map(lambda one, other: one is other, after, parameters)
    assert all(jax.tree.leaves({part: same[part] for part in ("encoder", "decoder")}))
    assert same["projector"]["kernel"] is False


def test_rows_of_new_tokens_are_no_words(parameters):
    decoder = parameters["decoder"]
    longer = decoder["embedding"].at[30:].multiply(100)
    changed = parameters | {"decoder": decoder | {"embedding": longer}}
    plain = scaled(parameters, 30)["projector"]["kernel"]
    np.testing.assert_array_equal(scaled(changed, 30)["projector"]["kernel"], plain)
    assert (scaled(changed)["projector"]["kernel"] != plain).all()


def test_of_an_embedding_in_two_pieces_the_frozen_rows_are_the_words(parameters):
    decoder = parameters["decoder"]
    old, new = (dict(decoder, embedding=rows) for rows in jnp.split(decoder["embedding"], [30]))
    state = TrainState(None, parameters | {"decoder": new}, {"decoder": old}, None)
    layout = jax.tree.map(lambda leaf: leaf.sharding, state)
    kernel = at_word_norm(state, layout, 30).parameters["projector"]["kernel"]
    np.testing.assert_array_equal(kernel, scaled(parameters, 30)["projector"]["kernel"])
