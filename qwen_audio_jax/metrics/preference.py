"""Answers to preference records: what is said to be heard and is not, and what is miscounted.

Read by fixed rules, in English. A denying word is one of DENIALS. A clause ends at a punctuation
mark or at "but". A clause names a sound if it has its name as a word, or that with an s.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from qwen_audio_jax.metrics.answer import Answer, table_row
from qwen_audio_jax.metrics.conversation import conversation, said_count, words_of

DENIALS = {
    *("no", "not", "none", "nothing", "nobody", "neither", "nor", "never", "without"),
    *("isnt", "arent", "wasnt", "dont", "doesnt", "didnt", "cannot", "cant"),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CLAUSE = re.compile(r"[.,;:!?\n]|\bbut\b")


def hallucinates(answer: str, absent: Sequence[str]) -> bool:
    """Whether an answer says that something is heard which is not.

    It begins with "yes" and denies nothing, or a clause without a denying word names one of them.

    Args:
        answer: to a question about one of `absent`.
        absent: names of what no clip holds.
    """
    words = words_of(answer)
    if words[:1] == ["yes"] and not DENIALS.intersection(words):
        return True
    return any(
        _names(clause, absent) and not DENIALS.intersection(clause) for clause in _clauses(answer)
    )


def misses(answer: str, present: Sequence[str]) -> bool:
    """Whether an answer denies what is heard.

    It begins with "no", or a clause with a denying word names one of them.

    Args:
        answer: to a question about one of `present`.
        present: names of what the clips hold.
    """
    return words_of(answer)[:1] == ["no"] or any(
        _names(clause, present) and DENIALS.intersection(clause) for clause in _clauses(answer)
    )


def undecided(answer: str, names: Sequence[str]) -> bool:
    """Whether an answer to a question about one of these sounds neither affirms nor denies it.

    It does neither of what the two above look for: it may be a fragment, or tell of other sounds.
    """
    return not hallucinates(answer, names) and not misses(answer, names)


def says_count(answer: str, count: int) -> bool:
    """Whether the numbers in an answer, in digits or as a word up to ten, are all this one."""
    found = {
        NUMBERS.index(word) if word in NUMBERS else int(word)
        for word in words_of(answer)
        if word in NUMBERS or re.fullmatch("[0-9]{1,9}", word)
    }
    return found == {count}


def preference(answers: list[Answer]) -> list[dict[str, Any]]:
    """Rows of `conversation`, the chosen answer being the reference; and where records tell of it:

    "hallucinations", of those with `absent`, how many answers say that it is heard;
    "missed_sounds", of those with `present`, how many deny it;
    "undecided", of both, how many do neither;
    "wrong_counts", of those with `count`, how many do not say that number.

    Baseline: of the first two, who says yes as often as that is right; of the last, the commonest
    number.
    """
    rows = conversation([_as_talk(answer) for answer in answers])
    absent, present, counted = (
        [answer for answer in answers if answer.annotation.get(field) is not None]
        for field in ("absent", "present", "count")
    )
    asked = len(absent) + len(present)
    if absent:
        share = _share(absent, lambda a: hallucinates(a.hypothesis, a.annotation["absent"]))
        rows.append(table_row("hallucinations", share, len(present) / asked, len(absent)))
    if present:
        share = _share(present, lambda a: misses(a.hypothesis, a.annotation["present"]))
        rows.append(table_row("missed_sounds", share, len(absent) / asked, len(present)))
    if either := [answer for answer in answers if _asked_about(answer)]:
        share = _share(either, lambda a: undecided(a.hypothesis, _asked_about(a)))
        rows.append(table_row("undecided", share, 0.0, len(either)))
    if counted:
        share = _share(counted, lambda a: not says_count(a.hypothesis, a.annotation["count"]))
        counts = [answer.annotation["count"] for answer in counted]
        commonest = max(map(counts.count, counts))
        rows.append(table_row("wrong_counts", share, 1 - commonest / len(counts), len(counts)))
    return rows


def _asked_about(answer: Answer) -> list[str]:
    """The sounds one of which is asked about, heard or not."""
    known = (answer.annotation.get(field) for field in ("absent", "present"))
    return [name for names in known for name in names or ()]


def preferred_count(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sum that accuracy divides by the number of answers."""
    return said_count(_as_talk(answer))


def _as_talk(answer: Answer) -> Answer:
    chosen = {"role": "assistant", "content": answer.annotation["chosen"]}
    messages = [*answer.annotation["messages"], chosen]
    return Answer(answer.annotation | {"messages": messages}, answer.hypothesis)


def _share(answers: list[Answer], is_so: Callable[[Answer], bool]) -> float:
    return sum(map(is_so, answers)) / len(answers)


def _clauses(answer: str) -> list[list[str]]:
    return [words_of(clause) for clause in _CLAUSE.split(answer.casefold()) if clause.strip()]


def _names(clause: Sequence[str], names: Sequence[str]) -> bool:
    text = f" {' '.join(clause)} "
    spoken = (" ".join(words_of(name)) for name in names)
    return any(f" {name} " in text or f" {name}s " in text for name in spoken)
