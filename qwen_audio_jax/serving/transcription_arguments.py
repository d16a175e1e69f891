"""The arguments of POST /v1/audio/transcriptions."""

import dataclasses
from typing import Any

from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.rendering.language_codes import language_code
from qwen_audio_jax.serving.arguments import Arguments, shown
from qwen_audio_jax.serving.chat_arguments import HOTTEST
from qwen_audio_jax.serving.errors import wrong

JSON, TEXT, VERBOSE = "json", "text", "verbose_json"
FORMATS = (JSON, TEXT, VERBOSE)

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "chunking_strategy": (),
    "include": (),
    "known_speaker_names": (),
    "known_speaker_references": (),
    "prompt": ("",),
}


@dataclasses.dataclass(frozen=True)
class TranscriptionArguments:
    """What is asked.

    Attributes:
        model: its name; "" if none is given.
        language: its code; "" if the model shall find out.
        format: one of FORMATS.
        words: whether each word's time is wanted.
        sampling: how tokens are chosen.
        stream: whether the text comes piece by piece.
        max_tokens: of the text; None for as many as there is room for. OpenAI's API has no such
            field here; the name is vLLM's.
    """

    model: str
    language: str
    format: str
    words: bool
    sampling: Sampling
    stream: bool
    max_tokens: int | None


def read(values: dict[str, Any], most: int) -> TranscriptionArguments:
    """Reads the fields of a form, which are texts all.

    Args:
        values: the fields.
        most: tokens that the server writes.

    Raises:
        ApiError: one is unknown, out of its range, or does nothing here.
    """
    fields = Arguments({name: value for name, value in values.items() if value != ""})
    fields.refuse(_NEUTRAL)
    model = fields.text("model")
    kind = fields.choice("response_format", JSON, FORMATS)
    words = _words(fields.take("timestamp_granularities"), kind)
    stream = fields.choice("stream", "false", ("true", "false", "True", "False")).lower() == "true"
    if stream and kind == VERBOSE:
        raise wrong("stream", f"a stream has no words with times; send response_format={JSON}")
    language, sampling = _language(fields.text("language")), _sampling(fields)
    limit = _max_tokens(fields, most)
    arguments = TranscriptionArguments(model, language, kind, words, sampling, stream, limit)
    fields.finish()
    return arguments


def _sampling(fields: Arguments) -> Sampling:
    value = fields.take("temperature", "0")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= HOTTEST:
        raise wrong("temperature", f"must be a number from 0 to {HOTTEST:g}, not {shown(value)}")
    return Sampling(temperature=number)


def _max_tokens(fields: Arguments, most: int) -> int | None:
    text = fields.text("max_completion_tokens")
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 1 <= number <= most:
        raise wrong(
            "max_completion_tokens", f"must be a whole number from 1 to {most:,}, not {shown(text)}"
        )
    return number


def _words(value: Any, kind: str) -> bool:
    if value is None:
        return False
    if kind != VERBOSE:
        raise wrong("timestamp_granularities", f"needs response_format={VERBOSE}")
    if value != ["word"] and value != "word":
        raise wrong("timestamp_granularities", "must be word alone: the model tells no other times")
    return True


def _language(text: str) -> str:
    if not text:
        return ""
    try:
        return language_code(text.strip())
    except ValueError as error:
        raise wrong("language", str(error)) from None
