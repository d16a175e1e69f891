"""The originals' config.json, read into ours and written from ours.

Defaults are those of the originals' own configuration classes: published files leave them out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig, ModelConfig

_NEEDED = object()


@dataclasses.dataclass(frozen=True)
class Fields:
    """One level of a config.json.

    Attributes:
        values: its keys.
        where: what to call it in an error.
    """

    values: Mapping[str, Any]
    where: str

    def get(self, key: str, default: Any = _NEEDED) -> Any:
        """The value of a key that is there and not null, else the default."""
        value = self.values.get(key)
        if value is not None:
            return value
        if default is _NEEDED:
            raise ConversionError(f"{self.where}: has no {key!r}, which this model needs")
        return default

    def group(self, key: str) -> "Fields":
        """A nested level."""
        value = self.get(key)
        if not isinstance(value, Mapping):
            raise ConversionError(f"{self.where}: {key!r} must be an object, not {value!r}")
        return Fields(value, f"{self.where}, {key}")

    def integer(self, key: str, default: Any = _NEEDED) -> int:
        """A positive whole number."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConversionError(
                f"{self.where}: {key!r} must be a positive whole number, not {value!r}"
            )
        return value

    def must_be(self, key: str, *allowed: Any, default: Any) -> None:
        """Refuses what this project does not build."""
        if (value := self.get(key, default)) not in allowed:
            raise ConversionError(
                f"{self.where}: {key} is {value!r}; only {allowed[0]!r} is supported"
            )


def transformers_encoder(fields: Fields) -> EncoderConfig:
    """The encoder of a transformers config: Whisper's, or `audio_config` of Qwen2-Audio."""
    whisper = fields.values.get("model_type") == "whisper"
    width = fields.integer("d_model", _NEEDED if whisper else 1280)
    fields.must_be("activation_function", "gelu", default="gelu")
    fields.must_be("encoder_ffn_dim", 4 * width, default=4 * width if whisper else 5120)
    return EncoderConfig(
        mel_bins=fields.integer("num_mel_bins", 80 if whisper else 128),
        layers=fields.integer("encoder_layers", _NEEDED if whisper else 32),
        width=width,
        heads=_heads(fields, "encoder_attention_heads", width, _NEEDED if whisper else 20),
        max_positions=fields.integer("max_source_positions", 1500),
    )


def qwen2_decoder(fields: Fields) -> DecoderConfig:
    """Qwen2 and Qwen2.5, or `text_config` of Qwen2-Audio."""
    fields.must_be("hidden_act", "silu", default="silu")
    fields.must_be("use_sliding_window", False, default=False)
    rope = fields.get("rope_parameters", None) or fields.get("rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConversionError(f"{fields.where}: rotary scaling {kind!r} is not supported")
    width = fields.integer("hidden_size", 4096)
    heads = _heads(fields, "num_attention_heads", width, 32)
    kv_heads = fields.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ConversionError(
            f"{fields.where}: num_key_value_heads {kv_heads} does not divide {heads} heads"
        )
    return DecoderConfig(
        vocab_size=fields.integer("vocab_size", 151936),
        layers=fields.integer("num_hidden_layers", 32),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=fields.integer("head_dim", width // heads),
        mlp_width=fields.integer("intermediate_size", 22016),
        norm_eps=float(fields.get("rms_norm_eps", 1e-6)),
        rope_base=float(rope.get("rope_theta", fields.get("rope_theta", 10000.0))),
    )


def qwen_decoder(fields: Fields) -> DecoderConfig:
    """Qwen-7B and the decoder of Qwen-Audio; its MLP is half as wide as the config says."""
    width = fields.integer("hidden_size", 4096)
    heads = _heads(fields, "num_attention_heads", width, 32)
    fields.must_be("kv_channels", width // heads, default=128)
    fields.must_be("rotary_pct", 1.0, default=1.0)
    fields.must_be("no_bias", True, default=True)
    fields.must_be("tie_word_embeddings", False, default=False)
    return DecoderConfig(
        vocab_size=fields.integer("vocab_size", 151936),
        layers=fields.integer("num_hidden_layers", 32),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=fields.integer("intermediate_size", 22016) // 2,
        norm_eps=float(fields.get("layer_norm_epsilon", 1e-6)),
        rope_base=float(fields.get("rotary_emb_base", 10000)),
        log_n=bool(fields.get("use_logn_attn", True)),
        dynamic_ntk=bool(fields.get("use_dynamic_ntk", True)),
        trained_length=fields.integer("seq_length"),
    )


def qwen_audio_encoder(fields: Fields) -> EncoderConfig:
    """`audio` of a Qwen-Audio config."""
    fields.must_be("avg_pool", True, default=True)
    fields.must_be("add_audio_bos_eos_token", True, default=True)
    width = fields.integer("n_state")
    return EncoderConfig(
        mel_bins=fields.integer("n_mels"),
        layers=fields.integer("n_layer"),
        width=width,
        heads=_heads(fields, "n_head", width, _NEEDED),
        max_positions=fields.integer("n_ctx"),
    )


def openai_encoder(fields: Fields) -> EncoderConfig:
    """The dimensions that openai/whisper keeps beside its weights."""
    width = fields.integer("n_audio_state")
    return EncoderConfig(
        mel_bins=fields.integer("n_mels"),
        layers=fields.integer("n_audio_layer"),
        width=width,
        heads=_heads(fields, "n_audio_head", width, _NEEDED),
        max_positions=fields.integer("n_audio_ctx"),
    )


def _heads(fields: Fields, key: str, width: int, default: Any) -> int:
    heads = fields.integer(key, default)
    if width % heads:
        raise ConversionError(f"{fields.where}: a width of {width} is not divided by {heads} heads")
    return heads


def write_qwen_audio(model: ModelConfig, dtype: str, max_positions: int) -> dict[str, Any]:
    """config.json of Qwen-Audio.

    Raises:
        ConversionError: Qwen-Audio's own code has no place for such a model.
    """
    encoder, decoder = model.encoder, model.decoder
    if decoder.kv_heads != decoder.heads or decoder.heads * decoder.head_dim != decoder.width:
        raise ConversionError(
            f"Qwen-Audio knows neither grouped key and value heads ({decoder.kv_heads} of "
            f"{decoder.heads}) nor heads that do not add up to the width ({decoder.width})"
        )
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
        "tie_word_embeddings": False,
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
        },
    }


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
        },
        "text_config": {
            "model_type": "qwen2",
            "head_dim": decoder.head_dim,
            "hidden_act": "silu",
            "hidden_size": decoder.width,
            "intermediate_size": decoder.mlp_width,
            "max_position_embeddings": 8192,
            "num_attention_heads": decoder.heads,
            "num_hidden_layers": decoder.layers,
            "num_key_value_heads": decoder.kv_heads,
            "rms_norm_eps": decoder.norm_eps,
            "rope_theta": decoder.rope_base,
            "tie_word_embeddings": False,
            "torch_dtype": dtype,
            "use_sliding_window": False,
            "vocab_size": decoder.vocab_size,
            **ends,
        },
    }
