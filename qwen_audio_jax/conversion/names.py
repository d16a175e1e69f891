"""Which tensor of an original checkpoint becomes which of our parameters, and how.

Names and layouts are those of openai/whisper, QwenLM/Qwen-Audio, QwenLM/Qwen and transformers.
PyTorch keeps a linear layer as [out, in] and a convolution as [out, in, taps]; ours are [in, out]
and [taps, in, out], and the layers of a stack share one array with a leading axis.
"""

import dataclasses
from collections.abc import Sequence

import ml_dtypes  # noqa: F401  (numpy learns bfloat16)
import numpy as np

from qwen_audio_jax.models.presets import DecoderConfig


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor of an original, or one in every layer, and the parameter it becomes.

    Attributes:
        name: the tensor's name; `{}` stands for the layer.
        path: the parameter's path.
        layout: "same", "linear" or "conv".
        part: (i, n): the parameter is the i-th of n equal parts of the tensor's first axis.
    """

    name: str
    path: str
    layout: str
    part: tuple[int, int] = (0, 1)

    @property
    def layered(self) -> bool:
        return "{}" in self.name

    def tensor_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The original tensor's shape, of the parameter's shape without the layer axis."""
        out, *rest = shape if self.layout == "same" else shape[::-1]
        return (out * self.part[1], *rest)


def to_parameter(tensor: np.ndarray, layout: str) -> np.ndarray:
    """An original tensor in our layout; a view."""
    return tensor if layout == "same" else tensor.T


def copy_transposed(target: np.ndarray, source: np.ndarray) -> None:
    """`target[...] = source.T`, a few rows at a time: whole, it would miss the cache."""
    rows = 16
    for i in range(0, source.shape[0], rows):
        target[:, i : i + rows] = source[i : i + rows].T


_OPENAI_ENCODER = """
    conv1.weight                      encoder/conv1/kernel                 conv
    conv1.bias                        encoder/conv1/bias                   same
    conv2.weight                      encoder/conv2/kernel                 conv
    conv2.bias                        encoder/conv2/bias                   same
    positional_embedding              encoder/positions                    same
    blocks.{}.attn_ln.weight          encoder/blocks/attention_norm/scale  same
    blocks.{}.attn_ln.bias            encoder/blocks/attention_norm/bias   same
    blocks.{}.attn.query.weight       encoder/blocks/query/kernel          linear
    blocks.{}.attn.query.bias         encoder/blocks/query/bias            same
    blocks.{}.attn.key.weight         encoder/blocks/key/kernel            linear
    blocks.{}.attn.value.weight       encoder/blocks/value/kernel          linear
    blocks.{}.attn.value.bias         encoder/blocks/value/bias            same
    blocks.{}.attn.out.weight         encoder/blocks/out/kernel            linear
    blocks.{}.attn.out.bias           encoder/blocks/out/bias              same
    blocks.{}.mlp_ln.weight           encoder/blocks/mlp_norm/scale        same
    blocks.{}.mlp_ln.bias             encoder/blocks/mlp_norm/bias         same
    blocks.{}.mlp.0.weight            encoder/blocks/up/kernel             linear
    blocks.{}.mlp.0.bias              encoder/blocks/up/bias               same
    blocks.{}.mlp.2.weight            encoder/blocks/down/kernel           linear
    blocks.{}.mlp.2.bias              encoder/blocks/down/bias             same
    ln_post.weight                    encoder/norm/scale                   same
    ln_post.bias                      encoder/norm/bias                    same
"""

_TRANSFORMERS_ENCODER = """
    conv1.weight                           encoder/conv1/kernel                 conv
    conv1.bias                             encoder/conv1/bias                   same
    conv2.weight                           encoder/conv2/kernel                 conv
    conv2.bias                             encoder/conv2/bias                   same
    embed_positions.weight                 encoder/positions                    same
    layers.{}.self_attn_layer_norm.weight  encoder/blocks/attention_norm/scale  same
    layers.{}.self_attn_layer_norm.bias    encoder/blocks/attention_norm/bias   same
    layers.{}.self_attn.q_proj.weight      encoder/blocks/query/kernel          linear
    layers.{}.self_attn.q_proj.bias        encoder/blocks/query/bias            same
    layers.{}.self_attn.k_proj.weight      encoder/blocks/key/kernel            linear
    layers.{}.self_attn.v_proj.weight      encoder/blocks/value/kernel          linear
    layers.{}.self_attn.v_proj.bias        encoder/blocks/value/bias            same
    layers.{}.self_attn.out_proj.weight    encoder/blocks/out/kernel            linear
    layers.{}.self_attn.out_proj.bias      encoder/blocks/out/bias              same
    layers.{}.final_layer_norm.weight      encoder/blocks/mlp_norm/scale        same
    layers.{}.final_layer_norm.bias        encoder/blocks/mlp_norm/bias         same
    layers.{}.fc1.weight                   encoder/blocks/up/kernel             linear
    layers.{}.fc1.bias                     encoder/blocks/up/bias               same
    layers.{}.fc2.weight                   encoder/blocks/down/kernel           linear
    layers.{}.fc2.bias                     encoder/blocks/down/bias             same
    layer_norm.weight                      encoder/norm/scale                   same
    layer_norm.bias                        encoder/norm/bias                    same
"""

