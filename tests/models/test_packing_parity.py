"""Packed equals unpacked, and nothing leaks from one example into another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_example
from flax import nnx

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.objectives import next_token_loss

# Odd and even lengths, one audio token, two clips in an example, none at all.
EXAMPLES = [make_example(i, clips) for i, clips in enumerate([(37,), (3,), (50, 21), (), (64,)])]


def batch_of(rows, tokens=128, frames=288):
    batch = empty_batch(len(rows), tokens, frames, mel_bins=16)
    for row, examples in enumerate(rows):
        fill_row(batch, row, examples)
    return batch


def logits_of(model, batch):
    return np.asarray(model.decoder.logits(model(jax.tree.map(jnp.asarray, batch))))


def test_packed_logits_and_loss_equal_unpacked(model):
    packed, alone = batch_of([EXAMPLES]), batch_of([[one] for one in EXAMPLES])
    packed_logits, alone_logits = logits_of(model, packed), logits_of(model, alone)
    for number in range(1, len(EXAMPLES) + 1):
        here = packed["segments"][0] == number
        there = alone["segments"][number - 1] == 1
        np.testing.assert_allclose(
            packed_logits[0, here], alone_logits[number - 1, there], atol=1e-5
        )
        losses = [
            next_token_loss(
                model(batch), model.decoder.head[...], batch["targets"], batch["loss_weights"] * keep
            )
            for batch, keep in ((packed, here), (alone, np.arange(len(EXAMPLES))[:, None] == number - 1))
        ]
        (packed_loss, packed_weight), (alone_loss, alone_weight) = losses
        assert packed_weight == alone_weight > 0
        np.testing.assert_allclose(packed_loss / packed_weight, alone_loss / alone_weight, atol=1e-5)


def test_place_in_the_row_does_not_matter(model):
    forward, backward = batch_of([EXAMPLES]), batch_of([EXAMPLES[::-1]])
    one, two = logits_of(model, forward), logits_of(model, backward)
    for number in range(1, len(EXAMPLES) + 1):
        here = forward["segments"][0] == number
        there = backward["segments"][0] == len(EXAMPLES) + 1 - number
        np.testing.assert_allclose(one[0, here], two[0, there], atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_gradient_into_other_examples_is_exactly_zero(model, number):
    batch = batch_of([EXAMPLES])
    weights = batch["loss_weights"] * (batch["segments"] == number)

    def loss(mel, embedding):
        trial = nnx.clone(model)
        words = embedding[jnp.arange(batch["tokens"].size)].reshape(1, -1, embedding.shape[-1])
        trial.decoder.embed = lambda tokens: words
        hidden = trial(batch | {"mel": mel})
        return next_token_loss(hidden, trial.decoder.head[...], batch["targets"], weights)[0]

    embedding = model.decoder.embed(batch["tokens"])[0]
    by_mel, by_word = jax.grad(loss, argnums=(0, 1))(jnp.asarray(batch["mel"]), embedding)
    own_words = batch["segments"][0] == number
    clips_before = sum(len(one.clips) for one in EXAMPLES[: number - 1])
    clips = range(clips_before + 1, clips_before + len(EXAMPLES[number - 1].clips) + 1)
    own_frames = np.isin(batch["mel_segments"][0], clips)
    assert np.all(np.asarray(by_mel)[0, ~own_frames] == 0)
    assert np.all(np.asarray(by_word)[~own_words] == 0)
    assert np.any(np.asarray(by_mel)[0, own_frames] != 0)
    assert np.any(np.asarray(by_word)[own_words] != 0)


def test_margin_frames_reach_only_the_last_position(model):
    """A longer margin of the same features changes nothing: two frames are all that is looked at."""
    batch = batch_of([[make_example(9, (37,))]])
    longer = batch | {
        "mel_positions": np.where(np.arange(288) < 37, batch["mel_positions"], -1),
        "mel_segments": np.where(np.arange(288) < 60, 1, 0)[None],
    }
    np.testing.assert_allclose(logits_of(model, batch), logits_of(model, longer), atol=1e-6)
