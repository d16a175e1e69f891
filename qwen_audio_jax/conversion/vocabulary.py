"""The vocabulary of an imported model, and the embedding rows that it needs."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.finite import require_finite
from qwen_audio_jax.conversion.sources import Source
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.rendering.language_codes import language_code
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.text.control_tokens import control_tokens
from qwen_audio_jax.text.tokenizer import (
    Tokenizer,
    load_text_vocabulary,
    load_tokenizer,
    with_control_tokens,
)
from qwen_audio_jax.text.tokenizer_qwen import RanksTokenizer

_ROUND = 128
"""A vocabulary that has to grow becomes a multiple of this, so that meshes divide it."""

_DRAWN = 8
"""Old rows that a new one is the mean of."""

_TOGETHER = 512
"""New rows made at a time: 8 MiB in float32 at a width of 4,096."""

_LAST_OF_QWEN = "<|extra_204|>"
"""The last token of Qwen-7B. Those of Qwen-Audio come after it, and its file holds neither."""


def read_languages(text: str) -> tuple[str, ...]:
    """The codes that `--languages=cs,nl` lists, each named in any way that a corpus may.

    Raises:
        ConversionError: one names no language, or is there twice.
    """
    codes: dict[str, str] = {}
    for name in map(str.strip, text.split(",")):
        try:
            code = language_code(name)
        except ValueError as error:
            raise ConversionError(f"--languages: {error}") from None
        if code in codes:
            raise ConversionError(
                f"--languages: {name!r} and {codes[code]!r} are the same language, {code!r}; list "
                "it once"
            )
        codes[code] = name
    return tuple(codes)


def take_tokenizer(
    sources: Sequence[Source], parts: Parts, languages: Sequence[str] = ()
) -> tuple[Tokenizer | None, int]:
    """The vocabulary beside the decoder, if there is one, and the first id that it got here.

    A text model's gets the control tokens of both families, so that it can learn to hear. Behind
    its own ids its rows were never trained, be it that they are new or that it had them to spare;
    0 where it has no such ids.

    Args:
        sources: the folders.
        parts: what they make together.
        languages: codes of languages that get a tag beside those that the families have.

    Raises:
        ConversionError: it has ids beyond the rows of the embedding that are no control tokens, or
            cannot get tags.
    """
    source = next((source for source in sources if source.parts.decoder), None)
    tokenizer = None
    if source:
        with contextlib.suppress(FileNotFoundError):
            tokenizer = (load_tokenizer if parts.family else load_text_vocabulary)(source.folder)
    if tokenizer is None or parts.family:
        if languages:
            raise ConversionError(f"--languages: {_why_no_tags(parts, sources, source)}")
        return tokenizer, 0
    rows = source.parts.decoder.vocab_size
    if tokenizer.vocab_size > rows + len(tokenizer.control_ids):
        raise ConversionError(
            f"{source.folder}: the tokenizer has ids up to {tokenizer.vocab_size - 1} and the "
            f"model {rows} tokens; they do not belong together"
        )
    grown = with_control_tokens(tokenizer, control_tokens(languages))
    known = _known_ids(tokenizer, rows)
    return grown, known if known < grown.vocab_size else 0


def _why_no_tags(parts: Parts, sources: Sequence[Source], decoder: Source | None) -> str:
    if parts.family:
        return (
            f"{sources[0].folder} is a whole model, whose vocabulary stays as it is; leave "
            "--languages out"
        )
    if decoder:
        return (
            f"{decoder.folder} has no vocabulary that could get tags; put its tokenizer.json or "
            "qwen.tiktoken there"
        )
    return (
        f"{sources[0].folder} has no decoder, and so no vocabulary; name a language model as a "
        "second --source, or leave --languages out: a run then takes its corpus's"
    )


def _known_ids(tokenizer: Tokenizer, rows: int) -> int:
    """How many of a text model's ids it has been trained with."""
    if tokenizer.vocab_size <= rows:
        return tokenizer.vocab_size
    if isinstance(tokenizer, RanksTokenizer):
        return min(rows, tokenizer.special(_LAST_OF_QWEN) + 1)
    return rows


def with_vocabulary(
    parts: Parts, tokenizer: Tokenizer | None, config: pathlib.Path, first_new: int = 0
) -> Parts:
    """The parts with what the vocabulary tells: ids around a clip, and rows enough for its ids.

    Args:
        parts: the model, or a part of one.
        tokenizer: the vocabulary.
        config: the file that tells sizes and ids of its own, for the sentence.
        first_new: of a text model's ids, the first that is new.

    Raises:
        ConversionError: a whole model whose vocabulary is another's.
    """
    if tokenizer is None:
        return parts
    rows = parts.decoder.vocab_size
    if not parts.family:
        if tokenizer.vocab_size > rows:
            rows = -(-tokenizer.vocab_size // _ROUND) * _ROUND
        decoder = dataclasses.replace(parts.decoder, vocab_size=rows, first_new_token=first_new)
        return dataclasses.replace(parts, decoder=decoder)
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
    arrays: Iterable[tuple[str, np.ndarray]], parts: Parts, tokenizer: Tokenizer | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters, embedding and head with rows for the new tokens.

    A new row is the mean of a few old ones, drawn by the token's name: it lies around their mean
    with their covariance, divided by the number drawn. So no two are the same, a token's does not
    depend on what else is new, and as the exponential is convex, a new token is at most as likely
    as an average one, whatever the text (after Hewitt 2021, "Initializing new word embeddings for
    pretrained language models"). A head that was tied stays equal to the embedding.
    """
    first = parts.decoder.first_new_token if parts.decoder else 0
    if not first:
        yield from arrays
        return
    names = {i: name for name, i in tokenizer.control_ids.items()}
    rows = parts.decoder.vocab_size
    drawn = np.stack([_draw(names.get(i, f"row {i}"), first) for i in range(first, rows)])
    for path, array in arrays:
        axis = {"decoder/embedding": 0, "decoder/head": 1}.get(path)
        if axis is not None:
            new = _means(array, axis, drawn)
            require_finite(new, f"{path}, the rows of new tokens")
            array = _with_rows_from(array, axis, first, new)
        yield path, array


def _draw(name: str, rows: int) -> np.ndarray:
    """Which of the rows a token's is made of, int64 [_DRAWN]: by a hash, so always the same."""
    digest = hashlib.shake_128(name.encode()).digest(8 * _DRAWN)
    return (np.frombuffer(digest, "<u8") % rows).astype(np.int64)


def _means(array: np.ndarray, axis: int, drawn: np.ndarray) -> np.ndarray:
    """Means of rows, summed in float32.

    Args:
        array: [V, D], or [D, V].
        axis: 0, or 1: that of the rows.
        drawn: int64 [n, _DRAWN], which rows each is the mean of.

    Returns:
        [n, D], or [D, n], in the dtype of the array.
    """
    means = []
    for start in range(0, len(drawn), _TOGETHER):
        part = drawn[start : start + _TOGETHER]
        with np.errstate(over="ignore"):
            total = sum(np.take(array, of, axis=axis).astype(np.float32) for of in part.T)
            means.append((total / _DRAWN).astype(array.dtype))
    return np.concatenate(means, axis=axis)


def _with_rows_from(array: np.ndarray, axis: int, first: int, new: np.ndarray) -> np.ndarray:
    """The array with other rows from the first on: in place, unless it has to grow."""
    kept = (slice(None),) * axis + (slice(first),)
    rest = (slice(None),) * axis + (slice(first, None),)
    if first + new.shape[axis] == array.shape[axis]:
        array[rest] = new
        return array
    return np.concatenate([array[kept], new], axis=axis)
