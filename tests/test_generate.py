"""Cached greedy decoding equals running the whole row anew for each token, at any batch size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_example, tiny_config
from flax import nnx

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.generate import generate
from qwen_audio_jax.models.attention import packed_mask
from qwen_audio_jax.models.language_model import rotation
from qwen_audio_jax.models.qwen_audio import QwenAudio

EXAMPLES = [
    make_example(i, clips, text)
    for i, (clips, text) in enumerate([((37,), 5), ((), 9), ((9, 50), 2)])
]
NEW, NEVER = 12, 95


def prompts(examples, tokens=48, frames=96):
    batch = empty_batch(len(examples), tokens, frames, mel_bins=16)
    for row, example in enumerate(examples):
        fill_row(batch, row, [example])
    return jax.tree.map(jnp.asarray, batch)


def without_cache(model, example):
    """Each token from a forward pass over everything before it; evaluation-mode rotation."""
    batch = prompts([example], tokens=48 + NEW)
    length = len(example.text.tokens)
    lengths = jnp.array([length])

    @jax.jit
    def logits_at(tokens, segments, at):
        x = model.embed(batch | {"tokens": tokens})
        rotate = rotation(model.config.decoder, jnp.arange(tokens.shape[1])[None], lengths)
        hidden = model.decoder(x, packed_mask(segments, causal=True), rotate)
        return model.decoder.logits(hidden[0, at])

    tokens, written = batch["tokens"], []
    for at in range(length, length + NEW):
        segments = (jnp.arange(tokens.shape[1]) < at).astype(jnp.int32)[None]
        written.append(int(jnp.argmax(logits_at(tokens, segments, at - 1))))
        tokens = tokens.at[0, at].set(written[-1])
    return written


@pytest.mark.parametrize("long_context", [False, True])
@pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])
def test_equals_decoding_without_cache(family, long_context):
    import dataclasses

    config = tiny_config(family)
    if long_context:  # prompts of 13 to 24 tokens lie past a trained length of 8
        decoder = dataclasses.replace(
            config.decoder, log_n=True, dynamic_ntk=True, trained_length=8
        )
        config = dataclasses.replace(config, decoder=decoder)
    model = QwenAudio(config, nnx.Rngs(3))
    # Large enough weights that the answer depends on everything before it.
    model.decoder.embedding[...] *= 50
    graph, parameters = nnx.split(model)
    decode = jax.jit(functools.partial(generate, graph, stop=(NEVER,), max_new_tokens=NEW))
    together = np.asarray(decode(parameters, prompts(EXAMPLES)))
    for row, example in enumerate(EXAMPLES):
        alone = np.asarray(decode(parameters, prompts([example])))
        np.testing.assert_array_equal(together[row], alone[0])
        np.testing.assert_array_equal(together[row], without_cache(model, example))
    assert len({tuple(row) for row in together}) == len(EXAMPLES)


def test_stops_at_the_end_token():
    model = QwenAudio(tiny_config("qwen2_audio"), nnx.Rngs(3))
    model.decoder.embedding[...] *= 50
    graph, parameters = nnx.split(model)
    decode = jax.jit(functools.partial(generate, graph, max_new_tokens=NEW), static_argnames="stop")
    free = np.asarray(decode(parameters, prompts(EXAMPLES), stop=(NEVER,)))
    end = int(free[0, 3])
    stopped = np.asarray(decode(parameters, prompts(EXAMPLES), stop=(end,)))
    for row, before in zip(stopped, free, strict=True):
        first = np.flatnonzero(before == end)
        keep = first[0] if len(first) else NEW
        np.testing.assert_array_equal(row[:keep], before[:keep])
        assert np.all(row[keep:] == end)
