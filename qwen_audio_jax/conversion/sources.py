"""What lies in a PyTorch folder: which model, which tensors, and whether they agree."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

from qwen_audio_jax.audio.silence import WINDOW
from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.errors import ConversionError, listed
from qwen_audio_jax.conversion.fields import Fields, shown
from qwen_audio_jax.conversion.json_files import read_json
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_names, tensor_shapes
from qwen_audio_jax.conversion.weight_files import DTYPES, Stored, find_tensors
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import EncoderConfig


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
        ConversionError: no model that this project knows, a broken file, settings that contradict
            each other, or tensors that are missing, unexpected, misshapen or of another dtype.
    """
    if not folder.is_dir():
        raise ConversionError(f"{folder}: is not a folder")
    path = folder / "config.json"
    fields = Fields(read_json(path), str(path)) if path.is_file() else None
    tensors = find_tensors(folder, fields.values if fields else {})
    if fields:
        title, parts, rows, ignored = _recognise(fields, tensors)
    elif encoder := _by_tensors(tensors):
        title, parts, rows, ignored = _openai_whisper(encoder, tensors)
    else:
        raise ConversionError(f"{path}: is missing, so nothing tells what model this is")
    tensors = {name: stored for name, stored in tensors.items() if not re.search(ignored, name)}
    _compare(folder, title, rows, parts, tensors)
    return Source(folder, title, parts, rows, tensors)


Recognised = tuple[str, Parts, tuple[names.Row, ...], str]
"""Title, configuration, rows, and a pattern of tensors to leave alone."""

_BUFFERS = r"(rotary_emb\.inv_freq|\.masked_bias|\.attn\.bias|logn_tensor)$"


def _recognise(fields: Fields, tensors: Mapping[str, Stored]) -> Recognised:
    kind = fields.get("model_type", "")
    if fields.values.get("quantization_config") is not None:
        raise ConversionError(
            f"{fields.where}: 'quantization_config' says that the weights are quantized, which are "
            "not read; save the model dequantized, or delete the key if they are not"
        )
    if "n_audio_state" in fields.values:
        return _openai_whisper(configs.openai_encoder(fields), tensors)
    if kind == "qwen2_audio":
        return _qwen2_audio(fields, tensors)
    if kind == "qwen" and "audio" in fields.values:
        return _qwen_audio(fields, tensors)
    if kind == "qwen":
        parts = Parts(decoder=configs.qwen_decoder(fields))
        return "Qwen decoder", parts, names.qwen_decoder(_qwen_head(fields, tensors)), _BUFFERS
    if kind == "qwen2":
        head = _head(names.QWEN2_HEAD, (fields,), tensors)
        parts = Parts(decoder=configs.qwen2_decoder(fields))
        return "Qwen2 decoder", parts, names.qwen2_decoder("model.", head), _BUFFERS
    if kind == "whisper":
        return _transformers_whisper(fields, tensors)
    raise ConversionError(
        f"{fields.where}: model_type is {shown(kind)}; known are qwen2_audio, qwen (Qwen-Audio, "
        "Qwen-7B), qwen2 (Qwen2, Qwen2.5) and whisper"
    )


def _head(head: names.Head, levels: Sequence[Fields], tensors: Mapping[str, Stored]) -> str:
    """The tensor that is the head: where it has one of its own, that one, tied or not.

    So does transformers 5: it ties what is equal, and takes both where they differ.
    """
    for level in levels:
        level.flag("tie_word_embeddings")
    if head.name in tensors or not configs.is_tied(levels):
        return head.name
    return head.embedding


def _qwen_head(fields: Fields, tensors: Mapping[str, Stored]) -> str:
    head = _head(names.QWEN_HEAD, (fields,), tensors)
    if head in tensors and head == names.QWEN_HEAD.name:
        # Qwen's own code goes with older releases, where one would overwrite the other.
        fields.must_be("tie_word_embeddings", False, default=False)
    return head


