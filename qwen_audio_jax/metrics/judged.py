"""Scores that a judge gives an answer beside the reference, asked in both orders.

A judge prefers a place: in AIR-Bench's first results with one order that was worth a point (its
issue 3). So each answer is judged twice, once behind the reference and once before it.
"""

import dataclasses
import re
from collections.abc import Sequence

LEAST, MOST = 1, 10
"""What a judge may give, whole numbers from one to the other."""

Scores = tuple[int, int]
"""Of the first and of the second that a judge was shown."""

_TWO = re.compile(r"\s*([0-9]{1,2})[ \t]+([0-9]{1,2})\s*")


def two_scores(reply: str) -> Scores | None:
    """The scores that a reply consists of; None where it has other words or numbers too.

    Nothing is looked for in a longer reply: "9 of 10 points" would give two numbers as well.
    """
    found = _TWO.fullmatch(reply)
    if found is None:
        return None
    first, second = map(int, found.groups())
    return (first, second) if all(LEAST <= one <= MOST for one in (first, second)) else None


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a judge gave one answer.

    Attributes:
        reference_first: the scores where the reference came first; None where they were not read.
        answer_first: those where the answer did.
    """

    reference_first: Scores | None
    answer_first: Scores | None

    @property
    def is_read(self) -> bool:
        """Whether both orders were; an answer with one alone has no score."""
        return self.reference_first is not None and self.answer_first is not None

    @property
    def given(self) -> tuple[int | None, int | None]:
        """The answer's own scores."""
        behind = None if self.reference_first is None else self.reference_first[1]
        before = None if self.answer_first is None else self.answer_first[0]
        return behind, before

    def score(self, unread: int = 0) -> float:
        """The answer's score.

        Args:
            unread: stands for a score that was not read.
        """
        return sum(unread if one is None else one for one in self.given) / 2


@dataclasses.dataclass(frozen=True)
class JudgedScores:
    """What a judge gave many answers.

    Attributes:
        n: answers that were read in both orders, of which are value, reference, flip_rate and
            first_place.
        value: mean score of the answers; None of none, as the next ones.
        reference: mean score of the references.
        flip_rate: the share of answers that win in one order and lose in the other.
        first_place: mean score of what came first, less that of what came second.
        lowest, highest: the mean of all answers if whatever was not read were the least or the most
            that a judge may give; None of no answers.
    """

    n: int
    value: float | None
    reference: float | None
    flip_rate: float | None
    first_place: float | None
    lowest: float | None
    highest: float | None


def judged_scores(judged: Sequence[Judged]) -> JudgedScores:
    """Of answers in any order."""
    orders = [
        (one.reference_first, one.answer_first)
        for one in judged
        if one.reference_first is not None and one.answer_first is not None
    ]
    return JudgedScores(
        n=len(orders),
        value=_mean([(a[1] + b[0]) / 2 for a, b in orders]),
        reference=_mean([(a[0] + b[1]) / 2 for a, b in orders]),
        flip_rate=_mean([float((a[1] - a[0]) * (b[0] - b[1]) < 0) for a, b in orders]),
        first_place=_mean([(a[0] - a[1] + b[0] - b[1]) / 2 for a, b in orders]),
        lowest=_mean([one.score(LEAST) for one in judged]),
        highest=_mean([one.score(MOST) for one in judged]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
