"""What lies in a PyTorch folder: which model, which tensors, and whether they agree."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open

from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import EncoderConfig

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor on disk: its file, first byte, shape, and dtype as safetensors calls it."""

    file: pathlib.Path
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A recognised folder.

    Attributes:
        folder: where it lies.
        title: what it is, in words.
        parts: its configuration.
        rows: how its tensors become parameters.
        tensors: by name; exactly those that the rows ask for.
    """

    folder: pathlib.Path
    title: str
    parts: Parts
    rows: tuple[names.Row, ...]
    tensors: Mapping[str, Stored]


def open_source(folder: pathlib.Path) -> Source:
    """Recognises a folder and compares its configuration with its tensors.

    Raises:
        ConversionError: no model that this project knows, a broken file, or tensors that are
            missing, unexpected, misshapen or of another dtype; all of them are named.
    """
    tensors = _find_tensors(folder)
    title, parts, rows, ignored = _recognise(folder, tensors)
    tensors = {name: stored for name, stored in tensors.items() if not re.search(ignored, name)}
    _compare(folder, title, tensor_shapes(rows, parameter_shapes(parts)), tensors)
    return Source(folder, title, parts, rows, tensors)


def _find_tensors(folder: pathlib.Path) -> dict[str, Stored]:
    """All tensors of a folder's safetensors files; only their headers are read."""
    if not folder.is_dir():
        raise ConversionError(f"{folder}: is not a folder")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(index).get("weight_map", {})
        files = sorted({folder / str(file) for file in weight_map.values()})
        if absent := [file.name for file in files if not file.is_file()]:
            raise ConversionError(f"{index}: names {', '.join(absent)}, which the folder lacks")
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        _refuse(folder)
    tensors: dict[str, Stored] = {}
    for file in files:
        try:
            here = _read_header(file)
        except SafetensorError as error:
            raise ConversionError(
                f"{file}: is not a whole safetensors file ({error}); fetch it again"
            ) from error
        for name in here.keys() & tensors.keys():
            raise ConversionError(f"{file}: has {name}, as has {tensors[name].file.name}")
        tensors |= here
    return tensors


def _read_header(file: pathlib.Path) -> dict[str, Stored]:
    """The tensors of a file. The library checks it; where they begin, it does not tell."""
    with safe_open(file, "numpy"):
        pass
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    return {
        name: Stored(
            file, 8 + size + entry["data_offsets"][0], tuple(entry["shape"]), entry["dtype"]
        )
        for name, entry in header.items()
    }


def _refuse(folder: pathlib.Path) -> None:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ConversionError(
            f"{folder}: its weights are pickled ({pickles[0]}), and opening a pickle runs whatever "
            "code is in it. If you trust it, load it once with PyTorch and write the tensors with "
            "safetensors.torch.save_file (transformers: model.save_pretrained(folder))"
        )
    raise ConversionError(f"{folder}: holds no *.safetensors file")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object from a file; anything else is told in a sentence."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ConversionError(f"{path}: is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConversionError(f"{path}: must hold a JSON object")
    return values


Recognised = tuple[str, Parts, tuple[names.Row, ...], str]
"""Title, configuration, rows, and a pattern of tensors to leave alone."""

_NONE = r"(?!)"
_BUFFERS = r"(rotary_emb\.inv_freq|\.masked_bias|\.attn\.bias|logn_tensor)$"


def _recognise(folder: pathlib.Path, tensors: Mapping[str, Stored]) -> Recognised:
    path = folder / "config.json"
    if not path.is_file():
        if any("blocks.0.attn.query.weight" in name for name in tensors):
            return _openai_whisper(None, tensors)
        raise ConversionError(f"{path}: is missing, so nothing tells what model this is")
    fields = configs.Fields(read_json(path), str(path))
    kind = fields.get("model_type", "")
    if "n_audio_state" in fields.values:
        return _openai_whisper(fields, tensors)
    if kind == "qwen2_audio":
        return _qwen2_audio(fields, tensors)
    if kind == "qwen" and "audio" in fields.values:
        return _qwen_audio(fields)
    if kind == "qwen":
        parts = Parts(decoder=configs.qwen_decoder(fields))
        return "Qwen decoder", parts, names.qwen_decoder(), _BUFFERS
    if kind == "qwen2":
        return _qwen2(fields, tensors)
    if kind == "whisper":
        return _transformers_whisper(fields, tensors)
    raise ConversionError(
        f"{path}: model_type is {kind!r}; known are qwen2_audio, qwen (Qwen-Audio, Qwen-7B), "
        "qwen2 (Qwen2, Qwen2.5) and whisper"
    )


