"""Answers in letters that their language is not written in."""

import functools
import re
import unicodedata

from babel.core import get_global

from qwen_audio_jax.metrics.text import base_language, without_tags

_SCRIPTS = {
    "ARABIC": "Arab",
    "ARMENIAN": "Armn",
    "BENGALI": "Beng",
    "CJK": "Han",
    "CYRILLIC": "Cyrl",
    "DEVANAGARI": "Deva",
    "ETHIOPIC": "Ethi",
    "GEORGIAN": "Geor",
    "GREEK": "Grek",
    "GUJARATI": "Gujr",
    "GURMUKHI": "Guru",
    "HANGUL": "Hang",
    "HEBREW": "Hebr",
    "HIRAGANA": "Kana",
    "IDEOGRAPHIC": "Han",
    "KANNADA": "Knda",
    "KATAKANA": "Kana",
    "KHMER": "Khmr",
    "LAO": "Laoo",
    "LATIN": "Latn",
    "MALAYALAM": "Mlym",
    "MYANMAR": "Mymr",
    "SINHALA": "Sinh",
    "TAMIL": "Taml",
    "TELUGU": "Telu",
    "THAI": "Thai",
}
"""Scripts by the first word of their letters' names in Unicode; both kinds of kana are one."""

_WRITTEN_IN = {
    "Hans": {"Han"},
    "Hant": {"Han"},
    "Jpan": {"Han", "Kana"},
    "Kore": {"Hang", "Han"},
}
"""What CLDR calls by one name and letters do not."""

_SEVERAL_SCRIPTS = """
    az bm bs ha kk ku ky mn ms pa sd sh so sr tg tk tt ug uz za"""
"""Languages that people write in more than one script, of which CLDR names the commonest."""


_LETTERS = frozenset({"Lu", "Ll", "Lt", "Lo"})


def is_wrong_script(text: str, reference: str, language: str) -> bool:
    """Whether an answer has letters, and none of the script that its language is written in.

    Languages of one script are not told apart. So it is undecided, and False, where the language is
    unknown or has several scripts, and where the reference has no letter of its script either, as
    "OK" in Chinese.

    Args:
        text: the answer.
        reference: what it should be.
        language: the reference's, as "zh"; a region behind it does not count.
    """
    found = scripts_of(without_tags(text))
    expected = _scripts_of_language(base_language(language))
    return is_decidable(reference, language) and bool(found) and found.isdisjoint(expected)


def is_decidable(reference: str, language: str) -> bool:
    """Whether `is_wrong_script` can be told of answers to a reference."""
    expected = _scripts_of_language(base_language(language))
    return not scripts_of(without_tags(reference)).isdisjoint(expected)


@functools.cache
def _scripts_of_language(language: str) -> frozenset[str]:
    """The scripts of which its texts have letters; none where that is not known for sure."""
    # As en_Latn_US.
    script = get_global("likely_subtags").get(language, "").split("_")[1:2]
    if language in _SEVERAL_SCRIPTS.split() or not script:
        return frozenset()
    return frozenset(_WRITTEN_IN.get(script[0], script)) & frozenset(_SCRIPTS.values())


def scripts_of(text: str) -> frozenset[str]:
    """The scripts of a text's letters; "" for one that is not listed.

    Modifier letters, such as an apostrophe in Ukrainian, belong to many.
    """
    letters = set(unicodedata.normalize("NFKC", text))
    return frozenset(_script(c) for c in letters if unicodedata.category(c) in _LETTERS)


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return _SCRIPTS.get(re.split("[ -]", unicodedata.name(letter, ""))[0], "")
