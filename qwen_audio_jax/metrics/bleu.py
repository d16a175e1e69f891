"""BLEU through sacrebleu, for translations and captions."""

import dataclasses
import functools
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_base import BaseTokenizer
from sacrebleu.tokenizers.tokenizer_char import TokenizerChar
from sacrebleu.tokenizers.tokenizer_ja_mecab import TokenizerJaMecab
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from qwen_audio_jax.metrics.answer import Answer, table_row, text_of
from qwen_audio_jax.metrics.text import base_language, without_tags

ORDER = 4
"""Tokens of the longest n-grams, as in every published BLEU."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """How texts are written before they are compared.

    Attributes:
        lower_case: in lower case.
        punctuation: with their punctuation.
        mecab: Japanese by words, as MeCab parts it, and not by characters.
    """

    lower_case: bool = False
    punctuation: bool = True
    mecab: bool = False


VARIANTS = {
    "bleu": Variant(),
    "bleu_ja_mecab": Variant(mecab=True),
    "bleu_lower": Variant(lower_case=True),
    "bleu_lower_no_punctuation": Variant(lower_case=True, punctuation=False),
}
"""By name. The originals' is "bleu_ja_mecab"; "bleu" differs from it in Japanese alone."""

# Without MeCab's dictionary Japanese is counted by characters, at the price that the figure is
# higher than a MeCab BLEU. Chinese, like the original, by sacrebleu's "zh".
_TOKENIZERS = {"zh": TokenizerZh, "yue": TokenizerZh, "ja": TokenizerChar, "th": TokenizerChar}


def check(variant: str, languages: Iterable[object]) -> None:
    """Raises a ValueError if a variant is unknown, or cannot be computed for a target language."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r} of BLEU; there are {', '.join(VARIANTS)}")
    for language in languages:
        _tokenizer(base_language(language), VARIANTS[variant].mecab)


@functools.cache
def _tokenizer(language: str, mecab: bool) -> BaseTokenizer:
    if not (mecab and language == "ja"):
        return _TOKENIZERS.get(language, Tokenizer13a)()
    try:
        return TokenizerJaMecab()
    except RuntimeError as missing:
        raise ValueError(
            'BLEU of Japanese by words needs MeCab and its dictionary: pip install "sacrebleu[ja]"'
        ) from missing


def corpus_bleu(
    pairs: Sequence[tuple[list[str], str, object]], variant: str = "bleu"
) -> float | None:
    """BLEU, 0 to 100, from statistics summed over the set; None for an empty set.

    Every sentence is tokenised for its own language first, so one set may mix target languages.
    A set in which no reference has four tokens is scored by as long n-grams as the longest has:
    BLEU itself would be 0 for the right answers too. None if none has a token.

    Args:
        pairs: (references, hypothesis, target language) each.
        variant: a key of VARIANTS; all but "bleu_lower..." are cased.
    """
    check(variant, [language for *_, language in pairs])
    hypotheses, streams, order = _tokenised(pairs, VARIANTS[variant])
    if not order:
        return None
    return _metric(VARIANTS[variant], order).corpus_score(hypotheses, streams).score


Pairs = Sequence[tuple[list[str], str, object]]
"""(references, hypothesis, target language) each."""


def bleu_counts(pairs: Pairs, variant: str = "bleu") -> list[tuple[float, ...]]:
    """What each answer adds to the sums that `corpus_bleu` is a function of.

    Tokens of the hypothesis, of the reference that is nearest in length, matching n-grams for
    n = 1, 2 ..., then n-grams of the hypothesis: 2 + 2 orders columns. Nothing for a set without
    a token.
    """
    hypotheses, streams, order = _tokenised(pairs, VARIANTS[variant])
    if not order:
        return []
    metric = _metric(VARIANTS[variant], order)
    metric.effective_order = True  # else it warns of scores of sentences, which nobody looks at
    found = []
    for hypothesis, *references in zip(hypotheses, *streams, strict=True):
        given = [text for text in references if text is not None]
        one = metric.sentence_score(hypothesis, given)
        found.append((one.sys_len, one.ref_len, *one.counts, *one.totals))
    return [tuple(map(float, one)) for one in found]


def signature(pairs: Sequence[tuple[list[str], str, object]], variant: str = "bleu") -> str:
    """What sacrebleu says of the value of `corpus_bleu`: references, case, tokenizers, version.

    `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`. A set of several target languages
    has its tokenizers with a plus between them; order and punctuation follow where they are not
    the usual.
    """
    check(variant, [language for *_, language in pairs])
    chosen = VARIANTS[variant]
    hypotheses, streams, order = _tokenised(pairs, chosen)
    metric = _metric(chosen, order)
    metric.corpus_score(hypotheses or [""], streams or [[""]])
    names = {_tokenizer(base_language(of), chosen.mecab).signature() for *_, of in pairs}
    said = str(metric.get_signature()).replace("tok:none", f"tok:{'+'.join(sorted(names))}")
    said += "" if chosen.punctuation else "|punctuation:no"
    return said if order in (0, ORDER) else f"{said}|order:{order}"


def _metric(variant: Variant, order: int) -> BLEU:
    return BLEU(
        lowercase=variant.lower_case, tokenize="none", force=True, max_ngram_order=order or ORDER
    )


def _tokenised(
    pairs: Sequence[tuple[list[str], str, object]], variant: Variant
) -> tuple[list[str], list[list[str | None]], int]:
    """(hypotheses, references as sacrebleu takes them, the order) with a space between tokens."""
    references, hypotheses = [], []
    for texts, hypothesis, language in pairs:
        tokenize = _tokenizer(base_language(language), variant.mecab)
        references.append([tokenize(_written(text, variant)) for text in texts] or [""])
        hypotheses.append(tokenize(_written(hypothesis, variant)))
    longest = max((len(text.split()) for texts in references for text in texts), default=0)
    # sacrebleu wants one list a reference number, with None where a sentence has fewer.
    streams = [list(stream) for stream in itertools.zip_longest(*references)]
    return hypotheses, streams, min(ORDER, longest)


def _written(text: str, variant: Variant) -> str:
    text = without_tags(text)
    if variant.lower_case:
        text = text.lower()
    if not variant.punctuation:
        text = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    return text


def _references(annotation: dict[str, Any]) -> list[str]:
    text = annotation.get("text")
    return list(map(str, text)) if isinstance(text, list) else [text_of(annotation)]


def _said(answer: Answer) -> str:
    return _references(answer.annotation)[0] if answer.exact else answer.hypothesis


def bleu_pairs(answers: Sequence[Answer], language_field: str) -> Pairs:
    """What `corpus_bleu` takes, of answers whose `text` is one reference or a list of them."""
    return [
        (_references(a.annotation), _said(a), a.annotation.get(language_field)) for a in answers
    ]


def _bleu_rows(answers: list[Answer], language_field: str) -> list[dict[str, Any]]:
    value = corpus_bleu(bleu_pairs(answers, language_field))
    return [table_row("bleu", value, None if value is None else 0.0, len(answers))]


def bleu(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "bleu" against `text`, by `target_language`. Baseline: the empty answer, 0."""
    return _bleu_rows(answers, "target_language")


def caption(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "bleu" against `text`, one caption or a list of them. Baseline: the empty answer, 0.

    sacrebleu's BLEU is cased and keeps punctuation, so it is not the COCO tools' Bleu-4.
    """
    return _bleu_rows(answers, "language")
