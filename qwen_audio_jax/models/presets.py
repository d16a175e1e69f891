"""Model configurations: frozen dataclasses, and the named sizes.

The 7-billion sizes are the originals' (Qwen-Audio config.json; Qwen2-Audio config.json).
"""

import dataclasses

FAMILIES = ("qwen_audio", "qwen2_audio")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Whisper-type audio encoder.

    Attributes:
        mel_bins: M, log-mel bins.
        layers: number of blocks.
        width: model width.
        heads: attention heads; the MLP is four times as wide as the model.
        max_positions: positions of one clip (1500 are 30 s).
        window: how much of the silence behind a clip it sees, and was trained to see: "clip",
            "window" or such as "clip+1s"; see `audio/silence.py`.
    """

    mel_bins: int
    layers: int
    width: int
    heads: int
    max_positions: int = 1500
    window: str = "clip"


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Language model of the Qwen or Llama type.

    Attributes:
        vocab_size: V.
        layers: number of blocks.
        width: D.
        heads: H, query heads.
        kv_heads: key and value heads; divides `heads`.
        head_dim: K.
        mlp_width: width of the gated MLP.
        norm_eps: epsilon of RMSNorm.
        rope_base: base of the rotary frequencies.
        log_n: scale queries past `trained_length` by log(position) in evaluation (Qwen-Audio).
        dynamic_ntk: raise the rotary base for rows longer than that in evaluation (Qwen-Audio).
        trained_length: positions seen in training, the `seq_length` of Qwen-Audio.
        qkv_bias: whether query, key and value have a bias (Qwen, Qwen2; not Llama, Qwen3).
        qk_norm: whether each query and key head is normalised before it is rotated (Qwen3).
        tied: whether the word embedding is the output head too, one array.
        rope_factor: how much slower the slowest rotary frequencies turn than `rope_base` has them
            (Llama 3.1 and later); 1 where all are as they are.
        rope_low, rope_high: turns within `rope_length` positions up to which a frequency is slowed
            by the whole factor, and from which on by nothing.
        rope_length: positions that the model was trained with before it was slowed.
        first_new_token: of the ids that were added to the vocabulary of a language model when it
            was imported, the first; from there on its rows were never trained. 0 where none were.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    log_n: bool = False
    dynamic_ntk: bool = False
    trained_length: int = 2048
    first_new_token: int = 0
    qkv_bias: bool = True
    qk_norm: bool = False
    tied: bool = False
    rope_factor: float = 1.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_length: int = 8192


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A low-rank change of a linear layer (LoRA): y = x kernel + scale * (x lora_a) lora_b.

    Attributes:
        path: of the linear, such as "decoder/blocks/query"; `lora_a` [in, rank] and `lora_b`
            [rank, out] lie beside its kernel, with a leading layer axis where that has one.
        rank: columns of `lora_a`, rows of `lora_b`.
        scale: what their product is multiplied by.
        dropout: in training, the share of what enters `lora_a` that is set to 0.
    """

    path: str
    rank: int
    scale: float
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a model is computed, which changes no more than the last digits of what comes out.

    Attributes:
        dtype: of activations; parameters are float32.
        attention: one of `attention.BACKENDS`.
        remat: one of `layers.REMAT`: what is kept for the backward pass.
    """

    dtype: str = "float32"
    attention: str = "xla"
    remat: str = "none"


COMPUTE = {
    "cpu": Compute("float32", "xla"),
    "gpu": Compute("bfloat16", "cudnn"),
    "tpu": Compute("bfloat16", "splash"),
}
"""How a model is computed by default on each of JAX's platforms."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One audio-language model. What differs between the families is fields here.

    Attributes:
        family: "qwen_audio" or "qwen2_audio".
        encoder: the audio tower.
        decoder: the language model.
        frame_rounding: how many mel frames S samples make, "floor" or "ceil" of S / 160.
        delimiter_embeddings: whether two learned vectors replace the word embeddings of the tokens
            around a clip (Qwen-Audio).
        audio_begin, audio_end: ids of those tokens.
        compute: how it is computed.
        adapters: of its linears; none by default.
    """

    family: str
    encoder: EncoderConfig
    decoder: DecoderConfig
    frame_rounding: str
    delimiter_embeddings: bool
    audio_begin: int
    audio_end: int
    compute: Compute = Compute()
    adapters: tuple[Adapter, ...] = ()


_SIZES = {
    "tiny": (
        dict(layers=3, width=128, heads=2),
        dict(layers=2, width=128, heads=2, kv_heads=1, head_dim=64, mlp_width=256),
    ),
    "small": (
        dict(layers=6, width=320, heads=5),
        dict(layers=6, width=320, heads=5, kv_heads=5, head_dim=64, mlp_width=896),
    ),
    "7b": (
        dict(layers=32, width=1280, heads=20),
        dict(layers=32, width=4096, heads=32, kv_heads=32, head_dim=128, mlp_width=11008),
    ),
}
_SIZE_OF_PRESET = {
    "tiny": "tiny",
    "small": "small",
    "qwen_audio_7b": "7b",
    "qwen2_audio_7b": "7b",
}
PRESETS = tuple(_SIZE_OF_PRESET)

FAMILY_FIELDS = {
    "qwen_audio": dict(frame_rounding="floor", delimiter_embeddings=True),
    "qwen2_audio": dict(frame_rounding="ceil", delimiter_embeddings=False),
}
MEL_BINS = {"qwen_audio": 80, "qwen2_audio": 128}
VOCABULARIES = {"qwen_audio": 155947, "qwen2_audio": 156032}
"""Rows of the released models' embeddings."""
QWEN_AUDIO_FIRST_NEW = 151851
"""Where Qwen-Audio's audio placeholder and tags begin, behind the ranks, ChatML and extras that
Qwen-7B was trained with."""


