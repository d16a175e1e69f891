"""Word and character error rates; words are characters in languages written without spaces."""

from collections.abc import Callable, Iterable
from typing import Any

import jiwer

from qwen_audio_jax.metrics.answer import Answer, table_row, text_of
from qwen_audio_jax.metrics.text import scoring_text, scoring_units

Pair = tuple[str, str, object]
"""(reference, hypothesis, language); the language decides words or characters."""


def word_edits(pairs: Iterable[Pair]) -> tuple[int, int]:
    """(edits, words of the references), both summed over the set, so it may mix languages."""
    # jiwer splits at plain spaces, and a unit holds none.
    return _edits(jiwer.process_words, pairs, lambda *text: " ".join(scoring_units(*text)))


def character_edits(pairs: Iterable[Pair]) -> tuple[int, int]:
    """(edits, characters of the references), as `word_edits`. A space between words is one."""
    return _edits(jiwer.process_characters, pairs, scoring_text)


def _edits(
    process: Callable, pairs: Iterable[Pair], written: Callable[[str, object], str]
) -> tuple[int, int]:
    references, hypotheses = [], []
    for reference, hypothesis, language in pairs:
        references.append(written(reference, language))
        hypotheses.append(written(hypothesis, language))
    out = process(references, hypotheses)
    length = out.hits + out.substitutions + out.deletions
    return out.substitutions + out.deletions + out.insertions, length


def word_error_rate(pairs: Iterable[Pair]) -> float | None:
    """Edits over reference length, both summed over the set; None if the references are empty."""
    edits, length = word_edits(pairs)
    return edits / length if length else None


def _pair(answer: Answer) -> Pair:
    return text_of(answer.annotation), answer.hypothesis, answer.annotation.get("language")


def wer(answers: list[Answer]) -> list[dict[str, Any]]:
    """Rows "wer" and "cer" (fractions, may exceed 1). Normalised as Qwen-Audio's script, not
    Qwen2-Audio's: the two use different normalisers, so their published figures are not comparable
    either. CER is of the same texts, spaces between words counted, as jiwer does; in languages
    that are written without spaces the two rates are the same.

    Baseline: the empty answer, which deletes everything.
    """
    pairs = list(map(_pair, answers))
    rows = []
    for metric, edits_of in (("wer", word_edits), ("cer", character_edits)):
        edits, length = edits_of(pairs)
        value, baseline = (edits / length, 1.0) if length else (None, None)
        rows.append(table_row(metric, value, baseline, len(answers)))
    return rows


def edit_counts(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sums that `wer` divides."""
    (word, words), (character, characters) = (
        word_edits([_pair(answer)]),
        character_edits([_pair(answer)]),
    )
    return {
        "word_edits": word,
        "words": words,
        "character_edits": character,
        "characters": characters,
    }
