"""model.json: what the parameters beside it are, be they a whole model or a part of one."""

import dataclasses
import json
import pathlib
import re
from typing import Any

from qwen_audio_jax.audio.silence import silence_frames
from qwen_audio_jax.models.presets import (
    FAMILIES,
    Adapter,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    model_config,
)

MODEL_FILE = "model.json"
COMPANIONS = "companions"
"""Folder of an original's small files, for an export to put back."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model, or the encoder or decoder that a new one starts from.

    Attributes:
        family: "qwen_audio" or "qwen2_audio"; "" of a part that either can have.
        encoder, decoder: None where there is none.
        audio_begin, audio_end: ids of the tokens around a clip; -1 where nothing tells.
        audio_token: id of the placeholder of one audio token; likewise.
        adapters: of its linears, whose `lora_a` and `lora_b` lie beside their kernels.
    """

    family: str = ""
    encoder: EncoderConfig | None = None
    decoder: DecoderConfig | None = None
    audio_begin: int = -1
    audio_end: int = -1
    audio_token: int = -1
    adapters: tuple[Adapter, ...] = ()

    @property
    def whole(self) -> bool:
        return bool(self.family and self.encoder and self.decoder)

    def model(self) -> ModelConfig:
        """The configuration of a whole model, computed as `Compute` has it by default."""
        if not self.whole:
            raise ValueError("only a part of a model")
        return model_config(
            self.family,
            self.encoder,
            self.decoder,
            audio_begin=self.audio_begin,
            audio_end=self.audio_end,
            adapters=self.adapters,
        )


def parts_of(model: ModelConfig, audio_token: int) -> Parts:
    """All of a model."""
    return Parts(
        model.family,
        model.encoder,
        model.decoder,
        model.audio_begin,
        model.audio_end,
        audio_token,
        model.adapters,
    )


def write_parts(folder: pathlib.Path, parts: Parts) -> None:
    """Writes model.json, whole or not at all."""
    path = folder / MODEL_FILE
    part = path.with_suffix(".part")
    part.write_text(json.dumps(dataclasses.asdict(parts), indent=2) + "\n")
    part.replace(path)


def read_parts(folder: pathlib.Path) -> Parts:
    """Reads model.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one of ours.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: is missing, so {folder} is neither a run folder nor what convert import wrote"
        )
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("it must hold a JSON object")
        encoder, decoder = values.pop("encoder"), values.pop("decoder")
        parts = _typed(
            Parts,
            values
            | {
                "encoder": encoder and _typed(EncoderConfig, encoder),
                "decoder": decoder and _typed(DecoderConfig, decoder),
                "adapters": tuple(_typed(Adapter, one) for one in values.get("adapters", ())),
            },
        )
        if parts.encoder:
            silence_frames(parts.encoder.window)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: is not a model description ({error})") from error
    if parts.family not in ("", *FAMILIES):
        raise ValueError(f"{path}: family {parts.family!r} is none of {', '.join(FAMILIES)}")
    if (encoder := parts.encoder) and encoder.width % encoder.heads:
        raise ValueError(f"{path}: {encoder.heads} heads do not divide a width of {encoder.width}")
    if (decoder := parts.decoder) and (decoder.heads % decoder.kv_heads or decoder.head_dim % 2):
        raise ValueError(
            f"{path}: the decoder's kv_heads must divide its heads, and head_dim must be even"
        )
    paths = [adapter.path for adapter in parts.adapters]
    for adapter in paths:
        if paths.count(adapter) > 1 or not _LINEAR.fullmatch(adapter):
            raise ValueError(
                f"{path}: adapters: {adapter!r} is there twice, or no linear layer of the model"
            )
    if decoder and decoder.rope_high <= decoder.rope_low:
        raise ValueError(f"{path}: the decoder's rope_high must be above its rope_low")
    if decoder and decoder.qkv_bias and decoder.qk_norm:
        raise ValueError(f"{path}: no decoder has both biases (qkv_bias) and norms (qk_norm)")
    return parts


_LINEAR = re.compile(
    "encoder/blocks/(query|key|value|out|up|down)|projector|"
    "decoder/blocks/(query|key|value|out|gate|up|down)"
)
"""Paths of the layers that can have an adapter."""

_LARGEST = 1 << 24
"""No size is larger; what says so would only be found out by running out of memory."""


def _typed(kind: type, values: dict[str, Any]) -> Any:
    """A dataclass of values whose types and ranges are those of its fields."""
    made = kind(**values)
    for field in dataclasses.fields(kind):
        value = getattr(made, field.name)
        if field.type is int:
            least = -1 if kind is Parts else 0 if field.default == 0 else 1
            right = type(value) is int and least <= value <= _LARGEST
        elif field.type is float:
            right = type(value) in (int, float) and 0 <= value < 1e38
            right = right and (value > 0 or field.default == 0)
        elif field.type in (bool, str):
            right = type(value) is field.type
        else:
            right = value is None or isinstance(value, tuple) or dataclasses.is_dataclass(value)
        if not right:
            raise ValueError(f"{field.name} is {str(value)[:60]!r}")
    return made


def path_name(path: tuple[Any, ...]) -> str:
    """A parameter's path in a pytree as `a/b/c`, for the regular expressions of all tables."""
    return "/".join(str(getattr(key, "key", "")) for key in path if hasattr(key, "key"))
