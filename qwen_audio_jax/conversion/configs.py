"""The originals' config.json, read into ours and written from ours.

Defaults are those of the originals' own configuration classes: published files leave them out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qwen_audio_jax.audio.silence import CLIP, WINDOW, silence_frames
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.fields import NEEDED, Fields, shown
from qwen_audio_jax.models.presets import (
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    decoder_type,
    why_not_qwen_audio,
)

_WINDOW = "qwen_audio_jax_window"
"""A key of our own, in exports whose encoder sees silence; the originals' code passes over it."""

_MOST_LAYERS = 1000
"""Each layer's tensors are looked for by name."""

_ENCODER_NAMES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
}
_AUDIO_NAMES = {"intermediate_size": "encoder_ffn_dim"}
_WHISPER_NAMES = {"num_key_value_heads": "encoder_attention_heads"}
"""Other names of an encoder's keys, as `attribute_map` has them in transformers."""


def transformers_encoder(fields: Fields) -> EncoderConfig:
    """The encoder of a transformers config: Whisper's, or `audio_config` of Qwen2-Audio."""
    whisper = fields.values.get("model_type") == "whisper"
    fields = fields.under_one_name(_ENCODER_NAMES | (_WHISPER_NAMES if whisper else _AUDIO_NAMES))
    width = fields.integer("d_model", NEEDED if whisper else 1280)
    fields.must_be("activation_function", "gelu", default="gelu")
    fields.must_be("encoder_ffn_dim", 4 * width, default=4 * width if whisper else 5120)
    return EncoderConfig(
        mel_bins=fields.integer("num_mel_bins", 80 if whisper else 128),
        layers=fields.integer("encoder_layers", NEEDED if whisper else 32, most=_MOST_LAYERS),
        width=width,
        heads=_heads(fields, "encoder_attention_heads", width, NEEDED if whisper else 20),
        max_positions=fields.integer("max_source_positions", 1500),
        window=WINDOW if whisper else _window(fields),
    )


DECODERS = {
    "qwen2": dict(vocab_size=151936, intermediate_size=22016),
    "qwen3": dict(vocab_size=151936, intermediate_size=22016, head_dim=128),
    "llama": dict(vocab_size=32000, intermediate_size=11008),
}
"""By `model_type`, the decoders that transformers names alike, and where their defaults differ."""


