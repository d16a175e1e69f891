"""A small model with random weights in a folder, as `convert import` leaves one."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
from conftest import flac, tiny_config
from flax import nnx

from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.models.parts import parts_of, path_name, write_parts
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START
from qwen_audio_jax.text.tokenizer import train_sentencepiece

TEXT = ["What do you hear? A bell.", "system user assistant You are a helpful assistant."]


def write_model(folder: pathlib.Path, *, seed: int = 3, tuned: bool = True) -> pathlib.Path:
    """Writes it; of another seed it answers otherwise. Greedy answers do not end by themselves."""
    tokenizer = train_sentencepiece(TEXT, ["en", "de"], folder / "tokenizer", pieces=16)
    config = tiny_config("qwen2_audio")
    begin, placeholder, end = map(tokenizer.special, AUDIO_TAGS["qwen2_audio"])
    decoder = dataclasses.replace(config.decoder, vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(config, decoder=decoder, audio_begin=begin, audio_end=end)
    model = QwenAudio(config, nnx.Rngs(seed))
    model.decoder.embedding[...] *= 50  # so that answers depend on what was said
    ends = np.array([tokenizer.special(name) for name in (IM_END, END_OF_TEXT, IM_START)])
    model.decoder.head[...] = model.decoder.head[...].at[:, ends].set(0)
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.split(model)[1]))
    arrays = [(path_name(path), np.asarray(leaf)) for path, leaf in leaves]
    write_checkpoint(folder / "checkpoints" / "0", arrays, 0)
    write_parts(folder, parts_of(config, placeholder))
    if not tuned:
        (folder / "evaluation.json").write_text(json.dumps([{"task": "asr"}]))
    return folder


def write_tone(path: pathlib.Path, pitch: float = 300.0, seconds: float = 0.4) -> pathlib.Path:
    """A clip as a file."""
    time = np.arange(int(16000 * seconds)) / 16000
    path.write_bytes(flac((0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)))
    return path
