"""Signs that answers are ill in a way that a score does not tell: cut, looping, deaf to the audio.

None of them changes a score, and none is a matter of taste: each is a rule that is written here,
and leaves alone what a right answer may say.
"""

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Sequence

from qwen_audio_jax.evaluation.loops import is_looping
from qwen_audio_jax.evaluation.scripts import is_decidable, is_wrong_script
from qwen_audio_jax.metrics.protocols import preamble
from qwen_audio_jax.metrics.text import without_tags

EMPTY, TRUNCATED, LOOPING = "empty", "truncated", "looping"
PREAMBLE, WRONG_LANGUAGE = "preamble", "wrong_language"
SIGNS = (EMPTY, TRUNCATED, LOOPING, PREAMBLE, WRONG_LANGUAGE)
"""What may be the matter with one answer."""


@dataclasses.dataclass(frozen=True)
class Given:
    """An answer that a model has given.

    Attributes:
        text: what it says, up to its end token.
        reference: what it should say.
        language: what that is written in, by its code; "" where it is not known.
        truncated: whether the model was stopped before it wrote an end token.
        audio: equal where the clips are, such as a digest; None where it is not known.
    """

    text: str
    reference: str = ""
    language: str = ""
    truncated: bool = False
    audio: Hashable | None = None


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of how many."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The fraction; None of nothing."""
        return self.count / self.of if self.of else None


def health(answers: Sequence[Given]) -> dict[str, Share]:
    """The share of the answers that has each of SIGNS, by name.

    That of a wrong language is of those of which it can be told, see `is_wrong_script`.
    """
    found = collections.Counter(itertools.chain.from_iterable(map(signs, answers)))
    decidable = sum(is_decidable(one.reference, one.language) for one in answers)
    return {
        name: Share(found[name], decidable if name == WRONG_LANGUAGE else len(answers))
        for name in SIGNS
    }


def signs(answer: Given) -> list[str]:
    """Which of SIGNS an answer has, in their order."""
    has = {
        EMPTY: not without_tags(answer.text),
        TRUNCATED: answer.truncated,
        LOOPING: is_looping(answer.text),
        PREAMBLE: _has_preamble(answer),
        WRONG_LANGUAGE: is_wrong_script(answer.text, answer.reference, answer.language),
    }
    return [name for name in SIGNS if has[name]]


def _has_preamble(answer: Given) -> bool:
    """Where the reference begins so itself, it is none."""
    said, meant = (preamble(without_tags(text)) for text in (answer.text, answer.reference))
    return bool(said) and not meant


COMMONEST_LEAST = 10
"""Clips, below which nothing is said of one answer for all."""
COMMONEST_EXCESS = 0.25
"""How much more of the clips may get one answer than have one reference."""


@dataclasses.dataclass(frozen=True)
class Commonest:
    """The answer that most clips get, whatever is heard.

    Attributes:
        text: the answer.
        answers: how many of the differing clips get it.
        references: how many clips have the commonest reference, which is as it should be.
    """

    text: str
    answers: Share
    references: Share

    @property
    def is_suspicious(self) -> bool:
        """Whether the audio seems not to be heard: 25 % of the clips or more get the one answer
        beyond those that may, for 10 clips at least.
        """
        excess = self.answers.count - self.references.count
        return self.answers.of >= COMMONEST_LEAST and excess >= COMMONEST_EXCESS * self.answers.of


def commonest_answer(answers: Iterable[Given]) -> Commonest | None:
    """Which answer the most of differing clips get; None where no clip is known.

    Texts are equal but for case and blanks. Of several equally common ones it is the first.
    """
    known = [one for one in answers if one.audio is not None]
    if not known:
        return None
    clips = len({one.audio for one in known})
    said, most_said = _most_clips((one.text, one.audio) for one in known)
    _, most_meant = _most_clips((one.reference, one.audio) for one in known)
    return Commonest(said, Share(most_said, clips), Share(most_meant, clips))


def _most_clips(pairs: Iterable[tuple[str, Hashable]]) -> tuple[str, int]:
    """The text that the most clips have, and how many."""
    clips: dict[str, set[Hashable]] = collections.defaultdict(set)
    texts: dict[str, str] = {}
    for text, audio in pairs:
        key = " ".join(text.casefold().split())
        texts.setdefault(key, text)
        clips[key].add(audio)
    most = max(clips, key=lambda key: len(clips[key]))
    return texts[most], len(clips[most])