def transformers_decoder(fields: Fields) -> DecoderConfig:
    """Qwen2, Qwen2.5, Qwen3 or Llama, or `text_config` of Qwen2-Audio.

    Whether the head is tied the tensors have a say in, so it is left open.
    """
    kind = fields.get("model_type", "qwen2")
    if kind not in [*DECODERS]:
        raise ConversionError(
            f"{fields.where}: model_type is {shown(kind)}; known decoders are {', '.join(DECODERS)}"
        )
    defaults = DECODERS[kind]
    fields.must_be("hidden_act", "silu", default="silu")
    fields.must_be("use_sliding_window", False, default=False)
    fields.must_be("per_layer_config", None, default=None)
    for bias in ("attention_bias", "mlp_bias"):
        if kind != "qwen2":  # which has no such keys
            fields.must_be(bias, False, default=False)
    width = fields.integer("hidden_size", 4096)
    heads = fields.integer("num_attention_heads", 32)
    if fields.get("head_dim", defaults.get("head_dim")) is None:
        _heads(fields, "num_attention_heads", width, 32)
    kv_heads = fields.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ConversionError(
            f"{fields.where}: num_key_value_heads {kv_heads} does not divide {heads} heads"
        )
    layers = fields.integer("num_hidden_layers", 32, most=_MOST_LAYERS)
    _check_layer_types(fields, layers)
    head_dim = fields.integer("head_dim", defaults.get("head_dim", width // heads))
    return DecoderConfig(
        vocab_size=fields.integer("vocab_size", defaults["vocab_size"]),
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_even(fields, head_dim),
        mlp_width=fields.integer("intermediate_size", defaults["intermediate_size"]),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        **_rope(fields),
    )


def _rope(fields: Fields) -> dict[str, Any]:
    """The rotary fields of a DecoderConfig, from where transformers 5 takes them.

    `rope_scaling`, the older name, goes before `rope_parameters`, and the base inside either before
    `rope_theta` beside it. Null is no base there, but for transformers not "as by default" either.
    """
    older, newer = (fields.group(key, {}) for key in ("rope_scaling", "rope_parameters"))
    rope = older if older.values else newer
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind not in ["default", "llama3"]:
        raise ConversionError(
            f"{rope.where}: rotary scaling {shown(kind)} is not supported; only 'llama3' is"
        )
    for key, value in rope.values.items():
        if isinstance(value, Mapping):
            raise ConversionError(f"{rope.where}: {key!r}, rotary scaling by layer, not supported")
    for level in (rope, fields):
        level.must_be("partial_rotary_factor", 1.0, default=1.0)
    themselves = [level for level in (rope, fields) if "rope_theta" in level.values]
    base = themselves[0].number("rope_theta") if themselves else 10000.0
    return dict(rope_base=base, **(_llama3(rope, fields) if kind == "llama3" else {}))


def _llama3(rope: Fields, fields: Fields) -> dict[str, Any]:
    """How Llama 3.1 and later slow their rotary frequencies."""
    key = "original_max_position_embeddings"
    length = (rope if key in rope.values else fields).integer(
        key if key in rope.values or key in fields.values else "max_position_embeddings"
    )
    fields.must_be(key, length, default=length)
    scaling = dict(
        rope_factor=rope.number("factor"),
        rope_low=rope.number("low_freq_factor"),
        rope_high=rope.number("high_freq_factor"),
        rope_length=length,
    )
    if scaling["rope_factor"] < 1 or scaling["rope_high"] <= scaling["rope_low"]:
        raise ConversionError(
            f"{rope.where}: factor must be 1 at least, and high_freq_factor above low_freq_factor, "
            f"not {scaling['rope_factor']}, {scaling['rope_high']} and {scaling['rope_low']}"
        )
    return scaling


def _check_layer_types(fields: Fields, layers: int) -> None:
    kinds = fields.get("layer_types", None)
    if kinds is not None and kinds != ["full_attention"] * layers:
        raise ConversionError(
            f"{fields.where}: layer_types is {shown(kinds)}; only {layers} times 'full_attention', "
            "one for each layer, is supported"
        )


def is_tied(levels: Sequence[Fields]) -> bool:
    """Whether a folder says that the word embedding is the head, and has no other.

    Args:
        levels: where `tie_word_embeddings` may stand.

    Raises:
        ConversionError: one says so and another not.
    """
    said = {
        level.where: tied
        for level in levels
        if (tied := level.flag("tie_word_embeddings")) is not None
    }
    if len(set(said.values())) > 1:
        places = " and ".join(f"{str(tied).lower()} in {where}" for where, tied in said.items())
        raise ConversionError(
            f"tie_word_embeddings is {places}, and no tensor is the head; say true in both if the "
            "word embedding is"
        )
    return True in said.values()


def qwen_decoder(fields: Fields) -> DecoderConfig:
    """Qwen-7B and the decoder of Qwen-Audio; its MLP is half as wide as the config says."""
    width = fields.integer("hidden_size", 4096)
    heads = _heads(fields, "num_attention_heads", width, 32)
    fields.must_be("kv_channels", width // heads, default=128)
    fields.must_be("rotary_pct", 1.0, default=1.0)
    fields.must_be("no_bias", True, default=True)
    mlp_width, odd = divmod(fields.integer("intermediate_size", 22016), 2)
    if odd:
        raise ConversionError(f"{fields.where}: intermediate_size is odd, and the MLP half as wide")
    return DecoderConfig(
        vocab_size=fields.integer("vocab_size", 151936),
        layers=fields.integer("num_hidden_layers", 32, most=_MOST_LAYERS),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=_even(fields, width // heads),
        mlp_width=mlp_width,
        norm_eps=fields.number("layer_norm_epsilon", 1e-6),
        rope_base=fields.number("rotary_emb_base", 10000),
        log_n=fields.flag("use_logn_attn", True),
        dynamic_ntk=fields.flag("use_dynamic_ntk", True),
        trained_length=fields.integer("seq_length"),
    )


def qwen_audio_encoder(fields: Fields) -> EncoderConfig:
    """`audio` of a Qwen-Audio config."""
    fields.must_be("avg_pool", True, default=True)
    fields.must_be("add_audio_bos_eos_token", True, default=True)
    width = fields.integer("n_state")
    return EncoderConfig(
        mel_bins=fields.integer("n_mels"),
        layers=fields.integer("n_layer", most=_MOST_LAYERS),
        width=width,
        heads=_heads(fields, "n_head", width, NEEDED),
        max_positions=fields.integer("n_ctx"),
        window=_window(fields),
    )


def openai_encoder(fields: Fields) -> EncoderConfig:
    """The dimensions that openai/whisper keeps beside its weights."""
    width = fields.integer("n_audio_state")
    return EncoderConfig(
        mel_bins=fields.integer("n_mels"),
        layers=fields.integer("n_audio_layer", most=_MOST_LAYERS),
        width=width,
        heads=_heads(fields, "n_audio_head", width, NEEDED),
        max_positions=fields.integer("n_audio_ctx"),
        window=WINDOW,
    )


def _window(fields: Fields) -> str:
    """How much silence an encoder sees: the originals none, our exports what they say."""
    window = fields.get(_WINDOW, CLIP)
    try:
        silence_frames(window)
    except (ValueError, TypeError) as error:
        raise ConversionError(f"{fields.where}: {_WINDOW} is {shown(window)}; {error}") from error
    return window


def _heads(fields: Fields, key: str, width: int, default: Any) -> int:
    heads = fields.integer(key, default)
    if width % heads:
        raise ConversionError(f"{fields.where}: a width of {width} is not divided by {heads} heads")
    return heads


def _even(fields: Fields, head_dim: int) -> int:
    if head_dim % 2:
        raise ConversionError(
            f"{fields.where}: heads of {head_dim} cannot be rotated, since that takes pairs"
        )
    return head_dim


def write_qwen_audio(model: ModelConfig, dtype: str, max_positions: int) -> dict[str, Any]:
    """config.json of Qwen-Audio.

    Raises:
        ConversionError: Qwen-Audio's own code has no place for such a model.
    """
    encoder, decoder = model.encoder, model.decoder
    if reason := why_not_qwen_audio(decoder):
        raise ConversionError(reason)
    if model.audio_end != model.audio_begin + 1:
        raise ConversionError(
            "Qwen-Audio looks for the end of a clip one id after its begin, and this vocabulary "
            f"has them at {model.audio_begin} and {model.audio_end}"
        )
    return {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "attn_dropout_prob": 0.0,
        "emb_dropout_prob": 0.0,
        "bf16": dtype == "bfloat16",
        "fp16": False,
        "fp32": dtype == "float32",
        "hidden_size": decoder.width,
        "initializer_range": 0.02,
        "intermediate_size": 2 * decoder.mlp_width,
        "kv_channels": decoder.head_dim,
        "layer_norm_epsilon": decoder.norm_eps,
        "max_position_embeddings": max_positions,
        "no_bias": True,
        "num_attention_heads": decoder.heads,
        "num_hidden_layers": decoder.layers,
        "rotary_emb_base": decoder.rope_base,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": decoder.trained_length,
        "tie_word_embeddings": decoder.tied,
        "tokenizer_type": "QWenTokenizer",
        "torch_dtype": dtype,
        "use_cache": True,
        "use_dynamic_ntk": decoder.dynamic_ntk,
        "use_flash_attn": False,
        "use_logn_attn": decoder.log_n,
        "vocab_size": decoder.vocab_size,
        "audio": {
            "add_audio_bos_eos_token": True,
            "audio_start_id": model.audio_begin,
            "avg_pool": True,
            "n_ctx": encoder.max_positions,
            "n_head": encoder.heads,
            "n_layer": encoder.layers,
            "n_mels": encoder.mel_bins,
            "n_state": encoder.width,
            "output_dim": decoder.width,
            **_told(encoder),
        },
    }


def _told(encoder: EncoderConfig) -> dict[str, str]:
    return {} if encoder.window == CLIP else {_WINDOW: encoder.window}


def write_qwen2_audio(model: ModelConfig, dtype: str, audio_token: int, ends: dict) -> dict:
    """config.json of Qwen2-Audio.

    Args:
        model: the model.
        dtype: of the tensors.
        audio_token: id of the placeholder.
        ends: `eos_token_id` and `bos_token_id` of the text model.
    """
    encoder, decoder = model.encoder, model.decoder
    if decoder.log_n or decoder.dynamic_ntk:
        raise ConversionError(
            "Qwen2-Audio knows neither log-n attention nor dynamic NTK, which this decoder has; "
            "it is of the qwen_audio family"
        )
    return {
        "architectures": ["Qwen2AudioForConditionalGeneration"],
        "model_type": "qwen2_audio",
        "audio_token_index": audio_token,
        "ignore_index": -100,
        "torch_dtype": dtype,
        "audio_config": {
            "model_type": "qwen2_audio_encoder",
            "activation_function": "gelu",
            "d_model": encoder.width,
            "encoder_attention_heads": encoder.heads,
            "encoder_ffn_dim": 4 * encoder.width,
            "encoder_layers": encoder.layers,
            "max_source_positions": encoder.max_positions,
            "num_mel_bins": encoder.mel_bins,
            "scale_embedding": False,
            **_told(encoder),
        },
        "text_config": _write_decoder(decoder) | {"torch_dtype": dtype, **ends},
    }


def _write_decoder(decoder: DecoderConfig) -> dict[str, Any]:
    """The configuration that `transformers_decoder` reads."""
    own = {
        "qwen2": {"use_sliding_window": False},
        "qwen3": {"use_sliding_window": False, "attention_bias": False},
        "llama": {"attention_bias": False, "mlp_bias": False},
    }
    kind, positions, scaling = decoder_type(decoder), 8192, {}
    if decoder.rope_factor != 1:
        positions = int(decoder.rope_factor * decoder.rope_length)
        scaling["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": decoder.rope_factor,
            "low_freq_factor": decoder.rope_low,
            "high_freq_factor": decoder.rope_high,
            "original_max_position_embeddings": decoder.rope_length,
        }
    return {
        "model_type": kind,
        "head_dim": decoder.head_dim,
        "hidden_act": "silu",
        "hidden_size": decoder.width,
        "intermediate_size": decoder.mlp_width,
        "max_position_embeddings": positions,
        "num_attention_heads": decoder.heads,
        "num_hidden_layers": decoder.layers,
        "num_key_value_heads": decoder.kv_heads,
        "rms_norm_eps": decoder.norm_eps,
        "rope_theta": decoder.rope_base,
        **scaling,
        "tie_word_embeddings": decoder.tied,
        "vocab_size": decoder.vocab_size,
        **own[kind],
    }
