"""What the controls of an evaluation came to: rows beside the scores, and what they tell."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.controls import (
    NO_AUDIO,
    PERMUTED_CHOICES,
    SHUFFLED_AUDIO,
    Control,
)
from qwen_audio_jax.evaluation.intervals import interval
from qwen_audio_jax.evaluation.item_counts import Counts
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Plan, Planned
from qwen_audio_jax.evaluation.scoring import (
    WAYS,
    Pair,
    cluster_of,
    given,
    question_of,
    way_of,
)
from qwen_audio_jax.evaluation.statistics import paired
from qwen_audio_jax.evaluation.summed_scores import value_of
from qwen_audio_jax.inference.answers import LENGTH
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.choices import LETTERS, Question, letter_then_text
from qwen_audio_jax.metrics.scales import scale_of

SAME_CHOICE = "same_choice"
"""The metric of how many answers name the choice they named, when that stands elsewhere."""

Row = dict[str, Any]
Key = tuple[str, str]
"""An item's benchmark and id."""


def with_controls(
    rows: Sequence[Row],
    plan: Plan,
    controls: Sequence[Control],
    answered: Mapping[str, Answered],
    options: Options,
) -> list[Row]:
    """The rows of evaluation.json, each score followed by what it is under the controls.

    Such a row's metric has the control behind a stroke, "accuracy/no_audio", and its name is
    "control". "score" is the score of the same items as they are, "difference" how much that is
    above the control's, with its interval, "difference_low" and "difference_high", from the same
    resamples of both. Without audio and with another's, "same_answers" are as they were.

    Of permuted choices each item counts by the share of its orders in which the answer is right;
    "right_in_every_order" is stricter. "letters" are the shares of each letter among all answers,
    "even_letters" what they are without a preference, "unreadable_answers" name none.

    Raises:
        ValueError: controls have no answer yet; the sentence says how many.
    """
    missing = sum(bool(one.item.key) and one.item.key not in answered for one in controls)
    if missing:
        raise ValueError(
            f"{missing:,} of {len(controls):,} controls have no answer yet; answer them first, "
            "with --stage=answer --controls"
        )
    beside: dict[tuple[str, str, str], list[Row]] = collections.defaultdict(list)
    items = {(item.benchmark, item.id): item for item in plan.items}
    alike: dict[tuple[str, str, str, str], list[Control]] = collections.defaultdict(list)
    for one in controls:
        alike[one.item.benchmark, one.item.task, way_of(one.item), one.name].append(one)
    for (benchmark, task, _, name), group in alike.items():
        rows_of = _permuted_rows if name == PERMUTED_CHOICES else _heard_rows
        for metric, row in rows_of(group, items, answered, options):
            told = {"benchmark": benchmark, "task": task} | row | {"control": name}
            beside[benchmark, task, metric].append(told)
    found = []
    for row in rows:
        found += [row, *beside.pop((row["benchmark"], row["task"], row["metric"]), [])]
    return found


def _heard_rows(
    controls: Sequence[Control],
    items: Mapping[Key, Planned],
    answered: Mapping[str, Answered],
    options: Options,
) -> list[tuple[str, Row]]:
    """(metric of the score, row) of a control that changes what is heard, of items that are scored
    alike.
    """
    name, item = controls[0].name, controls[0].item
    own, other = _both(controls, items, answered)
    options = dataclasses.replace(options, protocols=())
    scored = [WAYS[way_of(item)](item.task, pairs, options) for pairs in (own, other)]
    same = sum(a.text == b.text for (_, a), (_, b) in zip(own, other, strict=True))
    rows = []
    for (score, before), (row, counts) in zip(*scored, strict=True):
        metric = row["metric"]
        if "/" in metric or row.get("not_available"):
            continue
        told = table_row(f"{metric}/{name}", row["value"], None, row["n"])
        told |= _compared(metric, score["value"], row["value"], before, counts, own, options)
        told |= _accounts(controls, other, row["n"], row.get("unreadable", 0))
        told |= {"same_answers": same}
        rows.append((metric, told))
    return rows


