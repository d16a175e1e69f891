"""BLEU through sacrebleu, for translations and captions."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_char import TokenizerChar
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from qwen_audio_jax.metrics.answer import Answer, table_row, text_of
from qwen_audio_jax.metrics.text import base_language, without_tags

ORDER = 4
"""Tokens of the longest n-grams, as in every published BLEU."""

# The original takes ja-mecab for Japanese; characters need no dictionary, at the price that the
# figure is higher than a MeCab BLEU. Chinese, like the original, by sacrebleu's "zh".
_TOKENIZERS = {"zh": TokenizerZh, "yue": TokenizerZh, "ja": TokenizerChar, "th": TokenizerChar}


@functools.cache
def _tokenizer(language: str) -> Callable[[str], str]:
    return _TOKENIZERS.get(language, Tokenizer13a)()


def corpus_bleu(pairs: list[tuple[list[str], str, object]]) -> float | None:
    """BLEU, 0 to 100, cased, from statistics summed over the set; None for an empty set.

    Every sentence is tokenised for its own language first, so one set may mix target languages.
    A set in which no reference has four tokens is scored by as long n-grams as the longest has:
    BLEU itself would be 0 for the right answers too. None if none has a token.

    Args:
        pairs: (references, hypothesis, target language) each.
    """
    references, hypotheses = [], []
    for texts, hypothesis, language in pairs:
        tokenize = _tokenizer(base_language(language))
        references.append([tokenize(without_tags(text)) for text in texts] or [""])
        hypotheses.append(tokenize(without_tags(hypothesis)))
    longest = max((len(text.split()) for texts in references for text in texts), default=0)
    if not longest:
        return None
    # sacrebleu wants one list a reference number, with None where a sentence has fewer.
    streams = [list(stream) for stream in itertools.zip_longest(*references)]
    bleu_of = BLEU(tokenize="none", force=True, max_ngram_order=min(ORDER, longest))
    return bleu_of.corpus_score(hypotheses, streams).score


def _references(annotation: dict[str, Any]) -> list[str]:
    text = annotation.get("text")
    return list(map(str, text)) if isinstance(text, list) else [text_of(annotation)]


def _said(answer: Answer) -> str:
    return _references(answer.annotation)[0] if answer.exact else answer.hypothesis


def _bleu_rows(answers: list[Answer], language_field: str) -> list[dict[str, Any]]:
    value = corpus_bleu(
        [(_references(a.annotation), _said(a), a.annotation.get(language_field)) for a in answers]
    )
    return [table_row("bleu", value, None if value is None else 0.0, len(answers))]


def bleu(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "bleu" against `text`, by `target_language`. Baseline: the empty answer, 0."""
    return _bleu_rows(answers, "target_language")


def caption(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "bleu" against `text`, one caption or a list of them. Baseline: the empty answer, 0.

    sacrebleu's BLEU is cased and keeps punctuation, so it is not the COCO tools' Bleu-4.
    """
    return _bleu_rows(answers, "language")
