"""Small folders as the originals' makers publish them, with random numbers for weights."""

import dataclasses
import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig

ENCODER = EncoderConfig(mel_bins=8, layers=2, width=12, heads=3, max_positions=20)
SHAPE = dict(vocab_size=64, layers=3, width=16, heads=4, head_dim=4, mlp_width=20)
GROUPED = DecoderConfig(**SHAPE, kv_heads=2)
QWEN = DecoderConfig(**SHAPE, kv_heads=4, log_n=True, dynamic_ntk=True, trained_length=32)
WHISPER = {
    "model_type": "whisper",
    "d_model": 12,
    "num_mel_bins": 8,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 48,
    "max_source_positions": 20,
}


def random_tensors(parts: Parts, rows: tuple[names.Row, ...], dtype: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(len(rows))
    shapes = tensor_shapes(rows, parameter_shapes(parts))
    return {
        name: random.standard_normal(shape).astype(np.dtype(dtype))
        for name, shape in shapes.items()
    }


def write_folder(folder: pathlib.Path, config: dict | None, *shards: dict) -> pathlib.Path:
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    for number, shard in enumerate(shards):
        save_file(shard, folder / f"model-{number}.safetensors", {"format": "pt"})
    return folder


def qwen2_audio(
    folder, dtype="bfloat16", *, in_memory=False, vocab_size=64, **changes
) -> pathlib.Path:
    """Qwen2-Audio in two shards."""
    decoder = dataclasses.replace(GROUPED, vocab_size=vocab_size)
    parts = Parts("qwen2_audio", ENCODER, decoder, audio_token=60)
    config = configs.write_qwen2_audio(parts.model(), dtype, 60, {}) | changes
    tensors = random_tensors(parts, names.qwen2_audio(decoder, in_memory=in_memory), dtype)
    items = list(tensors.items())
    return write_folder(folder, config, dict(items[:30]), dict(items[30:]))


def qwen_audio(folder, dtype="bfloat16", **changes) -> pathlib.Path:
    parts = Parts("qwen_audio", ENCODER, QWEN, 61, 62)
    config = configs.write_qwen_audio(parts.model(), dtype, 64) | changes
    return write_folder(folder, config, random_tensors(parts, names.qwen_audio(QWEN), dtype))


def whisper(folder, rows=None, config=WHISPER, dtype="float16", positions=20) -> pathlib.Path:
    """A whole Whisper: its decoder is there too, and has to be left alone."""
    rows = rows or names.transformers_encoder("model.encoder.")
    encoder = dataclasses.replace(ENCODER, max_positions=positions)
    config = config and config | {"max_source_positions": positions}
    tensors = random_tensors(Parts(encoder=encoder), rows, dtype)
    outer = "model." if rows[0].name.startswith("model.") else ""
    tensors[f"{outer}decoder.layer_norm.weight"] = np.zeros(3, np.float32)
    return write_folder(folder, config, tensors)


def qwen2(folder, dtype="bfloat16", *, tied=False, vocab_size=64, kind="qwen2") -> pathlib.Path:
    """A Qwen2 or Qwen2.5 text model, or one of another kind in its shape."""
    config = {
        "model_type": kind,
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 20,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": tied,
    }
    config |= {"head_dim": 4} if kind == "qwen3" else {}  # which is 128 where nothing is said
    flags = dict(qkv_bias=kind == "qwen2", qk_norm=kind == "qwen3")
    decoder = dataclasses.replace(GROUPED, vocab_size=vocab_size, tied=tied, **flags)
    rows = names.distinct(names.transformers_decoder(decoder))
    return write_folder(folder, config, random_tensors(Parts(decoder=decoder), rows, dtype))


def qwen(folder, dtype="bfloat16") -> pathlib.Path:
    """A Qwen-7B text model."""
    config = {
        "model_type": "qwen",
        "vocab_size": 64,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "kv_channels": 4,
        "intermediate_size": 40,
        "seq_length": 32,
        "layer_norm_epsilon": 1e-6,
    }
    tensors = random_tensors(Parts(decoder=QWEN), names.qwen_decoder(QWEN), dtype)
    tensors["transformer.rotary_emb.inv_freq"] = np.zeros(2, np.float32)
    return write_folder(folder, config, tensors)