_QWEN_DECODER = """
    wte.weight                 decoder/embedding                    same
    h.{}.ln_1.weight           decoder/blocks/attention_norm/scale  same
    h.{}.attn.c_attn.weight    decoder/blocks/query/kernel          linear  0/3
    h.{}.attn.c_attn.weight    decoder/blocks/key/kernel            linear  1/3
    h.{}.attn.c_attn.weight    decoder/blocks/value/kernel          linear  2/3
    h.{}.attn.c_attn.bias      decoder/blocks/query/bias            same    0/3
    h.{}.attn.c_attn.bias      decoder/blocks/key/bias              same    1/3
    h.{}.attn.c_attn.bias      decoder/blocks/value/bias            same    2/3
    h.{}.attn.c_proj.weight    decoder/blocks/out/kernel            linear
    h.{}.ln_2.weight           decoder/blocks/mlp_norm/scale        same
    h.{}.mlp.w2.weight         decoder/blocks/gate/kernel           linear
    h.{}.mlp.w1.weight         decoder/blocks/up/kernel             linear
    h.{}.mlp.c_proj.weight     decoder/blocks/down/kernel           linear
    ln_f.weight                decoder/norm/scale                   same
"""

_TRANSFORMERS_DECODER = """
    embed_tokens.weight                        decoder/embedding                    same
    layers.{}.input_layernorm.weight           decoder/blocks/attention_norm/scale  same
    layers.{}.self_attn.q_proj.weight          decoder/blocks/query/kernel          linear
    layers.{}.self_attn.q_proj.bias            decoder/blocks/query/bias            same
    layers.{}.self_attn.k_proj.weight          decoder/blocks/key/kernel            linear
    layers.{}.self_attn.k_proj.bias            decoder/blocks/key/bias              same
    layers.{}.self_attn.v_proj.weight          decoder/blocks/value/kernel          linear
    layers.{}.self_attn.v_proj.bias            decoder/blocks/value/bias            same
    layers.{}.self_attn.q_norm.weight          decoder/blocks/query_norm/scale      same
    layers.{}.self_attn.k_norm.weight          decoder/blocks/key_norm/scale        same
    layers.{}.self_attn.o_proj.weight          decoder/blocks/out/kernel            linear
    layers.{}.post_attention_layernorm.weight  decoder/blocks/mlp_norm/scale        same
    layers.{}.mlp.gate_proj.weight             decoder/blocks/gate/kernel           linear
    layers.{}.mlp.up_proj.weight               decoder/blocks/up/kernel             linear
    layers.{}.mlp.down_proj.weight             decoder/blocks/down/kernel           linear
    norm.weight                                decoder/norm/scale                   same
"""


def _rows(table: str, prefix: str) -> tuple[Row, ...]:
    rows = []
    for line in table.strip().splitlines():
        name, path, layout, *part = line.split()
        first, of = map(int, part[0].split("/")) if part else (0, 1)
        rows.append(Row(prefix + name, path, layout, (first, of)))
    return tuple(rows)


def openai_encoder(prefix: str) -> tuple[Row, ...]:
    """Whisper's encoder as openai/whisper names it."""
    return _rows(_OPENAI_ENCODER, prefix)


def transformers_encoder(prefix: str) -> tuple[Row, ...]:
    """Whisper's encoder as transformers names it."""
    return _rows(_TRANSFORMERS_ENCODER, prefix)


def _decoder(table: str, prefix: str, head: str, config: DecoderConfig) -> tuple[Row, ...]:
    """The rows of what a decoder has, its head last."""
    absent = set()
    if not config.qkv_bias:
        absent |= {f"decoder/blocks/{name}/bias" for name in ("query", "key", "value")}
    if not config.qk_norm:
        absent |= {f"decoder/blocks/{name}_norm/scale" for name in ("query", "key")}
    rows = tuple(row for row in _rows(table, prefix) if row.path not in absent)
    if config.tied:
        return (*rows, Row(head, "decoder/embedding", "same"))
    return (*rows, Row(head, "decoder/head", "linear"))


def distinct(rows: Sequence[Row]) -> tuple[Row, ...]:
    """One row for each parameter: a tied head's, which repeats the word embedding, is left out."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.path, row)
    return tuple(first.values())


def qwen_decoder(config: DecoderConfig) -> tuple[Row, ...]:
    """Qwen-7B: fused query, key and value; `w2` is the gate."""
    return _decoder(_QWEN_DECODER, "transformer.", "lm_head.weight", config)


def transformers_decoder(config: DecoderConfig) -> tuple[Row, ...]:
    """Qwen2, Qwen2.5, Qwen3 or Llama."""
    return _decoder(_TRANSFORMERS_DECODER, "model.", "lm_head.weight", config)


def qwen_audio(config: DecoderConfig) -> tuple[Row, ...]:
    """Qwen-Audio and Qwen-Audio-Chat, 749 tensors at real size."""
    audio = "transformer.audio."
    return (
        *openai_encoder(audio),
        Row(f"{audio}proj.weight", "projector/kernel", "linear"),
        Row(f"{audio}proj.bias", "projector/bias", "same"),
        Row(f"{audio}audio_bos_eos_token.weight", "delimiters", "same"),
        *qwen_decoder(config),
    )


def qwen2_audio(config: DecoderConfig, *, in_memory: bool = False) -> tuple[Row, ...]:
    """Qwen2-Audio, 876 tensors at real size.

    Args:
        config: its decoder's, which need not be Qwen2.
        in_memory: the names of transformers 5's modules rather than those of published files.
    """
    outer = "model." if in_memory else ""
    projector = f"{outer}multi_modal_projector.linear"
    prefix = "model.language_model." if in_memory else "language_model.model."
    head = "lm_head.weight" if in_memory else "language_model.lm_head.weight"
    return (
        *transformers_encoder(f"{outer}audio_tower."),
        Row(f"{projector}.weight", "projector/kernel", "linear"),
        Row(f"{projector}.bias", "projector/bias", "same"),
        *_decoder(_TRANSFORMERS_DECODER, prefix, head, config),
    )
