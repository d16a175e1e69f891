"""A small Qwen2-Audio of random weights in a folder, which answers with letters and signs."""

import json
import pathlib

import numpy as np
from byte_vocabulary import byte_vocabulary
from safetensors.numpy import save_file

from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig

TAGS = ("<|en|>", "<|zh|>", "<|unknown|>", *(f"<|{n / 10:.2f}|>" for n in range(20)))
CONTROL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
    *TAGS,
)
WIDTH, LAYERS = 16, 2


def write_model(
    folder: pathlib.Path, seed: int = 0, ending: float = 1.5, tags: float = 0.3
) -> pathlib.Path:
    """Writes it as transformers would.

    Args:
        folder: a new one.
        seed: of the weights; of another one it answers otherwise.
        ending: how large the weights are that end an answer; with 0 none ends by itself.
        tags: how large those of TAGS are; with 1 they come as often as letters.
    """
    folder.mkdir(parents=True)
    vocabulary = byte_vocabulary(folder / "tokenizer.json", CONTROL)
    decoder = DecoderConfig(
        vocab_size=len(vocabulary),
        layers=LAYERS,
        width=WIDTH,
        heads=4,
        kv_heads=2,
        head_dim=4,
        mlp_width=20,
    )
    encoder = EncoderConfig(mel_bins=8, layers=1, width=12, heads=3, max_positions=1500)
    audio = vocabulary["<|AUDIO|>"]
    parts = Parts("qwen2_audio", encoder, decoder, audio_token=audio)
    config = configs.write_qwen2_audio(parts.model(), "float32", audio, {})
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    shapes = tensor_shapes(names.qwen2_audio(decoder, in_memory=False), parameter_shapes(parts))
    tensors = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    for name, tensor in tensors.items():
        if name.endswith("norm.weight"):
            tensor[:] = 1
    (head,) = [name for name in tensors if name.endswith("lm_head.weight")]
    for token, i in vocabulary.items():
        if not (len(token) == 1 and "!" <= token <= "~"):
            sizes = {"<|im_end|>": ending} | dict.fromkeys(TAGS, tags)
            tensors[head][i] *= sizes.get(token, 0.3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