def _qwen2_audio(fields: configs.Fields, tensors: Mapping[str, Stored]) -> Recognised:
    text = configs.Fields(fields.get("text_config", {}), f"{fields.where}, text_config")
    audio = configs.Fields(fields.get("audio_config", {}), f"{fields.where}, audio_config")
    parts = Parts(
        "qwen2_audio",
        configs.transformers_encoder(audio),
        configs.qwen2_decoder(text),
        audio_token=fields.integer("audio_token_index", 151646),
    )
    in_memory = any(name.startswith("model.audio_tower.") for name in tensors)
    return "Qwen2-Audio", parts, names.qwen2_audio(in_memory=in_memory), _BUFFERS


def _qwen_audio(fields: configs.Fields) -> Recognised:
    audio = fields.group("audio")
    begin = audio.integer("audio_start_id")
    encoder, decoder = configs.qwen_audio_encoder(audio), configs.qwen_decoder(fields)
    audio.must_be("output_dim", decoder.width, default=decoder.width)
    parts = Parts("qwen_audio", encoder, decoder, begin, begin + 1)
    return "Qwen-Audio", parts, names.qwen_audio(), _BUFFERS


def _qwen2(fields: configs.Fields, tensors: Mapping[str, Stored]) -> Recognised:
    tied = fields.get("tie_word_embeddings", False) and "lm_head.weight" not in tensors
    head = "model.embed_tokens.weight" if tied else "lm_head.weight"
    parts = Parts(decoder=configs.qwen2_decoder(fields))
    return "Qwen2 decoder", parts, names.qwen2_decoder("model.", head), _BUFFERS


def _transformers_whisper(fields: configs.Fields, tensors: Mapping[str, Stored]) -> Recognised:
    prefix = _prefix(tensors, "conv1.weight")
    rows = names.transformers_encoder(prefix)
    if f"{prefix}positional_embedding" in tensors:
        rows = names.openai_encoder(prefix)
    parts = Parts(encoder=configs.transformers_encoder(fields))
    return "Whisper encoder", parts, rows, r"^(model\.)?decoder\.|^proj_out\."


def _openai_whisper(fields: configs.Fields | None, tensors: Mapping[str, Stored]) -> Recognised:
    prefix = _prefix(tensors, "conv1.weight")
    if fields is None:
        # openai/whisper keeps its dimensions inside the pickle; all its sizes have heads of 64.
        width, mel_bins = tensors[f"{prefix}conv1.weight"].shape[:2]
        layers = sum(
            name.startswith(f"{prefix}blocks.") and name.endswith(".attn.key.weight")
            for name in tensors
        )
        encoder = EncoderConfig(mel_bins, layers, width, width // 64)
    else:
        encoder = configs.openai_encoder(fields)
    rows = names.openai_encoder(prefix)
    return "Whisper encoder", Parts(encoder=encoder), rows, r"^decoder\."


def _prefix(tensors: Mapping[str, Stored], end: str) -> str:
    found = [name for name in tensors if name.endswith(end)]
    return found[0].removesuffix(end) if found else "encoder."


def _compare(
    folder: pathlib.Path,
    title: str,
    expected: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Stored],
) -> None:
    faults = [f"missing: {name} {list(expected[name])}" for name in expected if name not in tensors]
    faults += [f"unexpected: {name}" for name in tensors if name not in expected]
    for name in expected:
        stored = tensors.get(name)
        if stored and stored.shape != tuple(expected[name]):
            faults.append(
                f"misshapen: {name} is {list(stored.shape)}, and by config.json it should be "
                f"{list(expected[name])}"
            )
        elif stored and stored.dtype not in DTYPES:
            faults.append(
                f"wrong dtype: {name} is {stored.dtype}; only {', '.join(DTYPES)} are read"
            )
    if faults:
        raise ConversionError(
            f"{folder}: its tensors are not those of a {title} model with its config.json:\n  "
            + "\n  ".join(faults)
        )
