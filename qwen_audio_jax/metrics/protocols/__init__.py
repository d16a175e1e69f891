"""Word error rates under named protocols: which units a text has, and how they are counted.

Rates of two protocols do not compare: v2's English has no punctuation, v1's does.
"""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Iterable

from qwen_audio_jax.metrics.protocols.cantonese import require_zhconv, zhconv_version
from qwen_audio_jax.metrics.protocols.edits import EditCounts, count_edits, error_rate
from qwen_audio_jax.metrics.protocols.plain import plain_units
from qwen_audio_jax.metrics.protocols.preambles import preamble, quoted
from qwen_audio_jax.metrics.protocols.qwen2_audio import script_units
from qwen_audio_jax.metrics.text import CHARACTER_LANGUAGES, base_language, scoring_units
from qwen_audio_jax.rendering.language_codes import UNKNOWN, language_code

__all__ = ["PROTOCOLS", "EditCounts", "Protocol", "check", "error_rate", "preamble", "quoted"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to score transcripts.

    Attributes:
        name: its key in PROTOCOLS.
        units: of a text in a language (a code, or None), what edits are counted in: words, or code
            points for CHARACTER_LANGUAGES.
        normaliser: what is done to a text first, with the versions that it depends on.
    """

    name: str
    units: Callable[[str, object], list[str]]
    normaliser: str

    @property
    def signature(self) -> str:
        """All that a rate depends on but the texts: equal signatures, comparable rates."""
        by_character = "+".join(sorted(CHARACTER_LANGUAGES))
        unit = f"unit:word,{by_character}:character"
        return f"wer:{self.name}|{self.normaliser}|{unit}|rapidfuzz-{_version('rapidfuzz')}"

    def edit_counts(self, reference: str, hypothesis: str, language: object) -> EditCounts:
        """What one answer adds to the sums of `error_rate`. The language is the record's."""
        return count_edits(self.units(reference, language), self.units(hypothesis, language))


_version = functools.cache(importlib.metadata.version)

_V2 = (
    "en:openai-whisper-c0d2f62+basic|zh:speechio-5d81cef|"
    f"yue:zhconv-{zhconv_version() or 'missing'}+basic|other:basic|"
    f"whisper-normalizer-{_version('whisper-normalizer')}"
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("v1", scoring_units, "tags-out,lower"),
        Protocol("v2", script_units, _V2),
        Protocol("plain", plain_units, "nfkc,lower,P-and-S-out,M-kept"),
    )
}
"""v1 is Qwen-Audio's script, and what the metric `wer` is; v2 Qwen2-Audio's; plain this project's,
which alone suits languages that are written with marks, as Hindi and Thai are."""


def check(protocol: str, languages: Iterable[object]) -> None:
    """Refuses what could not be scored, before anything is answered.

    Args:
        protocol: a key of PROTOCOLS.
        languages: of the records; None for one that names none.

    Raises:
        ValueError: there is no such protocol, a language is not written as the code that decides
            how it is counted, v2 is to score a record without a language, or Cantonese without
            zhconv.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; write one of {', '.join(PROTOCOLS)}")
    for language in dict.fromkeys(languages):
        _check_language(protocol, language)
        if protocol == "v2" and base_language(language) == "yue":
            require_zhconv()


def _check_language(protocol: str, language: object) -> None:
    if language in (None, "", UNKNOWN):
        if protocol == "v2":
            raise ValueError(
                "the protocol v2 normalises each language in its own way, and a record has no "
                "language; fill in its field language, or score by v1 or plain"
            )
        return
    try:
        code = language_code(str(language).strip())
    except ValueError as error:
        raise ValueError(f"field language: {error}") from None
    if base_language(code) != base_language(language):
        raise ValueError(f"field language: {language!r} is {code!r} in short; write that")
