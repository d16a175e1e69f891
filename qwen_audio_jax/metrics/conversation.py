"""Answers of conversations: whether one says what the reference says, and how much of it."""

import collections
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from qwen_audio_jax.metrics.answer import Answer, table_row
from qwen_audio_jax.metrics.classification import majority_share
from qwen_audio_jax.metrics.text import squeezed

_APOSTROPHES = dict.fromkeys(map(ord, "'\u2019"))
_UNSPACED = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "THAI")
"""What names of characters begin with that are written without spaces between words."""


def words_of(text: str) -> list[str]:
    """Words as they count: without case, punctuation and apostrophes; in scripts without spaces
    each letter is one. Symbols stay, and so does a text that is nothing but punctuation.
    """
    folded = unicodedata.normalize("NFC", text).casefold().translate(_APOSTROPHES)
    spaced = []
    for letter in folded:
        if unicodedata.category(letter)[0] in "PZC":
            letter = " "
        elif unicodedata.category(letter)[0] == "L" and _is_unspaced(letter):
            letter = f" {letter}"
        spaced.append(letter)
    return "".join(spaced).split() or squeezed(text).split()


def _is_unspaced(letter: str) -> bool:
    return ord(letter) > 0xE00 and unicodedata.name(letter, "").startswith(_UNSPACED)


def reference_of(annotation: dict[str, Any]) -> str:
    """What was to be answered: the last message of a conversation that ends with the answer."""
    content = annotation["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def is_said(reference: str, answer: str) -> bool:
    """Whether an answer is the reference, but for case, punctuation and spaces."""
    return words_of(reference) == words_of(answer)


def conversation(answers: list[Answer]) -> list[dict[str, Any]]:
    """Rows "accuracy", of answers that are the reference, and "token_f1", how many words they share
    on average. The annotation of an answer is of the conversation up to it.

    Baseline: the commonest answer of each kind of conversation.
    """
    references = [words_of(reference_of(answer.annotation)) for answer in answers]
    said = [words_of(answer.hypothesis) for answer in answers]
    right = [one == other for one, other in zip(references, said, strict=True)]
    kinds = [answer.annotation.get("kind") for answer in answers]
    labels = [(kind, tuple(words)) for kind, words in zip(kinds, references, strict=True)]
    commonest = _commonest(labels)
    n = len(answers)
    return [
        table_row("accuracy", sum(right) / n if n else None, majority_share(labels), n),
        table_row(
            "token_f1",
            _mean(map(_shared, references, said)),
            _mean(_shared(words, commonest[kind]) for kind, words in labels),
            n,
        ),
    ]


def said_count(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sum that accuracy divides by the number of answers."""
    return {"right": int(is_said(reference_of(answer.annotation), answer.hypothesis))}


def _commonest(labels: Iterable[tuple[Any, tuple[str, ...]]]) -> dict[Any, tuple[str, ...]]:
    counts = collections.defaultdict(collections.Counter)
    for kind, words in labels:
        counts[kind][words] += 1
    return {kind: counter.most_common(1)[0][0] for kind, counter in counts.items()}


def _shared(reference: Sequence[str], answer: Sequence[str]) -> float:
    """F1 of the words, each as often as it comes."""
    common = (collections.Counter(reference) & collections.Counter(answer)).total()
    total = len(reference) + len(answer)
    return 2 * common / total if total else 1.0


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
