"""A normaliser for every language alike, which keeps the marks that words are spelled with."""

import unicodedata

from qwen_audio_jax.metrics.text import CHARACTER_LANGUAGES, base_language, without_tags


class _PunctuationToSpaces(dict[int, int]):
    """A table for `str.translate` that looks each character up when it first comes."""

    def __missing__(self, code_point: int) -> int:
        is_out = unicodedata.category(chr(code_point))[0] in "PS"
        self[code_point] = ord(" ") if is_out else code_point
        return self[code_point]


_TO_SPACES = _PunctuationToSpaces()


def plain_units(text: str, language: object) -> list[str]:
    """Words, or characters (code points) for CHARACTER_LANGUAGES.

    NFKC, lower case, a space for punctuation (P*) and symbols (S*). Marks (M*) stay, but those that
    stand on nothing: NFKC makes a space and a mark of the accent that some type for an apostrophe.
    """
    text = unicodedata.normalize("NFKC", without_tags(text)).lower()
    # Once more, since a capital may become a letter with a mark apart.
    text = unicodedata.normalize("NFKC", text).translate(_TO_SPACES)
    words = [word for word in map(_standing, text.split()) if word]
    return list("".join(words)) if base_language(language) in CHARACTER_LANGUAGES else words


def _standing(word: str) -> str:
    start = 0
    while start < len(word) and unicodedata.category(word[start]).startswith("M"):
        start += 1
    return word[start:]
