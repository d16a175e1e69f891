"""The small files beside the weights: configuration, processor, chat template, vocabulary."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from qwen_audio_jax.conversion import configs
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.fast_tokenizer import (
    as_trained,
    sentencepiece_to_fast,
    tokenizer_config,
)
from qwen_audio_jax.conversion.fields import Fields
from qwen_audio_jax.conversion.json_files import read_json
from qwen_audio_jax.models.parts import COMPANIONS as FOLDER
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import EncoderConfig
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END
from qwen_audio_jax.text.tokenizer import MODEL_FILE, Tokenizer
from qwen_audio_jax.text.tokenizer_qwen import JSON_FILE

KEPT = (
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""What an import keeps of an original's folder, for an export to put back."""

MAX_POSITIONS = 8192
FEATURES = {"hop_length": 160, "n_fft": 400, "sampling_rate": 16000}
"""How log-mel features are made, in the words of transformers."""

CHAT_TEMPLATE = """\
{%- set clips = namespace(count=0) -%}
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'audio' or 'audio' in item or 'audio_url' in item -%}
{%- set clips.count = clips.count + 1 -%}
{{- 'Audio ' ~ clips.count ~ ': <|audio_bos|><|AUDIO|><|audio_eos|>\\n' -}}
{%- elif 'text' in item -%}
{{- item['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""Qwen2-Audio's conversation, as `rendering.chat` writes it."""


def kept_files(source: pathlib.Path) -> dict[str, bytes]:
    """Name and contents of what is kept of an original's folder.

    Raises:
        ConversionError: one that should hold a JSON object does not.
    """
    kept = {name: source / name for name in KEPT if (source / name).is_file()}
    for name, path in kept.items():
        if name.endswith(".json"):
            read_json(path)
    return {name: path.read_bytes() for name, path in kept.items()}


def of_text_model(kept: Mapping[str, bytes]) -> dict[str, bytes]:
    """What is kept of a part that a new model starts from: what is said of its vocabulary's tokens.

    How it answered, and to what conversation, is not the new model's.
    """
    name = "tokenizer_config.json"
    if name not in kept:
        return {}
    config = json.loads(kept[name])
    config.pop("chat_template", None)
    return {name: _json(config).encode()}


def take(kept: Mapping[str, bytes], folder: pathlib.Path) -> None:
    """Puts what is kept of an original's folder into an imported one."""
    for name, content in kept.items():
        (folder / FOLDER).mkdir(exist_ok=True)
        (folder / FOLDER / name).write_bytes(content)


def check_features(source: pathlib.Path, encoder: EncoderConfig) -> None:
    """Compares how an original makes its features, where it says so, with how they are made here.

    Raises:
        ConversionError: otherwise; the encoder would hear something else than it was trained on.
    """
    for path in (source / name for name in ("preprocessor_config.json", "processor_config.json")):
        if not path.is_file():
            continue
        fields = Fields(read_json(path), str(path))
        if path.name == "processor_config.json":
            fields = fields.group("feature_extractor", {})
        made = FEATURES | {"feature_size": encoder.mel_bins}
        for key, value in made.items():
            fields.must_be(key, value, default=value)


def files(parts: Parts, tokenizer: Tokenizer | None, dtype: str) -> dict[str, Any]:
    """Name and content (JSON types, or text) of the files of an exported folder.

    Raises:
        ConversionError: the original's code has no place for such a model.
    """
    if parts.family == "qwen_audio":
        return _qwen_audio(parts, tokenizer, dtype)
    return _qwen2_audio(parts, tokenizer, dtype)


def _qwen_audio(parts: Parts, tokenizer: Tokenizer | None, dtype: str) -> dict[str, Any]:
    written = {"config.json": configs.write_qwen_audio(parts.model(), dtype, MAX_POSITIONS)}
    if tokenizer:
        end = tokenizer.special(END_OF_TEXT)
        written["generation_config.json"] = {
            "chat_format": "raw",
            "do_sample": False,
            "eos_token_id": end,
            "max_new_tokens": 512,
            "pad_token_id": end,
            "stop_words_ids": [[end]],
        }
        written["tokenizer_config.json"] = {
            "model_max_length": MAX_POSITIONS,
            "tokenizer_class": "QWenTokenizer",
        }
    return written


def _qwen2_audio(parts: Parts, tokenizer: Tokenizer | None, dtype: str) -> dict[str, Any]:
    ends, generation = {}, {"do_sample": False}
    if tokenizer:
        end, turn = tokenizer.special(END_OF_TEXT), _im_end(tokenizer)
        ends = {"bos_token_id": end, "eos_token_id": turn}
        generation |= {"eos_token_id": [turn, end], "pad_token_id": end}
    config = configs.write_qwen2_audio(parts.model(), dtype, parts.audio_token, ends)
    return {
        "config.json": config,
        "generation_config.json": generation,
        "chat_template.jinja": CHAT_TEMPLATE,
        "preprocessor_config.json": {
            "chunk_length": 30,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": parts.encoder.mel_bins,
            **FEATURES,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "Qwen2AudioProcessor",
            "return_attention_mask": True,
        },
    }


def _im_end(tokenizer: Tokenizer) -> int:
    if IM_END not in tokenizer.control_ids:
        raise ConversionError(f"the vocabulary has no {IM_END}, which ends Qwen2-Audio's answers")
    return tokenizer.special(IM_END)


def write(
    out: pathlib.Path,
    written: dict[str, Any],
    tokenizer: Tokenizer | None,
    kept: Mapping[str, bytes],
) -> None:
    """Writes the files, the vocabulary, and what an import kept, which goes before our own.

    Args:
        out: the exported folder.
        written: from `files`.
        tokenizer: the vocabulary.
        kept: from `kept_files`.
    """
    for name, content in written.items():
        text = content if isinstance(content, str) else _json(content)
        (out / name).write_text(text, encoding="utf-8")
    for name, content in kept.items():
        (out / name).write_bytes(content)
    if not tokenizer:
        return
    tokenizer.save(out)
    path = out / JSON_FILE
    if (out / MODEL_FILE).is_file():
        fast = sentencepiece_to_fast((out / MODEL_FILE).read_bytes())
        path.write_text(fast, encoding="utf-8")
    if path.is_file():
        path.write_bytes(as_trained(path.read_bytes()))
        before = json.loads(kept.get("tokenizer_config.json", b"{}"))
        config = tokenizer_config(MAX_POSITIONS, tokenizer.control_ids, before)
        (out / "tokenizer_config.json").write_text(_json(config), encoding="utf-8")


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
