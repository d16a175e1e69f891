"""Hallucinations, sounds missed and wrong counts, by the rules that are written down."""

import pytest

from qwen_audio_jax.metrics import Answer, counts, part_of, score, score_by_part
from qwen_audio_jax.metrics.preference import hallucinates, misses, says_count, undecided

ABSENT = ["dog", "bark", "siren"]


@pytest.mark.parametrize(
    ("answer", "so"),
    [
        ("Yes.", True),
        ("Yes, there is a dog.", True),
        ("There are three barks.", True),
        ("The DOG is in the second clip", True),
        ("It is a siren.", True),
        ("No, it is a siren.", True),
        ("There is no bell but a dog.", True),
        ("No.", False),
        ("No, there is no dog.", False),
        ("No clip has a dog.", False),
        ("I don\u2019t hear a dog", False),
        ("I hear a bell, not a dog.", False),
        ("There is neither a dog nor a siren.", False),
        ("Yes, but no dog.", False),
        # Not what was asked, and no sound that is not there.
        ("It is a bell.", False),
        ("It is a hotdog.", False),
        ("", False),
    ],
)
def test_hallucinations(answer, so):
    assert hallucinates(answer, ABSENT) is so


@pytest.mark.parametrize(
    ("answer", "so"),
    [
        ("No.", True),
        ("No, there is no dog.", True),
        ("No clip has it.", True),
        ("There are no barks.", True),
        ("I cannot hear a dog.", True),
        ("Yes, there is a dog.", False),
        ("The dog is in the first clip, not in the second.", False),
        ("It is a bell.", False),
        ("Nothing else.", False),
        ("", False),
    ],
)
def test_missed_sounds(answer, so):
    assert misses(answer, ["dog", "bark"]) is so


@pytest.mark.parametrize(
    ("answer", "so"),
    [
        ("The word.", True),
        ("It is a bell.", True),
        ("First a bell, then a horn.", True),
        ("I cannot answer that.", True),
        ("", True),
        ("Yes.", False),
        ("No.", False),
        ("First a bell, then a dog.", False),
        ("First a bell, then a horn, but no dog.", False),
        ("There are two knocks, but no barks.", False),
        ("The dog is in none of them.", False),
    ],
)
def test_neither_denied_nor_affirmed(answer, so):
    assert undecided(answer, ["dog", "bark"]) is so


@pytest.mark.parametrize(
    ("answer", "so"),
    [
        ("There are three knocks.", True),
        ("3", True),
        ("Three. There are three.", True),
        ("There are four knocks.", False),
        ("Three or four.", False),
        ("There are no knocks.", False),
        ("13", False),
        ("", False),
        ("\u0663", False),
    ],
)
def test_counts(answer, so):
    assert says_count(answer, 3) is so


def answer(said, chosen="Yes.", kind="one", **facts):
    question = [{"role": "user", "content": "?"}]
    pair = {"messages": question, "chosen": chosen, "rejected": "No.", "kind": kind}
    return Answer(pair | facts, said)


ANSWERS = [
    answer("Yes.", "No.", "absent_sound", absent=["dog"]),
    answer("No.", "No.", "absent_sound", absent=["dog"]),
    answer("No.", "No.", "absent_sound", absent=["bell"]),
    answer("No.", "Yes.", "present_sound", present=["dog"]),
    answer("One bark.", "One bark.", "wrong_count", count=1),
    answer("One bark.", "Two barks.", "wrong_count", count=2),
    answer("One bark.", "One bark.", "present_sound", count=1, present=["bark"]),
    answer("One.", "No.", "absent_sound", absent=["dog"]),
]


def test_rows_by_kind():
    rows = {row["metric"]: row for row in score_by_part("preference", ANSWERS)}
    value = {name: (row["value"], row["baseline"], row["n"]) for name, row in rows.items()}
    assert value["accuracy"][::2] == (4 / 8, 8)
    assert value["accuracy/absent_sound"][::2] == (2 / 4, 4)
    assert value["hallucinations"] == (1 / 4, 2 / 6, 4)
    assert value["missed_sounds"] == (1 / 2, 4 / 6, 2)
    assert value["undecided"] == (1 / 6, 0.0, 6)
    assert value["undecided/absent_sound"] == (1 / 4, 0.0, 4)
    assert value["wrong_counts"] == pytest.approx((1 / 3, 1 / 3, 3))
    assert value["wrong_counts/wrong_count"] == (1 / 2, 1 / 2, 2)
    # One kind alone has them, and would say the same again.
    assert "hallucinations/absent_sound" not in rows
    assert "missed_sounds/present_sound" not in rows


def test_pairs_that_tell_nothing_of_sounds_have_no_such_rows():
    plain = [answer("Yes."), answer("No.")]
    assert [row["metric"] for row in score("preference", plain)] == ["accuracy", "token_f1"]
    assert [counts("preference", one) for one in plain] == [{"right": 1}, {"right": 0}]
    assert part_of("preference", plain[0].annotation) == "one"
