"""Shapes of parameters and of the original tensors they make, without computing anything."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

import jax
from flax import nnx

from qwen_audio_jax.conversion.names import Row
from qwen_audio_jax.models.parts import Parts, path_name
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig, ModelConfig, model_config
from qwen_audio_jax.models.qwen_audio import QwenAudio


def parameter_shapes(parts: Parts) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of a whole model, or of one part, by path."""
    encoder = parts.encoder or EncoderConfig(mel_bins=1, layers=1, width=8, heads=1)
    decoder = parts.decoder or DecoderConfig(
        vocab_size=1, layers=1, width=8, heads=1, kv_heads=1, head_dim=8, mlp_width=8
    )
    begin, end = parts.audio_begin, parts.audio_end
    family = parts.family or "qwen2_audio"
    # The position table is computed even where nothing is, and may be large by mistake.
    short = dataclasses.replace(encoder, max_positions=1)
    adapters = parts.adapters
    model = model_config(
        family, short, decoder, audio_begin=begin, audio_end=end, adapters=adapters
    )
    shapes = model_shapes(model) | {"encoder/positions": (encoder.max_positions, encoder.width)}
    if parts.whole:
        return shapes
    kept = ("encoder/",) * bool(parts.encoder) + ("decoder/",) * bool(parts.decoder)
    return {path: shape for path, shape in shapes.items() if path.startswith(kept)}


def model_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters by path; nothing is computed."""
    return dict(_model_shapes(model))


@functools.lru_cache(maxsize=16)
def _model_shapes(model: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    graph = nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0)))
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.split(graph)[1]))
    return {path_name(path): leaf.shape for path, leaf in leaves}


def tensor_names(row: Row, layers: int) -> list[str]:
    """The tensors of a row, in the order of layers."""
    return [row.name.format(layer) for layer in range(layers)] if row.layered else [row.name]


def tensor_shapes(
    rows: Iterable[Row], parameters: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every original tensor that these parameters make."""
    shapes = {}
    for row in rows:
        shape = parameters[row.path]
        layers, shape = (shape[0], shape[1:]) if row.layered else (1, shape)
        for name in tensor_names(row, layers):
            shapes[name] = row.tensor_shape(shape)
    return shapes
