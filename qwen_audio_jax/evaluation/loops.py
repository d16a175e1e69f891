"""Answers that end in a loop."""

import re
from collections.abc import Sequence

from qwen_audio_jax.evaluation.scripts import scripts_of

LEAST_WORDS = 30
"""How many words at an answer's end must repeat what was said just before them."""
_LETTERS_OF_A_WORD = 30
_WORD = re.compile(r"<\|.*?\|>|\w+|[^\w\s]")
_WITHOUT_SPACES = frozenset({"Han", "Kana", "Thai", "Laoo", "Khmr", "Mymr"})


def is_looping(text: str) -> bool:
    """Whether an answer ends in a loop.

    It does if its last 30 words or more are each the word that stands p places before, for some p
    of which they are twice as many at least: something is said three times or more, and at such
    length. So "no no no no" is none, nor a refrain of eight words sung four times. The last word
    may be cut off.

    A tag and a punctuation mark are words here; so are letters in scripts without spaces, and in
    what has too many of them to be a word ("aaaa ...").
    """
    words = _words(text)
    return _is_periodic(words) or _is_periodic(words[:-1])


def _words(text: str) -> list[str]:
    words = []
    for word in _WORD.findall(text.casefold()):
        by_letter = len(word) > _LETTERS_OF_A_WORD or scripts_of(word) & _WITHOUT_SPACES
        if by_letter and not word.startswith("<|"):
            words += word
        else:
            words.append(word)
    return words


def _is_periodic(words: Sequence[str]) -> bool:
    last = len(words) - 1
    for period in range(1, len(words) // 3 + 1):
        repeated = 0
        while (
            repeated + period <= last and words[last - repeated] == words[last - repeated - period]
        ):
            repeated += 1
        if repeated >= max(LEAST_WORDS, 2 * period):
            return True
    return False
