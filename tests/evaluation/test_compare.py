"""Two evaluations compared: by hand, in any order, and what is refused."""

import dataclasses
import io
import random

import pytest
import rich.console

from qwen_audio_jax.evaluation.compare import (
    Evaluated,
    Outcome,
    compare,
    comparison_table,
)
from qwen_audio_jax.evaluation.statistics import paired
from qwen_audio_jax.evaluation.summed_scores import ratio


def clip(key, edits, words=10, *, task="asr", **more):
    """An ASR item; what it was answered tells how many edits that needs."""
    return Outcome(key, task, {"wer": [edits, words]}, f"{edits} wrong", f"text of {key}", **more)


def evaluated(name, items, data="d1", protocol="wer:v2"):
    return Evaluated(name, data, protocol, items)


def sides(edits_a, edits_b, **more):
    return (
        evaluated(name, [clip(f"clip{n:03}", e, **more) for n, e in enumerate(edits)])
        for name, edits in (("old", edits_a), ("new", edits_b))
    )


def test_a_difference_by_hand():
    comparison = compare(*sides([2, 1, 0, 5], [0, 1, 1, 1]))
    assert comparison.names == ("old", "new")
    (one,) = comparison.differences
    assert (one.task, one.metric, one.slice, one.n) == ("asr", "wer", "", 4)
    assert (one.a, one.b) == (8 / 40, 3 / 40)
    assert one.paired == paired(
        [[e, 10] for e in (2, 1, 0, 5)],
        [[e, 10] for e in (0, 1, 1, 1)],
        ratio,
        lower_is_better=True,
    )
    assert (one.paired.wins, one.paired.losses, one.paired.ties) == (2, 1, 1)
    # -4, -2 and +1 edits of 40 words; the clip of equal counts did not change.
    assert [(c.key, round(40 * c.contribution)) for c in one.changed] == [
        ("clip003", -4),
        ("clip000", -2),
        ("clip002", 1),
    ]
    first = one.changed[0]
    assert (first.reference, first.answer_a, first.answer_b) == (
        "text of clip003",
        "5 wrong",
        "1 wrong",
    )


def test_an_evaluation_with_itself():
    a, _ = sides(range(10), range(10))
    (one,) = compare(a, a).differences
    assert (one.paired.difference, one.paired.p, one.paired.wins, one.changed) == (0, 1, 0, ())


def test_twenty_clips_at_most_are_told():
    (one,) = compare(*sides([5] * 30, [*range(4), *[4] * 26])).differences
    assert len(one.changed) == 20
    assert [c.key for c in one.changed[:4]] == ["clip000", "clip001", "clip002", "clip003"]


def test_the_order_of_items_does_not_matter():
    a, b = sides([n % 4 for n in range(60)], [n % 3 for n in range(60)], fields={"source": "x"})
    items = list(b.items)
    random.Random(0).shuffle(items)
    assert compare(a, dataclasses.replace(b, items=items)) == compare(a, b)


def test_items_that_one_alone_has_are_named():
    failed = Outcome("c2", "asr", {}, "", "text of c2")
    a = evaluated("old", [clip("c1", 1), clip("c2", 2), clip("c3", 3)])
    b = evaluated("new", [clip("c1", 0), failed, clip("c9", 0)])
    comparison = compare(a, b)
    assert (comparison.only_a, comparison.only_b) == (("c3",), ("c9",))
    (one,) = comparison.differences
    assert (one.n, one.only_a, one.only_b) == (1, ("c2", "c3"), ("c9",))
    assert (one.a, one.b) == (1 / 10, 0)
    told = shown(comparison)
    assert "Only A was asked 1 item: c3" in told
    assert "Only B was asked 1 item: c9" in told
    assert "Only A has wer of asr for 1 item: c2" in told


def test_of_many_items_the_table_names_some_and_the_comparison_all():
    a = evaluated("old", [clip(f"c{n:04}", 1) for n in range(1500)])
    comparison = compare(a, evaluated("new", a.items[:2]))
    assert len(comparison.only_a) == 1498
    assert "Only A was asked 1,498 items: c0002, c0003, c0004 and 1,495 more" in shown(comparison)


def test_nothing_in_common_is_told_too():
    comparison = compare(evaluated("old", [clip("c1", 1)]), evaluated("new", [clip("c2", 1)]))
    (one,) = comparison.differences
    assert (one.n, one.a, one.b, one.paired.p, one.changed) == (0, None, None, None, ())
    assert "c1" in shown(comparison)
    empty = evaluated("none", [])
    assert compare(empty, empty).differences == ()


def test_each_task_and_metric_has_its_own_difference():
    items = [
        Outcome("q1", "qa", {"accuracy": [1, 1]}, "A", "A"),
        Outcome("q2", "qa", {"accuracy": [0, 1]}, "B", "A"),
        Outcome("s1", "asr", {"wer": [1, 4], "cer": [2, 20]}, "a b", "a c"),
    ]
    worse = [
        dataclasses.replace(i, counts={m: [0, c[1]] for m, c in i.counts.items()}) for i in items
    ]
    found = compare(evaluated("old", items), evaluated("new", worse)).differences
    assert [(one.task, one.metric) for one in found] == [
        ("asr", "wer"),
        ("asr", "cer"),
        ("qa", "accuracy"),
    ]
    # Fewer edits are better, fewer right answers are not.
    assert [(one.paired.wins, one.paired.losses) for one in found] == [(1, 0), (1, 0), (0, 1)]


def test_slices_follow_and_clusters_are_kept():
    def items(edits):
        return [
            clip(f"c{n:02}", edits, fields={"language": "fr" if n < 4 else "en"}, cluster="one")
            for n in range(10)
        ]

    found = compare(evaluated("old", items(1)), evaluated("new", items(2)), least=5).differences
    assert [(one.slice, one.n) for one in found] == [("", 10), ("language=en", 6)]
    # One speaker alone tells nothing of others.
    assert [(one.paired.low, one.paired.p) for one in found] == [(None, 1.0)] * 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "d2"}, "old and new cannot be compared, since their data differs: 'd1' and 'd2'"),
        ({"protocol": "wer:v1"}, "their protocol differs: 'wer:v2' and 'wer:v1'"),
        ({"items": [clip("c1", 1), clip("c1", 2)]}, "new has two items 'c1'"),
        ({"items": [clip("c1", 1, task="chat")]}, "'c1' has another task in old than in new"),
        (
            {"items": [dataclasses.replace(clip("c1", 1), reference="other")]},
            "'c1' has another reference in old than in new",
        ),
        (
            {"items": [dataclasses.replace(clip("c1", 1), counts={"wer": [1, 2, 3]})]},
            "'c1' has 3 counts of 'wer' and 'c1' has 2; score both evaluations anew",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(change, says):
    a = evaluated("old", [clip("c1", 1)])
    with pytest.raises(ValueError, match=says):
        compare(a, dataclasses.replace(evaluated("new", a.items), **change))


def shown(comparison, width=140):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(comparison_table(comparison))
    return console.file.getvalue()


def test_the_table_shows_scores_intervals_and_clips():
    a, b = sides([3] * 50, [1] * 49 + [4])
    told = shown(compare(dataclasses.replace(a, name="[old]"), b))
    (line,) = [line for line in told.splitlines() if "WER" in line]
    assert "[old] (A) and new (B)" in told
    assert all(part in line for part in ("WER ↓", "30.0 %", "10.6 %", "-19.4 %", "49/1/0", "0.001"))
    assert "Only" not in told
