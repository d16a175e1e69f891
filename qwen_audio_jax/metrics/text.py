"""Text as the scorers see it: without tags, spaced as the original scripts space it."""

import re

# Written without spaces between words, so a "word" there would be a whole sentence. The released
# Qwen-Audio script scores zh by character and the Qwen2-Audio script zh and yue; ja and th are this
# project's addition, for the same reason.
CHARACTER_LANGUAGES = frozenset({"zh", "yue", "ja", "th"})

_TAG = re.compile(r"<\|.*?\|>")
_SPACE_BEFORE_PUNCTUATION = re.compile(r" ([!,.?;:])")


def base_language(code: object) -> str:
    """`zh-CN`, `zh_tr` and `ZH` are all "zh"; anything that is no code is ""."""
    return re.split("[-_]", code.strip().lower())[0] if isinstance(code, str) else ""


def without_tags(text: str) -> str:
    """Replaces every tag by a space, squeezes white space, drops a space before `! , . ? ; :`.

    Step 1 of the released evaluation scripts (Qwen-Audio, eval_audio/evaluate_asr.py).
    """
    text = " ".join(_TAG.sub(" ", text).split())
    return _SPACE_BEFORE_PUNCTUATION.sub(r"\1", text).strip()


def squeezed(value: object) -> str:
    """A value as text, with single spaces between its words and none around it."""
    return " ".join(str(value).split())


def scoring_text(text: str, language: object) -> str:
    """Lower-cased and spaced as the scripts space it; without spaces in CHARACTER_LANGUAGES.

    Punctuation stays, as in the Qwen-Audio script.
    """
    words = without_tags(text).lower().split()
    return ("" if base_language(language) in CHARACTER_LANGUAGES else " ").join(words)


def scoring_units(text: str, language: object) -> list[str]:
    """Words of `scoring_text`, or characters for CHARACTER_LANGUAGES, as word error rates count.

    A character is one Unicode code point.
    """
    text = scoring_text(text, language)
    return list(text) if base_language(language) in CHARACTER_LANGUAGES else text.split()
