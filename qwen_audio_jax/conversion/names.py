"""Which tensor of an original checkpoint becomes which of our parameters, and how.

Names and layouts are those of openai/whisper, QwenLM/Qwen-Audio, QwenLM/Qwen and transformers.
PyTorch keeps a linear layer as [out, in] and a convolution as [out, in, taps]; ours are [in, out]
and [taps, in, out], and the layers of a stack share one array with a leading axis.
"""

import dataclasses

import ml_dtypes  # noqa: F401  (numpy learns bfloat16)
import numpy as np


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


@dataclasses.dataclass(frozen=True)
class Head:
    """The tensor that is a decoder's head: its own, or the word embedding where they are tied."""

    name: str
    embedding: str


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

_QWEN2_DECODER = """
    embed_tokens.weight                        decoder/embedding                    same
    layers.{}.input_layernorm.weight           decoder/blocks/attention_norm/scale  same
    layers.{}.self_attn.q_proj.weight          decoder/blocks/query/kernel          linear
    layers.{}.self_attn.q_proj.bias            decoder/blocks/query/bias            same
    layers.{}.self_attn.k_proj.weight          decoder/blocks/key/kernel            linear
    layers.{}.self_attn.k_proj.bias            decoder/blocks/key/bias              same
    layers.{}.self_attn.v_proj.weight          decoder/blocks/value/kernel          linear
    layers.{}.self_attn.v_proj.bias            decoder/blocks/value/bias            same
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


QWEN_HEAD = Head("lm_head.weight", "transformer.wte.weight")
QWEN2_HEAD = Head("lm_head.weight", "model.embed_tokens.weight")
QWEN2_AUDIO_HEADS = (
    Head("language_model.lm_head.weight", "language_model.model.embed_tokens.weight"),
    Head("lm_head.weight", "model.language_model.embed_tokens.weight"),
)
"""In published files, and in the names of transformers 5's modules."""


def qwen_decoder(head: str = QWEN_HEAD.name) -> tuple[Row, ...]:
    """Qwen-7B: fused query, key and value; `w2` is the gate."""
    return (*_rows(_QWEN_DECODER, "transformer."), Row(head, "decoder/head", "linear"))


def qwen2_decoder(prefix: str, head: str) -> tuple[Row, ...]:
    """Qwen2 and Qwen2.5."""
    return (*_rows(_QWEN2_DECODER, prefix), Row(head, "decoder/head", "linear"))


def qwen_audio(head: str = QWEN_HEAD.name) -> tuple[Row, ...]:
    """Qwen-Audio and Qwen-Audio-Chat, 749 tensors at real size."""
    audio = "transformer.audio."
    return (
        *openai_encoder(audio),
        Row(f"{audio}proj.weight", "projector/kernel", "linear"),
        Row(f"{audio}proj.bias", "projector/bias", "same"),
        Row(f"{audio}audio_bos_eos_token.weight", "delimiters", "same"),
        *qwen_decoder(head),
    )


def qwen2_audio(*, in_memory: bool = False, head: str = "") -> tuple[Row, ...]:
    """Qwen2-Audio, 876 tensors at real size.

    Args:
        in_memory: the names of transformers 5's modules rather than those of published files.
        head: the tensor that is the head, if not its own.
    """
    outer = "model." if in_memory else ""
    projector = f"{outer}multi_modal_projector.linear"
    decoder = "model.language_model." if in_memory else "language_model.model."
    return (
        *transformers_encoder(f"{outer}audio_tower."),
        Row(f"{projector}.weight", "projector/kernel", "linear"),
        Row(f"{projector}.bias", "projector/bias", "same"),
        *qwen2_decoder(decoder, head or QWEN2_AUDIO_HEADS[in_memory].name),
    )
