"""Cached decoding equals running the whole row anew for each token, at any batch size."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_example, tiny_config
from flax import nnx

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.inference.sampling import GREEDY, Sampling
from qwen_audio_jax.models.language_model import rope
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.models.segments import Segments

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
        rotate = rope(model.config.decoder, jnp.arange(tokens.shape[1])[None], lengths)
        hidden = model.decoder(x, Segments.of(segments), rotate)
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


@pytest.fixture(scope="module")
def model():
    """A tiny model, split, whose answers depend on everything before them."""
    made = QwenAudio(tiny_config("qwen2_audio"), nnx.Rngs(3))
    made.decoder.embedding[...] *= 50
    return nnx.split(made)


@functools.cache
def decoder(graph, stop, new, sampling):
    return jax.jit(
        functools.partial(generate, graph, stop=stop, max_new_tokens=new, sampling=sampling)
    )


def write(model, examples, stop=(NEVER,), new=NEW, sampling=GREEDY, seeds=None, batch=None):
    graph, parameters = model
    batch = prompts(examples) if batch is None else batch
    return np.asarray(decoder(graph, stop, new, sampling)(parameters, batch, seeds=seeds))


def eight():
    clips = [(37,), (), (9, 50), (5,), (), (61,), (20, 20), (8,)]
    return [make_example(i, c, 3 + 2 * i % 7) for i, c in enumerate(clips)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(repetition_penalty=1.4),
        Sampling(temperature=1.0, top_k=20, top_p=0.95, repetition_penalty=1.2),
    ],
    ids=["greedy", "penalty", "sampled"],
)
def test_a_row_of_eight_is_answered_as_alone(model, sampling):
    seeds = jnp.arange(8) if sampling.temperature else None
    together = write(model, eight(), sampling=sampling, seeds=seeds)
    for row, example in enumerate(eight()):
        mine = None if seeds is None else seeds[row : row + 1]
        alone = write(model, [example], sampling=sampling, seeds=mine)
        np.testing.assert_array_equal(together[row], alone[0])
    if seeds is not None:
        again = write(model, eight(), sampling=sampling, seeds=seeds)
        np.testing.assert_array_equal(again, together)
        other = write(model, eight(), sampling=sampling, seeds=seeds + 100)
        assert np.any(other != together)


def test_the_penalty_counts_the_prompt_and_the_answer(model):
    """So strong that nothing is written twice, nor anything of the prompt, placeholders too."""
    examples = eight()[:2]
    answers = write(model, examples, sampling=Sampling(repetition_penalty=1e6))
    for example, answer in zip(examples, answers, strict=True):
        assert len({*answer}) == NEW
        assert not {*answer} & {*example.text.tokens.tolist()}
    batch = prompts(examples)
    padding = batch["segments"] == 0
    batch["tokens"] = jnp.where(padding, int(answers[0, 0]), batch["tokens"])
    again = write(model, examples, sampling=Sampling(repetition_penalty=1e6), batch=batch)
    np.testing.assert_array_equal(again, answers)


def test_any_of_several_ids_stops(model):
    free = write(model, eight())
    ends = (int(free[0, 4]), int(free[1, 2]))
    stopped = write(model, eight(), stop=ends)
    for row, before in zip(stopped, free, strict=True):
        found = np.flatnonzero(np.isin(before, ends))
        keep = found[0] + 1 if len(found) else NEW
        np.testing.assert_array_equal(row[:keep], before[:keep])
        assert np.all(row[keep:] == ends[0])


def test_one_token_and_an_empty_row(model):
    free = write(model, eight())
    np.testing.assert_array_equal(write(model, eight(), new=1), free[:, :1])
    batch = prompts(eight())
    batch["segments"] = batch["segments"].at[3].set(0)
    rows = write(model, eight(), batch=batch)
    assert np.all(rows[3] == NEVER)
    others = [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(rows[others], free[others])


def test_what_is_missing_is_named(model):
    with pytest.raises(ValueError, match=r"stop: name one id"):
        write(model, eight(), stop=())
    with pytest.raises(ValueError, match=r"seeds: sampling"):
        write(model, eight(), sampling=Sampling(temperature=1.0))