def _both(
    controls: Sequence[Control],
    items: Mapping[Key, Planned],
    answered: Mapping[str, Answered],
) -> tuple[list[Pair], list[Pair]]:
    """What was answered as it is, and under the control: the same items, as both succeeded."""
    own, other = [], []
    for one in controls:
        pairs = given([items[one.item.benchmark, one.item.id], one.item], answered)
        if len(pairs) == 2:
            own.append(pairs[0])
            other.append(pairs[1])
    return own, other


def _accounts(controls: Sequence[Control], answers: Sequence[Pair], n: int, unreadable: int) -> Row:
    """What became of the items that were asked, as `scoring.score_rows` tells it; "truncated" are
    answers, of which an item may have several.
    """
    asked = len({one.item.id for one in controls})
    answered = len({item.id for item, _ in answers})
    return {
        "asked": asked,
        "scored": n - unreadable,
        "unreadable": unreadable,
        "failed": asked - answered,
        "left_out": answered - n,
        "truncated": sum(one.finish == LENGTH for _, one in answers),
    }


def _within(
    metric: str, counts: Counts | None, clusters: Sequence[str | None], options: Options
) -> Row:
    """A row's interval, where its metric has one."""
    return interval(metric, np.array(counts), clusters, options) if counts and options.draws else {}


def _compared(
    metric: str,
    score: float | None,
    value: float | None,
    before: Counts | None,
    counts: Counts | None,
    pairs: Sequence[Pair],
    options: Options,
) -> Row:
    """The interval of a control, and its difference to the score of the same items."""
    clusters = [cluster_of(item.annotation) for item, _ in pairs]
    row: Row = _within(metric, counts, clusters, options)
    known = score is not None and value is not None
    row |= {"score": score, "difference": score - value if known else None}
    # Sums of BLEU have as many columns as the longest n-grams that there are.
    if before and counts and options.draws and len(before[0]) == len(counts[0]):
        found = paired(
            counts,
            before,
            value_of(metric),
            clusters=clusters,
            draws=options.draws,
            seed=options.seed,
            confidence=options.confidence,
        )
        row |= {"difference_low": found.low, "difference_high": found.high}
    return row


def _permuted_rows(
    controls: Sequence[Control],
    items: Mapping[Key, Planned],
    answered: Mapping[str, Answered],
    options: Options,
) -> list[tuple[str, Row]]:
    """The same of choices in other orders, of the items that were answered in all of them."""
    orders = _in_all_orders(controls, items, answered)
    own = [pairs[0] for pairs in orders]
    read = [[_read(question_of(*pair)) for pair in pairs] for pairs in orders]
    right = [
        [said == item.annotation["text"] for (item, _), (_, said) in zip(pairs, each, strict=True)]
        for pairs, each in zip(orders, read, strict=True)
    ]
    before: Counts = [(float(each[0]), 1.0) for each in right]
    counts: Counts = [(sum(each) / len(each), 1.0) for each in right]
    score, value = _mean(before), _mean(counts)
    row = table_row(f"accuracy/{PERMUTED_CHOICES}", value, None, len(orders))
    row |= _compared("accuracy", score, value, before, counts, own, options)
    row |= {"right_in_every_order": _mean([(float(all(each)), 1.0) for each in right])}
    row |= _letters([place for each in read for place, _ in each], own)
    answers = [pair for pairs in orders for pair in pairs]
    row |= _accounts(controls, answers, len(orders), 0)
    same = _same_choice_row(read, own, options)
    if not same["n"]:
        return [("accuracy", row)]
    unreadable = len(orders) - same["n"]
    same |= _accounts(controls, answers, len(orders), unreadable)
    return [("accuracy", row), ("accuracy", same)]


