"""OpenAI Whisper's two text normalisers, as openai/whisper had them at commit c0d2f62.

The code is whisper-normalizer 0.1.0's, which is OpenAI's unchanged. Its later versions rewrite more
words (`kinda`, `'cause`), and so do later ones of openai/whisper; both would move English rates.
"""

import functools

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

basic_text = BasicTextNormalizer()
"""Lower case, without what stands in brackets; NFKC, and a space for every mark, symbol and
punctuation mark. That takes the vowel signs out of Hindi, Thai and their like."""

_english = functools.cache(EnglishTextNormalizer)  # reads a spelling list of 58 kB


# Whoever scores a set whole, by language and by source asks for the same text again.
@functools.lru_cache(maxsize=1 << 16)
def english_text(text: str) -> str:
    """Numbers in digits, contractions written out, American spelling, no hesitations.

    A text on which OpenAI's code fails (a number of more than 4,300 digits, which Python does not
    read) comes back as it is.
    """
    try:
        return _english()(text)
    except (AssertionError, ValueError):
        return text
