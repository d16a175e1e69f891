"""The rows of an evaluation: slices by hand, and what became of everything that was asked."""

import dataclasses

import finished
import numpy as np
import pytest

from qwen_audio_jax.evaluation.score_table import columns, loss_text, score_table, warnings
from qwen_audio_jax.evaluation.scoring import score_rows, scored_groups, summary
from qwen_audio_jax.evaluation.statistics import bootstrap
from qwen_audio_jax.evaluation.summed_scores import ratio


def rows_of(plan, answered, options=finished.OPTIONS):
    groups = list(scored_groups(plan, answered, options))
    rows = [row for group in groups for row in score_rows(group, options)]
    return rows, summary(plan, answered, groups)["benchmarks"]


def test_slices_of_fifty_items_have_scores_and_intervals():
    """Ninety clips of four words: sixty of women, of which every third has an error."""
    items = [
        finished.item(n, "one two three four", gender="female" if n < 60 else "male")
        for n in range(90)
    ]
    texts = ["one two three" if n < 60 and n % 3 == 0 else "one two three four" for n in range(90)]
    answered = finished.answers_of(items, texts)
    answered |= {
        one.key: dataclasses.replace(answered[one.key], seconds=12.0) for one in items[:50]
    }
    (wer, cer, plain), _ = rows_of(finished.plan_of(items), answered)
    assert wer["value"] == 20 / 360
    women, middling = wer["slices"]
    assert (women["slice"], women["n"], women["value"]) == ("gender=female", 60, 20 / 240)
    assert (middling["slice"], middling["n"], middling["value"]) == (
        "duration=10-20 s",
        50,
        17 / 200,
    )
    counts = [[int(n % 3 == 0), 4] for n in range(60)]
    expected = bootstrap(counts, ratio, draws=50, seed=0)
    assert (women["low"], women["high"]) == (expected.low, expected.high)
    assert [one["slice"] for one in cer["slices"]] == [one["slice"] for one in wer["slices"]]
    assert plain["slices"]


def test_all_that_was_asked_is_somewhere():
    """Choices: one right, one wrong, one unreadable, one failed, one not asked, two left out."""
    choices = ("a dog", "a cat")
    items = [
        finished.item(n, "a dog", "audio_question_answering", choices=choices, rule="air_official")
        for n in range(4)
    ]
    broken = dataclasses.replace(items[0], id="9", key="", failed="its clip is missing")
    items.append(broken)
    plan = finished.plan_of(items, "air_foundation", left_out=[(7, "no clip"), (8, "no answer")])
    rows, (told,) = rows_of(plan, finished.answers_of(items, ["A", "B", "both", None, None]))
    ours, theirs = rows
    for row in (ours, told):
        counts = row["scored"], row["unreadable"], row["failed"], row["left_out"]
        assert counts == (2, 1, 2, 2)
        assert row["asked"] == sum(counts) == 7
    assert (ours["strict"], ours["official"], ours["n"]) == (1 / 3, None, 3)
    assert (theirs["value"], theirs["strict"], theirs["unreadable"]) == (1 / 2, 1 / 3, 1)
    assert theirs["low"] is not None


def test_a_label_that_the_metric_cannot_read_is_left_out_and_told():
    turns = [{"speaker": "A", "start": 0.0, "end": 1.0}]
    items = [finished.item(n, "", "speaker_diarization", turns=turns) for n in range(2)]
    items[1].annotation["turns"] = [{"speaker": "A"}]
    plan = finished.plan_of(items)
    ((row,), (told,)) = rows_of(plan, finished.answers_of(items, ["<|0.00|>A<|1.00|>"] * 2))
    for one in (row, told):
        assert (one["asked"], one["scored"], one["left_out"], one["failed"]) == (2, 1, 1, 0)


def test_times_that_cannot_be_read_are_told_and_no_part_of_the_shift():
    words = [{"word": "one", "start": 0.0, "end": 0.5}]
    items = [finished.item(n, "one", "word_timestamps", words=words) for n in range(3)]
    plan = finished.plan_of(items, left_out=[(7, "no clip")])
    answered = finished.answers_of(items, ["<|0.00|>one<|0.60|>", "one", None])
    rows, _ = rows_of(plan, answered)
    wer, shift = (next(r for r in rows if r["metric"] == name) for name in ("wer", "aas_ms"))
    assert (wer["scored"], wer["unreadable"]) == (2, 0)
    assert shift["value"] == pytest.approx(100)
    counts = shift["scored"], shift["unreadable"], shift["failed"], shift["left_out"]
    assert counts == (1, 1, 1, 1)
    assert shift["asked"] == sum(counts)
    table = score_table(rows, {"benchmarks": []})
    assert "1 of 4" in cells(table, "scored")
    assert columns(rows)["unreadable"](shift) == "1"


