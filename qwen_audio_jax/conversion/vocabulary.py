"""The vocabulary of an imported model, and the embedding rows that it needs."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.finite import require_finite
from qwen_audio_jax.conversion.sources import Source
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.text.control_tokens import control_tokens
from qwen_audio_jax.text.tokenizer import (
    Tokenizer,
    load_text_vocabulary,
    load_tokenizer,
    with_control_tokens,
)

_ROUND = 128
"""A vocabulary that has to grow becomes a multiple of this, so that meshes divide it."""


def take_tokenizer(sources: Sequence[Source], parts: Parts) -> Tokenizer | None:
    """The vocabulary beside the decoder, if there is one.

    A text model's gets the control tokens of both families, so that it can learn to hear.

    Raises:
        ConversionError: it has ids beyond the rows of the embedding that are no control tokens.
    """
    source = next((source for source in sources if source.parts.decoder), None)
    if source is None:
        return None
    try:
        tokenizer = (load_tokenizer if parts.family else load_text_vocabulary)(source.folder)
    except FileNotFoundError:
        return None
    if parts.family:
        return tokenizer
    rows = source.parts.decoder.vocab_size
    if tokenizer.vocab_size > rows + len(tokenizer.control_ids):
        raise ConversionError(
            f"{source.folder}: the tokenizer has ids up to {tokenizer.vocab_size - 1} and the "
            f"model {rows} tokens; they do not belong together"
        )
    return with_control_tokens(tokenizer, control_tokens())


def with_vocabulary(parts: Parts, tokenizer: Tokenizer | None, config: pathlib.Path) -> Parts:
    """The parts with what the vocabulary tells: ids around a clip, and rows enough for its ids.

    Args:
        parts: the model, or a part of one.
        tokenizer: the vocabulary.
        config: the file that tells sizes and ids of its own, for the sentence.

    Raises:
        ConversionError: a whole model whose vocabulary is another's.
    """
    if tokenizer is None:
        return parts
    rows = parts.decoder.vocab_size
    if not parts.family:
        if tokenizer.vocab_size > rows:
            rows = -(-tokenizer.vocab_size // _ROUND) * _ROUND
        return dataclasses.replace(
            parts, decoder=dataclasses.replace(parts.decoder, vocab_size=rows)
        )
    if tokenizer.vocab_size > rows:
        raise ConversionError(
            f"{config.parent}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{rows}; they do not belong together"
        )
    try:
        begin, placeholder, end = map(tokenizer.special, AUDIO_TAGS[parts.family])
    except KeyError as error:
        raise ConversionError(
            f"{config.parent}: {error.args[0]}, which a {parts.family} model needs; they do not "
            "belong together"
        ) from error
    if parts.audio_begin not in (-1, begin):
        raise ConversionError(
            f"{config} has audio_start_id {parts.audio_begin} and the tokenizer has <audio> at "
            f"{begin}: they are of different releases. Import it without the tokenizer file, or "
            "with the one of its own release"
        )
    if parts.audio_token not in (-1, placeholder):
        raise ConversionError(
            f"{config} has audio_token_index {parts.audio_token} and the tokenizer has the "
            f"placeholder at {placeholder}: they do not belong together"
        )
    return dataclasses.replace(parts, audio_begin=begin, audio_end=end, audio_token=placeholder)


def with_rows(
    arrays: Iterable[tuple[str, np.ndarray]], parts: Parts
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters, embedding and head grown to the vocabulary.

    A new row is the mean of the old ones, so that a new token starts out as unlikely as an
    average one (Hewitt 2021, "Initializing new word embeddings for pretrained language models").
    """
    for path, array in arrays:
        axis = {"decoder/embedding": 0, "decoder/head": 1}.get(path)
        if axis is not None and array.shape[axis] < parts.decoder.vocab_size:
            shape = list(array.shape)
            shape[axis] = parts.decoder.vocab_size - array.shape[axis]
            with np.errstate(over="ignore"):
                mean = array.mean(axis=axis, keepdims=True, dtype=np.float32).astype(array.dtype)
            require_finite(mean, f"{path}, the rows of new tokens")
            array = np.concatenate([array, np.broadcast_to(mean, shape)], axis=axis)
        yield path, array
