"""What lies in a PyTorch folder: which model, which tensors, and whether they agree."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

from qwen_audio_jax.audio.silence import WINDOW
from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.errors import ConversionError, listed
from qwen_audio_jax.conversion.fields import Fields, shown
from qwen_audio_jax.conversion.json_files import read_json
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_names, tensor_shapes
from qwen_audio_jax.conversion.weight_files import DTYPES, Stored, find_tensors, same_contents
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig


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
    tied_heads = {row.name for row in rows} - {row.name for row in names.distinct(rows)}
    rows = names.distinct(rows)
    tensors = {
        name: stored
        for name, stored in tensors.items()
        if name not in tied_heads and not re.search(ignored, name)
    }
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
        decoder = _qwen_decoder(fields, tensors)
        return "Qwen decoder", Parts(decoder=decoder), names.qwen_decoder(decoder), _BUFFERS
    if kind in [*configs.DECODERS]:
        rows_of, decoder = names.transformers_decoder, configs.transformers_decoder(fields)
        decoder = _tied(decoder, rows_of, (fields,), tensors)
        title = f"{kind.capitalize()} decoder"
        return title, Parts(decoder=decoder), rows_of(decoder), _BUFFERS
    if kind == "whisper":
        return _transformers_whisper(fields, tensors)
    raise ConversionError(
        f"{fields.where}: model_type is {shown(kind)}; known are qwen2_audio, qwen (Qwen-Audio, "
        "Qwen-7B), qwen2 (Qwen2, Qwen2.5), qwen3, llama (Llama, SmolLM2, TinyLlama) and whisper"
    )


def _tied(
    decoder: DecoderConfig,
    rows_of: Callable[[DecoderConfig], tuple[names.Row, ...]],
    levels: Sequence[Fields],
    tensors: Mapping[str, Stored],
) -> DecoderConfig:
    """The decoder, tied where its folder says so and has no other head than the word embedding.

    So does transformers 5: it ties what is equal, and takes both where they differ.
    """
    said = [level.flag("tie_word_embeddings") for level in levels]
    names_of = {row.path: row.name for row in rows_of(decoder)}
    head, embedding = names_of["decoder/head"], names_of["decoder/embedding"]
    if head not in tensors:
        tied = configs.is_tied(levels)
    elif tied := True in said and embedding in tensors:
        tied = same_contents(tensors[head], tensors[embedding])
    return dataclasses.replace(decoder, tied=tied)


def _qwen_decoder(fields: Fields, tensors: Mapping[str, Stored]) -> DecoderConfig:
    decoder = _tied(configs.qwen_decoder(fields), names.qwen_decoder, (fields,), tensors)
    if not decoder.tied:
        # Qwen's own code goes with older releases, where one would overwrite the other.
        fields.must_be("tie_word_embeddings", False, default=False)
    return decoder


def _qwen2_audio(fields: Fields, tensors: Mapping[str, Stored]) -> Recognised:
    fields = fields.under_one_name({"audio_token_id": "audio_token_index"})
    text, audio = fields.group("text_config", {}), fields.group("audio_config", {})
    audio.must_be("model_type", "qwen2_audio_encoder", default="qwen2_audio_encoder")
    in_memory = any(name.startswith("model.audio_tower.") for name in tensors)
    rows_of = functools.partial(names.qwen2_audio, in_memory=in_memory)
    decoder = _tied(configs.transformers_decoder(text), rows_of, (text, fields), tensors)
    parts = Parts(
        "qwen2_audio",
        configs.transformers_encoder(audio),
        decoder,
        audio_token=fields.integer("audio_token_index", 151646),
    )
    return "Qwen2-Audio", parts, rows_of(decoder), _BUFFERS


def _qwen_audio(fields: Fields, tensors: Mapping[str, Stored]) -> Recognised:
    audio = fields.group("audio")
    begin = audio.integer("audio_start_id")
    encoder, decoder = configs.qwen_audio_encoder(audio), _qwen_decoder(fields, tensors)
    audio.must_be("output_dim", decoder.width, default=decoder.width)
    parts = Parts("qwen_audio", encoder, decoder, begin, begin + 1)
    return "Qwen-Audio", parts, names.qwen_audio(decoder), _BUFFERS


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
    heads = {row.name for row in rows if row.path == "decoder/head"}
    missing = [
        f"missing: {name} {list(expected[name])}"
        + ", the head; with tie_word_embeddings true it is the word embedding" * (name in heads)
        for name in expected.keys() - tensors
    ]
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
