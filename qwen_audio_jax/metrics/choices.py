"""Which of several choices an answer names: by the benchmarks' own rules, and by this project's.

A rule reads a choice or finds the answer unreadable. None draws one at random.
"""

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence

from qwen_audio_jax.metrics.text import squeezed
from qwen_audio_jax.metrics.voicebench import named_letter

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

RIGHT, WRONG, UNREADABLE = "right", "wrong", "unreadable"


@dataclasses.dataclass(frozen=True)
class Question:
    """One answered question.

    Attributes:
        choices: their texts, in the order of their letters.
        right: the index of the right one.
        answer: what the model said.
    """

    choices: Sequence[str]
    right: int
    answer: str


@dataclasses.dataclass(frozen=True)
class ChoiceScores:
    """Counts of a set and its accuracy, as fractions.

    Attributes:
        asked: how many questions; `right`, `wrong` and `unreadable` add up to it.
        official: as the benchmark's own script divides; None for a rule of no benchmark, or where
            the script divides by nothing.
        strict: right of all asked; None of none.
    """

    asked: int
    right: int
    wrong: int
    unreadable: int
    official: float | None
    strict: float | None


def choice_scores(rule: str, questions: Sequence[Question]) -> ChoiceScores:
    """Reads every answer by a rule.

    Args:
        rule: a key of RULES.
        questions: what was asked and answered.
    """
    if rule not in RULES:
        raise ValueError(f"no rule {rule!r} to read choices by; there are {', '.join(RULES)}")
    outcome, denominator = RULES[rule]
    found = collections.Counter(map(outcome, questions))
    asked, right = len(questions), found[RIGHT]
    divided_by = {"asked": asked, "readable": asked - found[UNREADABLE], "": 0}[denominator]
    return ChoiceScores(
        asked=asked,
        right=right,
        wrong=found[WRONG],
        unreadable=found[UNREADABLE],
        official=right / divided_by if divided_by else None,
        strict=right / asked if asked else None,
    )


def air_official(answer: str, choices: Sequence[str]) -> int | None:
    """AIR-Bench's rule (score_foundation.py): the first character, or else the last but one.

    It reads "A dog" as A and "Can't tell" as C. What it reads need not be among the choices.
    """
    del choices
    said = answer.strip().replace("\n", "")
    if not said or said == "None":
        return None
    place = "ABCD".find(said[0])
    if place < 0 and len(said) > 1:
        place = "ABCD".find(said[-2])
    return place if place >= 0 else None


_MARKS = r"""["'*_`(\[{<\s]*"""
_AFTER = r"""["'*_`)\]}>]"""
_LABEL = re.compile(rf"{_MARKS}([A-Za-z])(?:{_AFTER}*[.:)]{_AFTER}*|{_AFTER}+)(?=\s|$)")
_ALONE = re.compile(rf"{_MARKS}([A-Za-z]){_AFTER}*[.:,!]?{_AFTER}*\s*")
# What may follow a letter that is told: "The answer is A dog" and "... B-flat" tell none.
_PHRASE = re.compile(
    rf"\b(?:answer|choice|option)(?:\s+(?:is|would\s+be|should\s+be))?\s*:?"
    rf"\s*(?:(?:option|choice)\s+)?{_MARKS}([A-Za-z])"
    r"""(?:(?P<another>\s+(?:or|and)\b|\s*[/&]|,\s*(?-i:[A-Z])\b)|\s+(?:because|since)\b"""
    r"""|[.,:;!)\]}>*"`]|['’](?!\w)|\s*$|\s*\n)""",
    re.IGNORECASE,
)


def letter(answer: str, choices: Sequence[str]) -> int | None:
    """The letter, where one is named beyond doubt.

    It is alone ("B", "(B)", "**B**"), labels what begins ("B. a dog"), or is told in so many words
    ("The answer is B."). "A dog" names none, and two letters that differ name none.
    """
    # Squeezed, as in long runs of blanks the patterns would take long.
    lines = [squeezed(line) for line in answer.splitlines() if line.strip()]
    said = "\n".join(lines)
    if alone := _ALONE.fullmatch(said):
        return _index(alone[1], choices)
    labels = [_LABEL.match(line) for line in lines]
    told = list(_PHRASE.finditer(said))
    if any(phrase["another"] for phrase in told):
        return None
    found = {_index(match[1], choices) for match in (*labels, *told) if match}
    return found.pop() if len(found) == 1 else None


def _index(name: str, choices: Sequence[str]) -> int | None:
    place = LETTERS.find(name.upper())
    return place if place < len(choices) else None


