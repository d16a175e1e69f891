"""The small files beside the weights: configuration, processor, chat template, vocabulary."""

import json
import pathlib
import shutil
from typing import Any

from qwen_audio_jax.conversion import configs
from qwen_audio_jax.conversion.fast_tokenizer import sentencepiece_to_fast, tokenizer_config
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END
from qwen_audio_jax.text.tokenizer import MODEL_FILE, Tokenizer

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

FOLDER = "companions"
MAX_POSITIONS = 8192

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


def take(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies what is kept from an original's folder into an imported one."""
    for name in KEPT:
        if (source / name).is_file():
            (folder / FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / FOLDER / name)


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
        end, turn = tokenizer.special(END_OF_TEXT), tokenizer.special(IM_END)
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
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "Qwen2AudioProcessor",
            "return_attention_mask": True,
            "sampling_rate": 16000,
        },
    }


def write(
    out: pathlib.Path,
    written: dict[str, Any],
    tokenizer: Tokenizer | None,
    folder: pathlib.Path,
) -> None:
    """Writes the files, the vocabulary, and what an import kept, which goes before our own.

    Args:
        out: the exported folder.
        written: from `files`.
        tokenizer: the vocabulary.
        folder: the run or imported folder.
    """
    for name, content in written.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        (out / name).write_text(text, encoding="utf-8")
    if tokenizer:
        tokenizer.save(out)
    if (out / MODEL_FILE).is_file():
        fast = sentencepiece_to_fast((out / MODEL_FILE).read_bytes())
        (out / "tokenizer.json").write_text(fast, encoding="utf-8")
        config = json.dumps(tokenizer_config(MAX_POSITIONS), indent=2) + "\n"
        (out / "tokenizer_config.json").write_text(config)
    for name in KEPT:
        if (folder / FOLDER / name).is_file():
            shutil.copyfile(folder / FOLDER / name, out / name)
