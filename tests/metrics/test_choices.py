"""Readers of choices and refusals, by hand and against what the benchmarks' own rules made."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics.choices import (
    RIGHT,
    RULES,
    UNREADABLE,
    WRONG,
    Question,
    air_official,
    choice_scores,
    letter,
    letter_then_text,
    text,
)
from qwen_audio_jax.metrics.classification import is_correct, is_correct_as_qwen2, majority_share
from qwen_audio_jax.metrics.voicebench import named_letter, refusal_scores

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "choices.json").read_text())
ANIMALS = ["cow", "dog", "cat", "bird"]
PEOPLE = ["Man", "Woman", "Child", "Robot"]
ADULTS = ["A child", "A woman", "An adult man", "A teenager"]


def outcomes(rule: str, choices: list[str], right: int, *answers: str) -> list[str]:
    return [RULES[rule][0](Question(choices, right, answer)) for answer in answers]


@pytest.mark.parametrize(
    ("rule", "column"), [("air_official", 3), ("mmsu_official", 4), ("token_set", 5)]
)
def test_outcomes_are_the_benchmarks_own(rule, column):
    kept = 0
    for row in GOLDEN["answers"]:
        choices, right, answer = row[:3]
        (ours,) = outcomes(rule, choices, right, answer)
        if rule == "mmsu_official" and answer.strip() in ("", "None"):
            # There the script still has the letter of the last answer that it could read.
            assert ours == WRONG
            kept += row[column]
            continue
        expected = {True: RIGHT, False: WRONG, None: UNREADABLE}[row[column]]
        if rule == "token_set" and ours == UNREADABLE:
            assert expected == WRONG
        else:
            assert ours == expected, answer
    assert (kept > 0) == (rule == "mmsu_official")


@pytest.mark.parametrize(
    ("rule", "column"), [("air_official", 3), ("mmsu_official", 4), ("token_set", 5)]
)
def test_official_values_are_the_benchmarks_own(rule, column):
    rows = [row for row in GOLDEN["answers"] if row[2].strip() not in ("", "None")]
    scored = [row[column] for row in rows if row[column] is not None]
    found = choice_scores(rule, [Question(*row[:3]) for row in rows])
    assert found.official == sum(scored) / len(scored)
    assert found.strict == sum(scored) / len(rows) <= found.official
    assert found.right + found.wrong + found.unreadable == found.asked == len(rows)


def test_voicebench_finds_the_letters_of_its_script_and_draws_none():
    assert {row[6] for row in GOLDEN["answers"]} == {"A", "B", "C", "D", None}
    for row in GOLDEN["answers"]:
        assert named_letter(row[2]) == row[6], row[2]


def test_unreadable_answers_and_both_denominators():
    questions = [Question(ANIMALS, 0, answer) for answer in ("A", "Sorry", "")]
    found = choice_scores("air_official", questions)
    assert (found.right, found.wrong, found.unreadable) == (1, 0, 2)
    assert found.official == 1.0
    assert found.strict == pytest.approx(1 / 3)
    # MMSU punishes the model that says nothing, and lets off the one that rambles.
    assert choice_scores("mmsu_official", questions).official == 1 / 2
    ours = choice_scores("letter_then_text", questions)
    assert (ours.official, ours.strict) == (None, pytest.approx(1 / 3))


def test_no_rule_draws_at_random():
    questions = [Question(ANIMALS, i % 4, "I am not sure") for i in range(1000)]
    for rule in ("voicebench", "letter", "text", "letter_then_text"):
        found = choice_scores(rule, questions)
        assert (found.right, found.unreadable, found.strict) == (0, 1000, 0.0)
    assert choice_scores("voicebench", questions).official == 0.0


def test_sets_of_words():
    answers = ("(A) Man", "A", "A man, not a woman")
    assert outcomes("token_set", PEOPLE, 0, *answers) == [RIGHT, WRONG, WRONG]
    assert outcomes("token_set", ADULTS, 1, "woman", "(B) A woman") == [WRONG, RIGHT]
    assert outcomes("token_set", ADULTS, 1, "", "...") == [UNREADABLE] * 2
    assert outcomes("text", ADULTS, 1, "woman", "(B) A woman") == [RIGHT, RIGHT]


def test_a_capital_that_begins_a_sentence_is_no_letter():
    said = ("The answer cannot be determined", "A dog", "Can't tell", "Based on the audio")
    for rule in ("letter", "letter_then_text"):
        assert outcomes(rule, ["rain", "wind", "fire", "snow"], 2, *said) == [UNREADABLE] * 4
    assert [air_official(answer, ANIMALS) for answer in said] == [None, 0, 2, 1]


@pytest.mark.parametrize(
    "answer",
    [
        "B", "b", " B ", "(B)", "B.", "B)", "[B]", "**B**", '"B"', "B:", "B: a dog", "B. a dog",
        "B) dog", "(B) dog", "**B.** dog", "**B** dog", "B\n", "B.\nBecause it barks.",
        "The answer is B", "The answer is B.", "the correct answer is (B).", "Answer: B",
        "**Answer:** B", "The answer is **B**", "The answer is: B) dog", "Option B.",
        "I heard barking.\nB. dog", "The answer is option B.",
        "The correct choice is 'B'", "The answer is B because it barks", "The answer is B, not C.",
        "(b)",
    ],
)  # fmt: skip
def test_letters_that_are_named(answer):
    assert letter(answer, ANIMALS) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "", "dog", "B dog", "A dog", "A or B", "A. cow\nB. dog", "E", "The answer is E.", "I", "BC",
        "The answer is a dog", "The answer is A dog", "The answer is B or the answer is C.",
        "The answer is B and C.", "The answer is B, C.", "The answer is B/C",
        "The answer is B-flat", "The answer is not B", "B. dog\nE. fish", "Both", "A, B", "Bs",
        "Be quiet.",
    ],
)  # fmt: skip
def test_letters_that_are_not(answer):
    assert letter(answer, ANIMALS) is None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("dog", 1),
        ("A DOG.", 1),
        ("I hear the dog, barking", 1),
        ("dog or cat", None),
        ("doghouse", None),
        ("none", None),
        ("", None),
    ],
)
def test_texts(answer, found):
    assert text(answer, ANIMALS) == found


def test_texts_inside_others_and_texts_that_are_alike():
    nested = ["dog", "dog barking", "seal barking"]
    assert text("a dog barking outside", nested) == 1
    assert text("dog", nested) == 0
    assert text("a dog, and then a dog barking", nested) is None
    assert text("barking", nested) is None
    assert text("0.5 s", ["0.5 s", "5 s"]) == 0
    assert text("-5", ["5", "-5"]) == 1
    assert text("it is one", ["one", "two", "one"]) == 0
    assert outcomes("text", ["one", "two", "one"], 2, "one") == [RIGHT]
    assert outcomes("letter", ["one", "two", "one"], 2, "A", "C") == [RIGHT, RIGHT]
    assert outcomes("air_official", ["one", "two", "one"], 2, "A", "C") == [RIGHT, WRONG]


def test_an_article_may_be_all_that_tells_two_texts_apart():
    keys = ["C major", "A minor", "D minor"]
    assert text("minor", keys) is None
    assert text("D minor", keys) == 2
    assert text("It is in A minor.", keys) == 1
    assert text("the dog", ["A dog", "A dog barking"]) == 0


@pytest.mark.parametrize(
    "piece", [" ", "\n", "answer ", "answer is ", "**", "B", "B\n", "a, ", "("]
)
def test_long_answers_take_no_time(piece):
    assert letter_then_text(piece * 20_000 + "x", ANIMALS) in (None, 1)


def test_chinese_has_no_spaces():
    assert text("这是男人的声音", ["男人", "女人"]) == 0
    assert text("答案是女", ["男", "女"]) == 1


def test_letter_then_text():
    assert letter_then_text("B", ANIMALS) == letter_then_text("a dog", ANIMALS) == 1
    # Keys of music: is it the second choice, or the letter of the first?
    assert letter_then_text("A", ["B", "A", "C"]) is None
    assert letter_then_text("A", ["A", "B", "C"]) == 0
    assert letter_then_text("D", ["B", "A", "D", "C"]) is None


def test_a_rule_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no rule 'first' to read choices by; there are letter_th"):
        choice_scores("first", [])
    empty = choice_scores("token_set", [])
    assert (empty.asked, empty.official, empty.strict) == (0, None, None)


anything = st.text() | st.sampled_from(["A", "(B) dog", "The answer is C", "a cat", "None", " "])


@given(st.lists(anything, min_size=1, unique=True, max_size=5), anything, st.data())
def test_any_answer_has_one_outcome(choices, answer, data):
    right = data.draw(st.integers(0, len(choices) - 1))
    question = Question(choices, right, answer)
    for rule in RULES:
        found = choice_scores(rule, [question])
        assert found.right + found.wrong + found.unreadable == 1
    for read in (letter, text, letter_then_text):
        assert read(answer, choices) in (None, *range(len(choices)))


@given(st.sampled_from(range(4)), st.permutations(ANIMALS))
def test_the_right_letter_and_the_right_text_are_right(right, choices):
    for answer in (f"{'ABCD'[right]}", f"({'ABCD'[right]}) {choices[right]}", choices[right]):
        assert outcomes("letter_then_text", choices, right, answer) == [RIGHT]


def test_refusals_are_voicebenchs():
    for answer, refused in GOLDEN["refusals"]:
        assert refusal_scores([answer]).official == refused, answer
    answers = ["I'm sorry, no.", "", "Sure!", "It has an engine"]
    found = refusal_scores(answers)
    assert (found.refused, found.empty, found.asked) == (2, 1, 4)
    assert (found.official, found.strict) == (3 / 4, 2 / 4)
    assert refusal_scores([]).official is None


def test_qwen2_strips_the_left_side_only():
    said = (" yes", "yes ", "Yes")
    assert [is_correct_as_qwen2("yes", answer) for answer in said] == [True, False, False]
    assert [is_correct("yes", answer) for answer in said] == [True, True, False]


def test_the_majority_is_a_control():
    assert majority_share((None, label) for label in ["neutral"] * 7 + ["joy"] * 3) == 0.7
