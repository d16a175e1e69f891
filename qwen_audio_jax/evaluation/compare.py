"""Two finished evaluations of the same benchmark, item by item: do the models differ, and where."""

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import rich.box
import rich.table
import rich.text

from qwen_audio_jax.evaluation.score_table import interval_text
from qwen_audio_jax.evaluation.slices import slices
from qwen_audio_jax.evaluation.statistics import Paired, contributions, paired
from qwen_audio_jax.evaluation.summed_scores import value_of
from qwen_audio_jax.metrics.scales import scale_of

MOST_CHANGED = 20
"""Items that are told of each metric."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one item of a benchmark was answered, and what that counts.

    Attributes:
        key: names it, the same in every evaluation of the benchmark.
        task: its task.
        counts: by metric, what it adds to the sums that the metric's score is a function of; of a
            failed item, none. See `qwen_audio_jax.evaluation.summed_scores.value_of`.
        answer: the model's.
        reference: what it should be.
        cluster: whose items are alike, such as a speaker; None if it is by itself.
        fields: what it may be sliced by, see `qwen_audio_jax.evaluation.slices.FIELDS`.
    """

    key: str
    task: str
    counts: Mapping[str, Sequence[float]]
    answer: str
    reference: str
    cluster: Hashable | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Pair = tuple[Outcome, Outcome]