def _qwen2_audio(fields: Fields, tensors: Mapping[str, Stored]) -> Recognised:
    fields = fields.under_one_name({"audio_token_id": "audio_token_index"})
    text, audio = fields.group("text_config", {}), fields.group("audio_config", {})
    text.must_be("model_type", "qwen2", default="qwen2")
    audio.must_be("model_type", "qwen2_audio_encoder", default="qwen2_audio_encoder")
    parts = Parts(
        "qwen2_audio",
        configs.transformers_encoder(audio),
        configs.qwen2_decoder(text),
        audio_token=fields.integer("audio_token_index", 151646),
    )
    in_memory = any(name.startswith("model.audio_tower.") for name in tensors)
    head = _head(names.QWEN2_AUDIO_HEADS[in_memory], (text, fields), tensors)
    return "Qwen2-Audio", parts, names.qwen2_audio(in_memory=in_memory, head=head), _BUFFERS


def _qwen_audio(fields: Fields, tensors: Mapping[str, Stored]) -> Recognised:
    audio = fields.group("audio")
    begin = audio.integer("audio_start_id")
    encoder, decoder = configs.qwen_audio_encoder(audio), configs.qwen_decoder(fields)
    audio.must_be("output_dim", decoder.width, default=decoder.width)
    parts = Parts("qwen_audio", encoder, decoder, begin, begin + 1)
    return "Qwen-Audio", parts, names.qwen_audio(_qwen_head(fields, tensors)), _BUFFERS


def _transformers_whisper(fields: Fields, tensors: Mapping[str, Stored]) -> Recognised:
    prefix = _prefix(tensors, "conv1.weight")
    rows = names.transformers_encoder(prefix)
    if f"{prefix}positional_embedding" in tensors:
        rows = names.openai_encoder(prefix)
    parts = Parts(encoder=configs.transformers_encoder(fields))
    return "Whisper encoder", parts, rows, r"^(model\.)?decoder\.|^proj_out\."


def _openai_whisper(encoder: EncoderConfig, tensors: Mapping[str, Stored]) -> Recognised:
    rows = names.openai_encoder(_prefix(tensors, "conv1.weight"))
    return "Whisper encoder", Parts(encoder=encoder), rows, r"^decoder\."


def _by_tensors(tensors: Mapping[str, Stored]) -> EncoderConfig | None:
    """openai/whisper keeps its dimensions inside the pickle; all its sizes have heads of 64."""
    prefix = _prefix(tensors, "conv1.weight")
    first = tensors.get(f"{prefix}conv1.weight")
    layers = sum(
        name.startswith(f"{prefix}blocks.") and name.endswith(".attn.key.weight")
        for name in tensors
    )
    if not first or not layers or len(first.shape) != 3 or first.shape[0] % 64 or 0 in first.shape:
        return None
    width, mel_bins = first.shape[:2]
    return EncoderConfig(mel_bins, layers, width, width // 64, window=WINDOW)


def _prefix(tensors: Mapping[str, Stored], end: str) -> str:
    found = [name for name in tensors if name.endswith(end)]
    return found[0].removesuffix(end) if found else "encoder."


def _compare(
    folder: pathlib.Path,
    title: str,
    rows: Sequence[names.Row],
    parts: Parts,
    tensors: Mapping[str, Stored],
) -> None:
    parameters = parameter_shapes(parts)
    expected = tensor_shapes(rows, parameters)
    missing = [f"missing: {name} {list(expected[name])}" for name in expected.keys() - tensors]
    unexpected = [f"unexpected: {name}" for name in tensors.keys() - expected]
    misshapen, wrong = [], []
    for name in expected.keys() & tensors.keys():
        stored = tensors[name]
        if stored.shape != tuple(expected[name]):
            misshapen.append(
                f"misshapen: {name} is {list(stored.shape)}, and by config.json it should be "
                f"{list(expected[name])}"
            )
        elif stored.dtype not in DTYPES:
            wrong.append(
                f"wrong dtype: {name} is {stored.dtype}; only {', '.join(DTYPES)} are read"
            )
    if missing or unexpected or misshapen or wrong:
        raise ConversionError(
            f"{folder}: its tensors are not those of a {title} model with its config.json:\n  "
            + listed(*map(sorted, (missing, unexpected, misshapen, wrong)))
        )
    for row in rows:
        layers = parameters[row.path][0] if row.layered else 1
        dtypes = {tensors[name].dtype for name in tensor_names(row, layers)}
        if len(dtypes) > 1:
            raise ConversionError(
                f"{folder}: {row.name} is {' in some layers and '.join(sorted(dtypes))} in "
                "others; one array holds all layers, so they must agree"
            )
