"""Packed equals unpacked, and nothing leaks from one example into another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_example
from flax import nnx

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.training.next_token import next_token_loss


def conversation(*turns):
    """Examples one behind the other as one: clips and what is learned come by turns."""
    audio, heard = [], 0
    for turn in turns:
        audio.append(np.where(turn.text.audio >= 0, turn.text.audio + heard, -1))
        heard += int((turn.text.audio >= 0).sum())
    return Example(
        Tokens(
            np.concatenate([turn.text.tokens for turn in turns]),
            np.concatenate([turn.text.loss_weights for turn in turns]),
            np.concatenate(audio).astype(np.int32),
        ),
        tuple(clip for turn in turns for clip in turn.clips),
        tuple(frames for turn in turns for frames in turn.clip_frames),
    )


# Odd and even lengths, one audio token, two clips in an example, none at all, several turns.
EXAMPLES = [make_example(i, clips) for i, clips in enumerate([(37,), (3,), (50, 21), (), (64,)])]
EXAMPLES.insert(2, conversation(*(make_example(5 + i, c) for i, c in enumerate([(21,), (), (9,)]))))
COUNT = len(EXAMPLES)


def batch_of(rows, tokens=128, frames=288):
    batch = empty_batch(len(rows), tokens, frames, mel_bins=16)
    for row, examples in enumerate(rows):
        fill_row(batch, row, examples)
    return batch


@pytest.fixture
def run(config):
    """(batch, loss weights) -> (logits, loss sum, weight), compiled."""
    graph, parameters = nnx.split(QwenAudio(config, nnx.Rngs(0)))

    @jax.jit
    def compiled(batch, weights):
        model = nnx.merge(graph, parameters)
        hidden = model(batch)
        loss = next_token_loss(hidden, model.decoder.head[...], batch["targets"], weights, chunk=16)
        return model.decoder.logits(hidden), *loss

    return lambda batch, weights: jax.tree.map(np.asarray, compiled(batch, weights))


def test_packed_logits_and_loss_equal_unpacked(run):
    packed, alone = batch_of([EXAMPLES]), batch_of([[one] for one in EXAMPLES])
    for number in range(1, COUNT + 1):
        here = packed["segments"] == number
        there = (alone["segments"] == 1) & (np.arange(COUNT) == number - 1)[:, None]
        logits, loss, weight = run(packed, packed["loss_weights"] * here)
        alone_logits, alone_loss, alone_weight = run(alone, alone["loss_weights"] * there)
        np.testing.assert_allclose(logits[here], alone_logits[there], atol=1e-5)
        assert weight == alone_weight > 0
        np.testing.assert_allclose(loss / weight, alone_loss / alone_weight, atol=1e-5)


def test_place_in_the_row_does_not_matter(run):
    forward, backward = batch_of([EXAMPLES]), batch_of([EXAMPLES[::-1]])
    one, two = (run(batch, batch["loss_weights"])[0] for batch in (forward, backward))
    for number in range(1, COUNT + 1):
        here, there = forward["segments"] == number, backward["segments"] == COUNT + 1 - number
        np.testing.assert_allclose(one[here], two[there], atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_gradient_into_other_examples_is_exactly_zero(config, number):
    graph, parameters = nnx.split(QwenAudio(config, nnx.Rngs(0)))
    batch = batch_of([EXAMPLES])
    # Each position reads a word embedding of its own, so that gradients can be told apart.
    words = jax.random.normal(jax.random.key(1), (*batch["tokens"].shape, config.decoder.width))

    @jax.jit
    def loss(mel, words):
        model = nnx.merge(graph, parameters)
        model.decoder.embed = lambda tokens: words
        hidden = model(batch | {"mel": mel})
        weights = batch["loss_weights"] * (batch["segments"] == number)
        return next_token_loss(hidden, model.decoder.head[...], batch["targets"], weights)[0]

    by_mel, by_word = jax.grad(loss, argnums=(0, 1))(jnp.asarray(batch["mel"]), words)
    first = sum(len(one.clips) for one in EXAMPLES[: number - 1])
    own_clips = range(first + 1, first + len(EXAMPLES[number - 1].clips) + 1)
    own_frames = np.isin(batch["mel_segments"], own_clips)
    own_words = batch["segments"] == number
    for gradient, own in ((np.asarray(by_mel), own_frames), (np.asarray(by_word), own_words)):
        assert np.all(gradient[~own] == 0)
        assert np.any(gradient[own] != 0)


def test_two_margin_frames_are_all_that_is_looked_at(run):
    """Whatever lies behind them in the clip's own margin changes nothing."""
    batch = batch_of([[make_example(9, (37,))]])
    behind = np.arange(288) >= 39
    longer = batch | {
        "mel": np.where(behind[:, None], np.float32(7), batch["mel"]),
        "mel_positions": np.where(np.arange(288) < 37, batch["mel_positions"], -1),
        "mel_segments": (np.arange(288) < 60).astype(np.int32)[None],
    }
    weights = batch["loss_weights"]
    used = batch["segments"] == 1
    np.testing.assert_allclose(
        run(batch, weights)[0][used], run(longer, weights)[0][used], atol=1e-6
    )
