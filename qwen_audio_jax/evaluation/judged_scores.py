"""Rows of judges' scores, of their replies on disk alone."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.item_counts import Counts
from qwen_audio_jax.evaluation.judge_calls import Replies, signature_of
from qwen_audio_jax.evaluation.plan import Planned
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.judged import LEAST, MOST, judged_scores
from qwen_audio_jax.metrics.scales import scale_of

Pair = tuple[Planned, Answered]

_BOARD = (("speech",), ("sound",), ("music",), ("speech_and_sound", "speech_and_music"))
"""The groups of AIR-Bench's board, whose mean is its average; the last are "mixed"."""


def judged_groups(items: Sequence[Planned]) -> Iterator[tuple[str, list[Planned]]]:
    """(what a row's name ends in, items) of all items, and of each group if they name several."""
    yield "", list(items)
    by_group = collections.defaultdict(list)
    for item in items:
        if group := item.annotation.get("group"):
            by_group[group].append(item)
    for group in sorted(by_group) if len(by_group) > 1 else ():
        yield f"/{group}", by_group[group]


def judged_row(
    replies: Replies, ending: str, pairs: Sequence[Pair]
) -> tuple[dict[str, Any], Counts | None]:
    """A row, and what each answer adds to the sums of its score, for the interval.

    Beside what `JudgedScores` has, "unreadable" and "judge_failed" count answers of which a reply
    is not two scores, or a call failed; with n they are all that was judged. "unjudged" counts
    answers that it was not asked about yet: then there is no score. "official", of all items, is
    the mean of the makers' four groups.

    Args:
        replies: of one judge.
        ending: see `judged_groups`.
        pairs: items with their answers.
    """
    judged = [replies.judged(item, one.text) for item, one in pairs]
    held = collections.Counter(_held(replies, *pair) for pair in pairs)
    found = judged_scores(judged)
    row = table_row(f"judged/{replies.model}{ending}", found.value, None, found.n)
    row |= {
        "judge": replies.model,
        "reference": found.reference,
        "unreadable": held["unreadable"],
        "judge_failed": held["judge_failed"],
        "lowest": found.lowest,
        "highest": found.highest,
        "flip_rate": found.flip_rate,
        "first_place": found.first_place,
        "signature": signature_of(replies.model),
    }
    if not ending:
        row["official"] = _board_mean(replies, pairs)
    if held["unjudged"]:
        # All scores are floats: no number is made of a part of the answers.
        without = {name: None if isinstance(one, float) else one for name, one in row.items()}
        return without | {"n": 0, "unjudged": held["unjudged"]}, None
    return row, [(one.score(), 1.0) if one.is_read else (0.0, 0.0) for one in judged]


def _held(replies: Replies, item: Planned, answered: Answered) -> str:
    """What has come of judging an answer."""
    both = replies.of(item, answered.text)
    if None in both:
        return "unjudged"
    if any(one.finish == FAILED for one in both if one):
        return "judge_failed"
    return "read" if replies.judged(item, answered.text).is_read else "unreadable"


def _board_mean(replies: Replies, pairs: Sequence[Pair]) -> float | None:
    """None where a group has no answer that was read."""
    by_group = collections.defaultdict(list)
    for item, one in pairs:
        by_group[item.annotation.get("group")].append(replies.judged(item, one.text))
    means = [[judged_scores(by_group[group]).value for group in column] for column in _BOARD]
    if any(mean is None for column in means for mean in column):
        return None
    return sum(sum(column) / len(column) for column in means) / len(means)


def judge_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence on each judge of a benchmark: what its score alone does not tell."""
    notes = []
    for row in rows:
        if "judge" not in row or row["metric"] != f"judged/{row['judge']}":
            continue
        told = f"{row['benchmark']}, judged by {row['judge']}: "
        if row.get("unjudged"):
            told += f"{row['unjudged']:,} answers are not judged yet, so there is no score; "
            notes.append(told + "--stage=judge goes on")
            continue
        scale = scale_of(row["metric"])
        told += f"the references get {scale.text(row['reference'])}; "
        told += f"{row['unreadable']:,} answers have replies that are not two scores, "
        told += f"{row['judge_failed']:,} calls that failed"
        if row["unreadable"] + row["judge_failed"]:
            within = scale.text(row["lowest"]), scale.text(row["highest"])
            told += (
                f" (all of them given {LEAST} or {MOST}, the score would be {' or '.join(within)})"
            )
        if row["flip_rate"] is not None:
            told += f"; the order changes who wins in {100 * row['flip_rate']:.1f} %"
        if row["official"] is not None:
            told += f"; the mean of the makers' groups is {scale.text(row['official'])}"
        notes.append(told)
    return notes