def preset_parts(preset: str, family: str, vocab_size: int) -> tuple[EncoderConfig, DecoderConfig]:
    """Encoder and decoder of a preset in a family, for a vocabulary.

    Raises:
        ValueError: unknown preset or family; the sentence lists the known ones.
    """
    if preset not in _SIZE_OF_PRESET:
        raise ValueError(f"config.model.preset: {preset!r} is none of {', '.join(PRESETS)}")
    if family not in FAMILIES:
        raise ValueError(f"config.model.family: {family!r} is none of {', '.join(FAMILIES)}")
    encoder, decoder = _SIZES[_SIZE_OF_PRESET[preset]]
    if family == "qwen_audio":  # has no grouped heads, and evaluates beyond its trained length
        decoder = decoder | dict(kv_heads=decoder["heads"], log_n=True, dynamic_ntk=True)
    if preset == "qwen_audio_7b" and vocab_size == VOCABULARIES[family]:
        decoder = decoder | dict(first_new_token=QWEN_AUDIO_FIRST_NEW)
    return (
        EncoderConfig(mel_bins=MEL_BINS[family], **encoder),
        DecoderConfig(vocab_size=vocab_size, **decoder),
    )


def decoder_type(decoder: DecoderConfig) -> str:
    """The `model_type` of a decoder in transformers."""
    return "qwen2" if decoder.qkv_bias else "qwen3" if decoder.qk_norm else "llama"


def why_not_qwen_audio(decoder: DecoderConfig) -> str:
    """What a decoder has that Qwen-Audio's own code has no place for, a sentence; or ""."""
    if decoder.kv_heads != decoder.heads or decoder.heads * decoder.head_dim != decoder.width:
        return (
            f"Qwen-Audio knows neither grouped key and value heads ({decoder.kv_heads} of "
            f"{decoder.heads}) nor heads that do not add up to the width ({decoder.width})"
        )
    if decoder_type(decoder) != "qwen2" or decoder.rope_factor != 1:
        return (
            "Qwen-Audio has query, key and value biases, and neither norms of heads nor rotary "
            f"scaling; this decoder is of the {decoder_type(decoder)} type, rotary factor "
            f"{decoder.rope_factor}"
        )
    return ""


def model_config(
    family: str,
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    *,
    audio_begin: int,
    audio_end: int,
    compute: Compute = Compute(),
    adapters: tuple[Adapter, ...] = (),
) -> ModelConfig:
    """The configuration of a family with these parts."""
    return ModelConfig(
        family=family,
        encoder=encoder,
        decoder=decoder,
        audio_begin=audio_begin,
        audio_end=audio_end,
        compute=compute,
        adapters=adapters,
        **FAMILY_FIELDS[family],
    )
