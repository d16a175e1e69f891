"""What a label may call a language, and the one code that is written for it.

A code is a language's shortest of ISO 639 (`en`, `yue`), in lower case and without region or
script, so that one language has one tag. What else people write (BCP 47's `en-US`, ISO 639-3's
`eng`, withdrawn codes such as `iw`, names in English or in the language itself) is read by CLDR,
where it has one reading.
"""

import difflib
import functools
import re
import unicodedata
from collections.abc import Collection

from babel import Locale
from babel.core import get_global
from babel.languages import get_official_languages

from qwen_audio_jax.text.control_tokens import is_language_tag
from qwen_audio_jax.text.tokenizer import Tokenizer

UNKNOWN = "unknown"
_TRADITIONAL_CHINESE = "zh_tr"  # a tag of Qwen-Audio's vocabulary
# Parts of a macrolanguage that Common Voice has by their own codes: CLDR would read `ku` and `kv`.
_OWN = frozenset({"kmr", "kpv"})
# Languages before which BCP 47 may write another's code: `zh-yue`.
_EXTENDED = frozenset({"ar", "kok", "lv", "ms", "sw", "uz", "zh"})
_CANTONESE_TOO = frozenset({"HK", "MO"})
_USUAL_NAMES = {
    "mandarin": "zh",
    "mandarin chinese": "zh",
    "汉语": "zh",
    "普通话": "zh",
    "farsi": "fa",
}
_BY_THEMSELVES = """
    ar bg bn ca cs da el es et eu fa fi fr gl he hi hr hu id it ja ko lt lv mr ms nb nl
    nn no pl pt ro ru sk sl sr sv sw ta te th tr uk ur vi yue zu"""
_SHOWN = 40
# What text models' vocabularies call so, as `<|end|>`, is none of the small languages of that code.
_OTHER_TOKENS = frozenset({"end", "pad", "sep", "unk"})


@functools.lru_cache(maxsize=4096)
def language_code(text: str) -> str:
    """The code of the language that a text names; `unknown` is one of them.

    Args:
        text: without blanks at its ends.

    Raises:
        ValueError: it names none, or more than one; the sentence goes on after the field's name.
    """
    if text in (UNKNOWN, _TRADITIONAL_CHINESE) or (_is_code(text) and _subtag(text) == text):
        readings = {text}
    elif text.lower().replace("-", "_") == _TRADITIONAL_CHINESE:
        readings = {_TRADITIONAL_CHINESE}
    else:
        # NaN is what tables write for nothing; `nan` is a language.
        readings = _of_tag(text) | _of_name(text) if text != "NaN" else set()
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    if len(readings) == 1:
        code = next(iter(readings))
        if is_language_tag(f"<|{code}|>"):
            return code
        raise ValueError(f"{shown} is the name of a control token here; write {UNKNOWN!r}")
    if readings:
        raise ValueError(f"{shown} may be {_either(readings)}; write one of them")
    near = _near(text)
    hint = f"did you mean {_either(near)}?" if near else f"write one code, as 'en', or {UNKNOWN!r}"
    raise ValueError(f"{shown} names no language of ISO 639; {hint}")


def tagged_languages(tokenizer: Tokenizer) -> list[str]:
    """The codes of the languages that a vocabulary has a tag for, in order."""
    codes = (tag[2:-2] for tag in filter(is_language_tag, tokenizer.control_ids))
    return sorted(code for code in codes if code == _TRADITIONAL_CHINESE or _is_told(code))


def _is_told(code: str) -> bool:
    return _subtag(code) == code and code not in _OTHER_TOKENS


def _is_code(text: str) -> bool:
    return 2 <= len(text) <= 3 and text.isascii() and text.isalpha() and text.islower()


@functools.cache
def _known() -> frozenset[str]:
    """The codes of two and three letters that CLDR has a name or a usual script for."""
    codes = {key.partition("_")[0] for key in get_global("likely_subtags")}
    return frozenset(filter(_is_code, codes.union(Locale("en").languages, _OWN)))


@functools.lru_cache(maxsize=4096)
def _subtag(code: str) -> str:
    """What is written for a code of two or three letters; "" if it is no language's."""
    if code == "und":
        return UNKNOWN
    alias = get_global("language_aliases").get(code, "").partition("_")[0]
    named = code in Locale("en").languages or code in _OWN
    if alias and not named and (len(code) == 2 or len(alias) == 2):
        return alias
    return code if alias or code in _known() else ""


def _of_tag(text: str) -> set[str]:
    """Readings as a tag of BCP 47, in any case, with `-` or `_`."""
    first, *rest = re.split("[-_]", text.lower())
    code = _subtag(first) if _is_code(first) else ""
    if rest and first in _EXTENDED and len(rest[0]) == 3 and _is_code(rest[0]):
        code = _subtag(rest.pop(0))
    readings = {code} - {""}
    english = Locale("en")
    for part in rest:
        if part.upper() in english.territories and len(part) < 4:
            readings |= _second_reading(text, code, part)
        elif part.title() not in english.scripts and not re.fullmatch(
            r"[a-z0-9]{5,8}|[0-9][a-z0-9]{3}", part
        ):
            return set()
    return readings


def _second_reading(text: str, code: str, region: str) -> set[str]:
    """What a region may mean beside where the language is spoken."""
    if code == "zh" and region.upper() in _CANTONESE_TOO:
        return {"yue"}
    # `en_de` may be a pair of languages, `pt_br` and `en-DE` are not.
    pair = _is_code(region) and text.endswith(region) and _subtag(region) not in ("", code)
    spoken = get_official_languages(region.upper(), regional=True, de_facto=True)
    if pair and code not in {name.partition("_")[0] for name in spoken}:
        return {_subtag(region)}
    return set()


def _of_name(text: str) -> set[str]:
    """Readings as a name: in English, else in the languages of the prompts or in itself."""
    name = _plain(text)
    if name in _USUAL_NAMES:
        return {_USUAL_NAMES[name]}
    return set(_english_names().get(name) or _further_names().get(name) or ())


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@functools.cache
def _english_names() -> dict[str, Collection[str]]:
    return _codes_by_name(Locale("en").languages.items())


@functools.cache
def _further_names() -> dict[str, Collection[str]]:
    """Of all languages in Chinese and German, and of some in themselves."""
    found = [*Locale("zh").languages.items(), *Locale("de").languages.items()]
    found += [(code, Locale(code).languages.get(code, code)) for code in _BY_THEMSELVES.split()]
    return _codes_by_name(found)


def _codes_by_name(pairs) -> dict[str, Collection[str]]:
    names: dict[str, set[str]] = {}
    for tag, name in pairs:
        if code := _subtag(tag.partition("_")[0]):
            names.setdefault(_plain(name), set()).add(code)
    return names


def _near(text: str) -> set[str]:
    """Codes that may have been meant: those of a country's languages, or of a name much like it."""
    if len(text) == 2 and text.upper() in Locale("en").territories:
        return {
            n.partition("_")[0] for n in get_official_languages(text.upper(), de_facto=True)[:1]
        }
    names = _english_names()
    close = difflib.get_close_matches(_plain(text[:_SHOWN]), names, n=1, cutoff=0.8)
    return set().union(*(names[name] for name in close))


def _either(codes: Collection[str]) -> str:
    return " or ".join(map(repr, sorted(codes)))