"""The same item in A and in B."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A finished evaluation.

    Attributes:
        name: for people, such as its folder.
        data: hash of the benchmark's data.
        protocol: how it was asked and scored: prompts, decoding limits, signatures of the metrics.
        items: all that were asked, failed ones too.
        uncompared: tasks and metrics of scores that are no functions of sums over the items.
    """

    name: str
    data: str
    protocol: str
    items: Sequence[Outcome]
    uncompared: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Changed:
    """An item and what it adds to the difference of two scores, B's less A's."""

    key: str
    contribution: float
    reference: str
    answer_a: str
    answer_b: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """One metric of one task, for all items or a slice of them.

    Attributes:
        task, metric: which.
        slice: its name, as "language=fr"; "" for all.
        a, b: the scores of the items that both have scored; None where undefined.
        n: how many those are.
        paired: the difference and how sure it is.
        changed: the items that add the most to the difference, in either direction; equal counts
            are no change, whatever the answers say. None of a slice.
        only_a, only_b: keys of items that one of them alone has scored, so that they count in
            neither score here. None of a slice.
    """

    task: str
    metric: str
    slice: str
    a: float | None
    b: float | None
    n: int
    paired: Paired
    changed: tuple[Changed, ...] = ()
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two evaluations differ in.

    Attributes:
        names: A's and B's.
        differences: by task and metric; each is followed by those of its slices.
        only_a, only_b: keys of items that the other was not asked.
        uncompared: tasks and metrics that either has scores of, and that are not compared.
    """

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    uncompared: tuple[tuple[str, str], ...] = ()


def compare(
    a: Evaluated, b: Evaluated, *, draws: int = 1000, seed: int = 0, least: int = 50
) -> Comparison:
    """Compares two models by their evaluations.

    Args:
        a, b: the evaluations; differences are B's scores less A's.
        draws, seed: see `qwen_audio_jax.evaluation.statistics.paired`.
        least: how many items a slice must have.

    Raises:
        ValueError: they are not of the same data or protocol, or an item of one is not the other's;
            one sentence that says which.
    """
    _refuse_others(a, b)
    items_a, items_b = _by_key(a), _by_key(b)
    for key in sorted(items_a.keys() & items_b.keys()):
        _refuse_other_item(a, b, items_a[key], items_b[key])
    differences: list[Difference] = []
    for task, metric in _metrics([*items_a.values(), *items_b.values()]):
        differences += _differences(task, metric, items_a, items_b, draws, seed, least)
    return Comparison(
        (a.name, b.name),
        tuple(differences),
        tuple(sorted(items_a.keys() - items_b.keys())),
        tuple(sorted(items_b.keys() - items_a.keys())),
        tuple(dict.fromkeys([*a.uncompared, *b.uncompared])),
    )


def _refuse_others(a: Evaluated, b: Evaluated) -> None:
    for what, of_a, of_b, mend in (
        ("data", a.data, b.data, "evaluate both on the same benchmark files"),
        ("protocol", a.protocol, b.protocol, "score both under the same one"),
    ):
        if of_a != of_b:
            raise ValueError(
                f"{a.name} and {b.name} cannot be compared, since their {what} differs: "
                f"{of_a!r} and {of_b!r}; {mend}"
            )


def _by_key(evaluated: Evaluated) -> dict[str, Outcome]:
    items: dict[str, Outcome] = {}
    for item in evaluated.items:
        if item.key in items:
            raise ValueError(
                f"{evaluated.name} has two items {item.key!r}; each must have a key of its own"
            )
        items[item.key] = item
    # So that the order of the files does not matter.
    return dict(sorted(items.items()))


def _refuse_other_item(a: Evaluated, b: Evaluated, of_a: Outcome, of_b: Outcome) -> None:
    for what in ("task", "reference"):
        if getattr(of_a, what) != getattr(of_b, what):
            raise ValueError(
                f"item {of_a.key!r} has another {what} in {a.name} than in {b.name}; "
                "evaluate both on the same benchmark files"
            )


def _metrics(items: Iterable[Outcome]) -> list[tuple[str, str]]:
    """(task, metric) each, tasks by name and metrics as the items have them."""
    found: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for item in items:
        found[item.task] |= dict.fromkeys(item.counts)
    return [(task, metric) for task in sorted(found) for metric in found[task]]


def _differences(
    task: str,
    metric: str,
    items_a: Mapping[str, Outcome],
    items_b: Mapping[str, Outcome],
    draws: int,
    seed: int,
    least: int,
) -> list[Difference]:
    """That of all items, and those of slices."""
    keys_a, keys_b = (
        {key for key, item in items.items() if item.task == task and metric in item.counts}
        for items in (items_a, items_b)
    )
    pairs = [(items_a[key], items_b[key]) for key in sorted(keys_a & keys_b)]
    whole = dataclasses.replace(
        _difference(task, metric, "", pairs, draws, seed),
        changed=_most_changed(metric, pairs),
        only_a=tuple(sorted(keys_a - keys_b)),
        only_b=tuple(sorted(keys_b - keys_a)),
    )
    parts = slices([of_a.fields for of_a, _ in pairs], least)
    return [
        whole,
        *(
            _difference(task, metric, part.name, [pairs[n] for n in part.items], draws, seed)
            for part in parts
        ),
    ]


def _difference(
    task: str, metric: str, slice_name: str, pairs: Sequence[Pair], draws: int, seed: int
) -> Difference:
    if not pairs:
        nothing = Paired(None, None, None, None, 0, 0, 0, 0)
        return Difference(task, metric, slice_name, None, None, 0, nothing)
    a, b = _counts(metric, pairs)
    value = value_of(metric)
    found = paired(
        a,
        b,
        value,
        clusters=[of_a.cluster for of_a, _ in pairs],
        lower_is_better=scale_of(metric).lower_is_better,
        draws=draws,
        seed=seed,
    )
    scores = value(np.stack([a.sum(0), b.sum(0)]))
    of_a, of_b = (float(score) if np.isfinite(score) else None for score in scores)
    return Difference(task, metric, slice_name, of_a, of_b, len(pairs), found)


def _most_changed(metric: str, pairs: Sequence[Pair]) -> tuple[Changed, ...]:
    if not pairs:
        return ()
    added = contributions(*_counts(metric, pairs), value_of(metric))
    order = np.argsort(-abs(added), kind="stable")[:MOST_CHANGED]
    return tuple(
        Changed(of_a.key, float(added[n]), of_a.reference, of_a.answer, of_b.answer)
        for n in order
        if added[n] != 0
        for of_a, of_b in [pairs[n]]
    )


def _counts(metric: str, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """A's and B's, float64 [N, C] each."""
    width = len(pairs[0][0].counts[metric])
    for item in itertools.chain.from_iterable(pairs):
        if len(item.counts[metric]) != width:
            raise ValueError(
                f"item {item.key!r} has {len(item.counts[metric])} counts of {metric!r} and "
                f"{pairs[0][0].key!r} has {width}; score both evaluations anew"
            )
    sides = zip(*pairs, strict=True)
    a, b = (np.array([one.counts[metric] for one in side], np.float64) for side in sides)
    return a, b


_SHOWN = 3
"""Keys that the table names of items that only one has; a Comparison has them all."""


def comparison_table(comparison: Comparison) -> rich.table.Table:
    """The differences, for printing with rich; green where B is surely better, red where worse."""
    names = rich.text.Text(f"{comparison.names[0]} (A) and {comparison.names[1]} (B)")
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        title=names,
        caption=rich.text.Text("\n".join(not_told(comparison)), justify="left"),
    )
    for name in ("task", "metric"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in ("A", "B", "B - A", "interval", "p", "better/worse/same", "n"):
        table.add_column(name, justify="right")
    for one in comparison.differences:
        scale, found = scale_of(one.metric), one.paired
        name = ", ".join(filter(None, [scale.name, one.slice]))
        arrow = "↓" if scale.lower_is_better else "↑"
        table.add_row(
            # Text, not str: rich would read square brackets as markup.
            rich.text.Text(one.task.replace("_", " ")),
            rich.text.Text(f"{name} {arrow}"),
            scale.text(one.a),
            scale.text(one.b),
            rich.text.Text(scale.text(found.difference), style=_COLOURS.get(direction(one), "")),
            interval_text({"metric": one.metric, "low": found.low, "high": found.high}),
            "" if found.p is None else f"{found.p:.3f}",
            f"{found.wins}/{found.losses}/{found.ties}",
            f"{one.n:,}",
        )
    return table


_COLOURS = {"better": "green", "worse": "red"}


def direction(one: Difference) -> str:
    """Whether B is "better" or "worse"; "" unless the interval lies on one side of 0."""
    low, high = one.paired.low, one.paired.high
    if low is None or low <= 0 <= high:
        return ""
    return "better" if (high < 0) == scale_of(one.metric).lower_is_better else "worse"


def not_told(comparison: Comparison) -> list[str]:
    """What is not in the scores, by number and name, a sentence each."""
    lines = [
        _only(side, "was asked", keys)
        for side, keys in (("A", comparison.only_a), ("B", comparison.only_b))
    ]
    for one in comparison.differences:
        # Those that the other was not asked are told above.
        for side, keys, asked in (
            ("A", one.only_a, comparison.only_a),
            ("B", one.only_b, comparison.only_b),
        ):
            unscored = sorted(set(keys).difference(asked))
            lines.append(_only(side, f"has {one.metric} of {one.task} for", unscored))
    if comparison.uncompared:
        named = ", ".join(
            f"{scale_of(metric).name} of {task}" for task, metric in comparison.uncompared
        )
        lines.append(f"Not compared, as they are no functions of sums over the items: {named}")
    return [line for line in lines if line]


def _only(side: str, what: str, keys: Sequence[str]) -> str:
    if not keys:
        return ""
    items = "1 item" if len(keys) == 1 else f"{len(keys):,} items"
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return f"Only {side} {what} {items}: {', '.join(keys[:_SHOWN])}{more}"
