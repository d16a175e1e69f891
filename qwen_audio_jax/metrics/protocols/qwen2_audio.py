"""Units as Qwen2-Audio's eval_audio/evaluate_asr.py counts them, its unplanned effects too.

English passes through both of Whisper's normalisers, since the script's second `if` is no `elif`;
so money and percent signs vanish. Cantonese is made simplified, and then has Whisper's basic
normaliser, not the Chinese one, so its digits stay digits.
"""

import unicodedata

from qwen_audio_jax.metrics.protocols.cantonese import simplified
from qwen_audio_jax.metrics.protocols.speechio import spoken_chinese
from qwen_audio_jax.metrics.protocols.whisper import basic_text, english_text
from qwen_audio_jax.metrics.text import CHARACTER_LANGUAGES, base_language, without_tags


def script_units(text: str, language: object) -> list[str]:
    """Words, or characters for CHARACTER_LANGUAGES, of which the script has zh and yue.

    Raises:
        ValueError: for yue, where zhconv is not installed.
    """
    code = base_language(language)
    words = [word for word in _normalised(text, code).split(" ") if not _is_punctuation(word)]
    units = " ".join(words).lower().split()
    return list("".join(units)) if code in CHARACTER_LANGUAGES else units


def _normalised(text: str, code: str) -> str:
    text = without_tags(text)
    if code == "zh":
        return spoken_chinese("".join(text.split()))
    if code == "yue":
        text = simplified(text)
    elif code == "en":
        text = english_text(text)
    return basic_text(text)


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)
