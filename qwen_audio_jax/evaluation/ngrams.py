"""Which texts of a benchmark stand in a training corpus, by their n-grams.

As Brown et al. (2020, appendix C) clean GPT-3's benchmarks: an item is overlapped if any n-gram of
it is in the corpus, letter case and punctuation aside. They take n from 8 to 13 by how long the
texts of a benchmark are; here it is 13, and 8, their least, for a text of fewer than 13 words. Less
than 8 words tell nothing: people say "turn on the light" without having read it.
"""

import collections
import re
from collections.abc import Hashable, Iterable, Iterator

from qwen_audio_jax.metrics.protocols.plain import plain_units

LONG, SHORT = 13, 8
"""Words of an n-gram: of a text of that many, and of one of fewer."""
COMMON = 10
"""Texts of the benchmark that may share an n-gram; one of more of them is its wording, as an
instruction that stands in every question, and is left out."""

_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
# Words of scripts that are written without spaces would be sentences: there each is a character.
_UNIT = re.compile(f"[{_WITHOUT_SPACES}]|[^{_WITHOUT_SPACES}]+")


def units(text: str) -> list[str]:
    """A text's words, as the protocol `plain` has them; characters of Chinese, Japanese, Thai, Lao,
    Burmese and Khmer.
    """
    return [unit for word in plain_units(text, None) for unit in _UNIT.findall(word)]


def ngrams(words: list[str], n: int) -> Iterator[str]:
    """Each n words that follow one another."""
    return (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


class Texts:
    """The n-grams of a benchmark's texts, and which of them a corpus has."""

    def __init__(self, texts: Iterable[tuple[Hashable, str]]):
        """Args: texts: (whose it is, a text) of all that may be looked for, each one's together."""
        # Lists, of which most have one owner: sets would take thrice the memory.
        self._known: dict[str, list[Hashable]] = collections.defaultdict(list)
        held: collections.Counter[str] = collections.Counter()
        seen: set[str] = set()
        for owner, text in texts:
            words = units(text)
            if len(words) < SHORT:
                continue
            grams = set(ngrams(words, LONG if len(words) >= LONG else SHORT))
            if (whole := " ".join(words)) not in seen:
                seen.add(whole)
                held.update(grams)
            for gram in grams:
                if owner not in self._known[gram][-1:]:
                    self._known[gram].append(owner)
        for gram in [gram for gram, count in held.items() if count > COMMON]:
            del self._known[gram]
        self._of = collections.Counter(o for owners in self._known.values() for o in owners)
        self._found: dict[Hashable, set[str]] = collections.defaultdict(set)

    def look(self, text: str) -> set[Hashable]:
        """Looks through a text of the corpus; returns whose n-grams stand in it."""
        words = units(text)
        found: set[Hashable] = set()
        for n in (LONG, SHORT):
            for gram in ngrams(words, n):
                for owner in self._known.get(gram, ()):
                    found.add(owner)
                    self._found[owner].add(gram)
        return found

    def share(self, owner: Hashable) -> float | None:
        """How many of its n-grams were found, as a fraction; None if it has none."""
        return len(self._found[owner]) / self._of[owner] if owner in self._of else None