def test_rows_of_the_list_that_no_task_claims_are_told_of_the_benchmark():
    items = [finished.item(0, "x"), finished.item(1, "dog", "sound_event_classification")]
    plan = finished.plan_of(items, left_out=[(3, "no JSON")])
    rows, (told,) = rows_of(plan, finished.answers_of(items, ["x", "dog"]))
    assert {row["asked"] for row in rows} == {1}
    assert (told["asked"], told["scored"], told["left_out"]) == (3, 2, 1)


def test_intervals_of_a_language_hold_its_score():
    """Its sentences may be shorter than the longest n-grams of all."""
    short = [
        finished.item(n, "guten Tag", "speech_translation", target_language="de") for n in range(3)
    ]
    long = [
        finished.item(n, "one two three four", "speech_translation", language="de",
                      target_language="en")
        for n in range(3, 6)
    ]  # fmt: skip
    items = short + long
    rows, _ = rows_of(
        finished.plan_of(items), finished.answers_of(items, [i.reference for i in items])
    )
    assert [(row["metric"], row["value"], row["low"]) for row in rows] == [
        ("bleu", pytest.approx(100), pytest.approx(100)),
        ("bleu/de-en", pytest.approx(100), pytest.approx(100)),
        ("bleu/en-de", pytest.approx(100), pytest.approx(100)),
    ]


def cells(table, name):
    (column,) = [one for one in table.columns if one.header == name]
    return [str(cell) for cell in column.cells]


@pytest.mark.parametrize(
    ("metric", "difference", "told"),
    [
        ("accuracy/no_audio", (0.05, 0.01, 0.1), "5.0 % (1.0 % to 10.0 %)"),
        ("wer/no_audio", (0.05, 0.0, 0.1), "-5.0 % (-10.0 % to 0.0 %)"),
        ("wer/no_audio", (-0.05, -0.1, -0.01), "5.0 % (1.0 % to 10.0 %)"),
        ("wer/no_audio", (0.0, None, None), "0.0 %"),
        ("wer/no_audio", (None, None, None), ""),
    ],
)
def test_a_control_loses_what_makes_it_worse_than_the_score(metric, difference, told):
    names = "difference", "difference_low", "difference_high"
    row = {"metric": metric} | dict(zip(names, difference, strict=True))
    assert loss_text(row) == told


def test_the_table_says_what_is_not_there():
    captions = [finished.item(n, f"a dog barks {n}", "audio_captioning") for n in range(3)]
    plan = finished.plan_of(captions, left_out=[(9, "no clip")])
    answered = finished.answers_of(captions, ["a dog barks 0", "a dog", None])
    rows, told = rows_of(plan, answered)
    told = {"benchmarks": [one | {"published": ""} for one in told]}
    table = score_table(rows, told)
    values = dict(zip(cells(table, "metric"), cells(table, "value"), strict=True))
    assert [values[name] for name in ("METEOR\u00a0↑", "SPICE\u00a0↑", "SPIDEr\u00a0↑")] == [
        "not available"
    ] * 3
    assert values["CIDEr-D\u00a0↑"] not in ("-", "not available")
    intervals = dict(zip(cells(table, "metric"), cells(table, "interval"), strict=True))
    assert intervals["METEOR\u00a0↑"] == "" != intervals["CIDEr-D\u00a0↑"]
    assert set(cells(table, "scored")) == {"2 of 4", ""}
    counted = "mine: of 4 asked 2 scored, 0 unreadable, 1 failed, 1 left out; "
    assert warnings(rows, told)[0] == (
        counted + "1 × the server is on fire; the page has the other reasons"
    )
    told["benchmarks"][0]["reasons"] = {"rare": 1, "no room " * 100: 1200}
    assert warnings(rows, told)[0].startswith(counted + "1,200 × no room no room")
    assert len(warnings(rows, told)[0]) < 400
    told["benchmarks"][0]["reasons"] = {"no clip": 2}
    assert warnings(rows, told)[0] == counted + "2 × no clip"
    assert np.unique([row["asked"] for row in rows]) == [4]
