"""A model with random weights as `inference/loading.py` makes one ready, and its plain answers."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from conftest import tiny_config
from flax import nnx
from stacked_layers import stacked

from data_pipelines.examples import Preprocessor, empty_batch, fill_row
from qwen_audio_jax.inference.by_layer import by_layer
from qwen_audio_jax.inference.engine import Request
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import make_mesh, shardings
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.text.tokenizer import train_sentencepiece

TEXT = [
    "What do you hear? A bell.",
    "system user assistant You are a helpful assistant.",
    "你好 😀",
]


def tiny_loaded(family: str, folder: pathlib.Path, devices: int = 1, **decoder) -> Loaded:
    """A tiny model with a vocabulary of its own, whose answers depend on everything before them.

    Args:
        family: "qwen_audio" or "qwen2_audio".
        folder: where the vocabulary is written.
        devices: how many its mesh has.
        decoder: fields of its configuration.
    """
    tokenizer = train_sentencepiece(TEXT, ["en"], folder, pieces=16)
    config = tiny_config(family)
    begin, _, end = map(tokenizer.special, AUDIO_TAGS[family])
    fields = {"vocab_size": tokenizer.vocab_size} | decoder
    config = dataclasses.replace(
        config,
        decoder=dataclasses.replace(config.decoder, **fields),
        audio_begin=begin,
        audio_end=end,
    )
    model = QwenAudio(config, nnx.Rngs(3))
    model.decoder.embedding[...] *= 50
    parameters = nnx.to_pure_dict(nnx.split(model)[1])
    mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1}, jax.devices()[:devices])
    parameters = jax.device_put(parameters, shardings(parameters, mesh))
    graph, parameters = by_layer(config, parameters)
    preprocessor = Preprocessor(
        tokenizer, family, "tags", config.encoder.mel_bins, config.frame_rounding
    )
    return Loaded("tiny", family, config, graph, parameters, mesh, preprocessor, tuned=True)


def tone(number: int, seconds: float = 0.4) -> np.ndarray:
    """A clip, another for each number."""
    time = np.arange(int(16000 * seconds)) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 + 90 * number) * time)).astype(np.float32)


def plain_ids(loaded: Loaded, request: Request) -> list[int]:
    """The answer of `generate` to the whole prompt, as `Answer.ids` has it."""
    example = request.example
    tokens = -(-len(example.text.tokens) // 256) * 256
    batch = empty_batch(1, tokens, 512, loaded.preprocessor.mel_bins)
    fill_row(batch, 0, [example])
    graph, parameters = stacked(loaded.model, loaded.parameters)
    program = _program(graph, request.sampling, request.max_new_tokens)
    ids = np.asarray(program(parameters, batch, np.array([request.seed], np.int32)))
    ends = [n for n, token in enumerate(ids[0].tolist()) if token in request.stop]
    return ids[0, : ends[0] if ends else None].tolist()


@functools.cache
def _program(graph, sampling, new):
    # Without a stop, so that other stops need no other program.
    return jax.jit(
        lambda parameters, batch, seeds: generate(
            graph,
            parameters,
            batch,
            stop=(-1,),
            max_new_tokens=new,
            sampling=sampling,
            seeds=seeds,
        )
    )