def _in_all_orders(
    controls: Sequence[Control],
    items: Mapping[Key, Planned],
    answered: Mapping[str, Answered],
) -> list[list[Pair]]:
    """Of each item the answers in its orders, the first as it is."""
    moved: dict[Key, list[Planned]] = collections.defaultdict(list)
    for one in controls:
        moved[one.item.benchmark, one.item.id].append(one.item)
    each = (given([items[key], *others], answered) for key, others in moved.items())
    return [pairs for pairs in each if pairs and len(pairs) == len(pairs[0][0].choices)]


Read = tuple[int | None, str | None]
"""The place of the choice that an answer names, and its text; None where it names none."""


def _same_choice_row(read: Sequence[Sequence[Read]], own: Sequence[Pair], options: Options) -> Row:
    """How many answers name what the first one names, of the items where that names any."""
    named = [number for number, each in enumerate(read) if each[0][0] is not None]
    kept: Counts = []
    for number in named:
        (_, first), *others = read[number]
        kept.append((sum(said == first for _, said in others) / len(others), 1.0))
    clusters = [cluster_of(own[number][0].annotation) for number in named]
    row = table_row(f"{SAME_CHOICE}/{PERMUTED_CHOICES}", _mean(kept), None, len(kept))
    return row | _within(SAME_CHOICE, kept, clusters, options)


def _read(question: Question) -> Read:
    place = letter_then_text(question.answer, question.choices)
    return place, None if place is None else question.choices[place]


def _mean(counts: Counts) -> float | None:
    return sum(value for value, _ in counts) / len(counts) if counts else None


def _letters(places: Sequence[int | None], own: Sequence[Pair]) -> Row:
    """Shares of the letters among answers to items, each in all orders of its choices."""
    most = max((len(item.choices) for item, _ in own), default=0)
    found = collections.Counter(places)
    return {
        "letters": {LETTERS[n]: found[n] / len(places) for n in range(most)},
        # In all orders an item of K choices has each text once at each of K letters.
        "even_letters": {
            LETTERS[n]: sum(n < len(item.choices) for item, _ in own) / len(places)
            for n in range(most)
        },
        "unreadable_answers": found[None],
    }


_CALLED = {
    f"/{NO_AUDIO}": "without audio",
    f"/{SHUFFLED_AUDIO}": "with other audio",
    f"/{PERMUTED_CHOICES}": "choices in all orders",
    f"{SAME_CHOICE}/{PERMUTED_CHOICES}": "the same choice in them",
}
"""Controls for people, by how a row's metric ends."""


def metric_text(row: Row) -> str:
    """A row's metric for people: that of a control stands below its score's, and has no name of
    its own.
    """
    if "control" not in row:
        return scale_of(row["metric"]).name
    return "└ " + [told for end, told in _CALLED.items() if row["metric"].endswith(end)][-1]


def control_notes(rows: Sequence[Row]) -> list[str]:
    """What the controls' scores do not tell, a sentence each."""
    known: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if "control" in row and row["n"]:
            # Of several metrics the first: all are of the same answers.
            known.setdefault((row["benchmark"], row["control"], row["task"]), row)
    of: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
    for (benchmark, control, _), row in known.items():
        of[benchmark, control].append(row)
    notes = []
    for (benchmark, control), each in of.items():
        if control == PERMUTED_CHOICES:
            notes += [f"{benchmark}: {_letters_told(row)}" for row in each]
        else:
            same, n = (sum(row[name] for row in each) for name in ("same_answers", "n"))
            called = _CALLED[f"/{control}"]
            notes.append(f"{benchmark}: {called}, {same:,} of {n:,} answers are as they were")
    return notes


def _letters_told(row: Row) -> str:
    right = scale_of("accuracy").text(row["right_in_every_order"])
    return (
        f"with the choices in all orders, the answers name {_shares(row['letters'])} (without a "
        f"preference {_shares(row['even_letters'])}); {right} of the items are right in every order"
    )


def _shares(letters: Mapping[str, float]) -> str:
    return ", ".join(f"{letter} {100 * share:.0f} %" for letter, share in letters.items())