def text(answer: str, choices: Sequence[str]) -> int | None:
    """The one choice whose own text is the answer, or stands in it.

    Without regard to upper and lower case, punctuation and articles. A choice inside a longer one
    that is named ("dog" in "dog barking") is not named itself.
    """
    whole = _whole(answer, choices)
    if whole is not None:
        return whole
    words_of = _reading(choices)
    said, wanted = words_of(answer), [words_of(choice) for choice in choices]
    spans = [
        (at, at + len(words), index)
        for index, words in enumerate(wanted)
        for at in _places(words, said)
    ]
    named = {
        index
        for start, end, index in spans
        if not any(a <= start and end <= b and end - start < b - a for a, b, _ in spans)
    }
    return min(named) if len({tuple(wanted[index]) for index in named}) == 1 else None


def _whole(answer: str, choices: Sequence[str]) -> int | None:
    """The choice that the answer is, to the letter or at least to the word."""
    for form in (str.strip, _reading(choices)):
        said = form(answer)
        same = [index for index, choice in enumerate(choices) if said and form(choice) == said]
        if same:
            return same[0] if len({choices[index] for index in same}) == 1 else None
    return None


# Chinese and Japanese have no spaces: there each character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def _words(said: str) -> list[str]:
    return _WORD.findall(said.casefold())


def _without_articles(said: str) -> list[str]:
    return [word for word in _words(said) if word not in ("a", "an", "the")]


def _reading(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """How texts become words: without articles, unless choices differ by those.

    "A minor" without its "A" would stand in "D minor".
    """
    for one, other in itertools.permutations(choices, 2):
        if _places(_without_articles(one), _without_articles(other)) and not _places(
            _words(one), _words(other)
        ):
            return _words
    return _without_articles


def _places(words: list[str], said: list[str]) -> list[int]:
    """Where the words stand in what was said, one after another."""
    n = len(words)
    return [i for i in range(len(said) - n + 1) if said[i : i + n] == words] if words else []


def letter_then_text(answer: str, choices: Sequence[str]) -> int | None:
    """The letter if one is named, or else the text: this project's rule.

    Where a choice's text is itself a letter ("A" as a key of music), an answer that is that text
    and another choice's letter names none.
    """
    by_letter = letter(answer, choices)
    if by_letter is None:
        return text(answer, choices)
    whole = _whole(answer, choices)
    return by_letter if whole in (None, by_letter) else None


def token_set(question: Question) -> str:
    """MMAU's and MMAR's rule (evaluation.py): a comparison of sets of words, in lower case.

    Right if all words of the right choice are in the answer, and none that only other choices
    have. It reads no letters. An answer without a word is unreadable, and counts as wrong there.
    """
    said = _word_set(question.answer)
    wanted = _word_set(question.choices[question.right])
    others = set().union(*map(_word_set, question.choices)) - wanted
    if not said:
        return UNREADABLE
    return RIGHT if wanted <= said and not said & others else WRONG


def _word_set(said: str) -> set[str]:
    return set(re.findall(r"\w+", said.lower()))


def _air(question: Question) -> str:
    """AIR-Bench's outcome: right is the first choice of the right text alone."""
    found = air_official(question.answer, question.choices)
    if found is None:
        return UNREADABLE
    first = list(question.choices).index(question.choices[question.right])
    return RIGHT if found == first else WRONG


def _mmsu(question: Question) -> str:
    """MMSU's rule (mmsu_evaluation.py): AIR-Bench's, but an answer of nothing is wrong.

    The released script gives such an answer the letter that it read last, whoever's that was.
    """
    said = question.answer.strip().replace("\n", "")
    return _read_by(air_official)(question) if said and said != "None" else WRONG


def _voicebench(answer: str, choices: Sequence[str]) -> int | None:
    """VoiceBench's patterns (mcq.py), without its random letter for what they do not find."""
    del choices
    found = named_letter(answer)
    return None if found is None else LETTERS.index(found)


Reader = Callable[[str, Sequence[str]], int | None]


def _read_by(read: Reader) -> Callable[[Question], str]:
    def outcome(question: Question) -> str:
        found = read(question.answer, question.choices)
        if found is None:
            return UNREADABLE
        # A choice that is listed twice is right by either letter.
        said = question.choices[found] if found < len(question.choices) else None
        return RIGHT if said == question.choices[question.right] else WRONG

    return outcome


RULES: dict[str, tuple[Callable[[Question], str], str]] = {
    "letter_then_text": (_read_by(letter_then_text), ""),
    "letter": (_read_by(letter), ""),
    "text": (_read_by(text), ""),
    "air_official": (_air, "readable"),
    "mmsu_official": (_mmsu, "readable"),
    "token_set": (token_set, "asked"),
    "voicebench": (_read_by(_voicebench), "asked"),
}
"""By name: what a rule makes of an answered question, and what the benchmark's script divides by.

VoiceBench's script also counts the quarter of unreadable answers that its random letters hit.
"""
