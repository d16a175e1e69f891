"""Scores of a judge, by hand."""

import pytest

from qwen_audio_jax.metrics.judged import Judged, judged_scores, two_scores


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8 6", (8, 6)),
        (" 10\t1\n", (10, 1)),
        ("8  6\n\n", (8, 6)),
        ("11 10", None),
        ("11/10", None),
        ("0 5", None),
        ("8.5 7", None),
        ("-3 7", None),
        ("8", None),
        ("8 6 4", None),
        ("8\n6", None),
        ("8, 6", None),
        ("Assistant 1: 8 6", None),
        ("8 6\nThe first answer is better.", None),
        ("٨ ٦", None),
        ("I cannot judge that.", None),
        ("", None),
    ],
)
def test_two_whole_numbers_and_nothing_else_are_scores(reply, scores):
    assert two_scores(reply) == scores


def test_case_8():
    """Of AIR-Bench's issue 3: (8, 6) with the reference first, (5, 9) with the answer first."""
    found = judged_scores([Judged((8, 6), (5, 9))])
    assert (found.value, found.reference, found.flip_rate) == (5.5, 8.5, 0.0)
    assert found.first_place == (2 - 4) / 2
    assert found.lowest == found.highest == 5.5


def test_a_judge_that_prefers_the_first_place_tells_nothing_of_the_answers():
    found = judged_scores([Judged((9, 5), (9, 5))] * 3)
    assert (found.value, found.reference, found.flip_rate, found.first_place) == (7, 7, 1, 4)


def test_a_tie_is_no_flip():
    found = judged_scores([Judged((7, 7), (8, 6)), Judged((6, 8), (7, 7)), Judged((6, 8), (6, 8))])
    assert found.flip_rate == pytest.approx(1 / 3)


def test_bounds_take_what_was_not_read_for_the_least_and_the_most():
    """(6 + 8) / 2 = 7; of the second answer one order gives 4, of the third none is read."""
    found = judged_scores([Judged((9, 6), (8, 9)), Judged((9, 4), None), Judged(None, None)])
    assert (found.n, found.value) == (1, 7.0)
    assert found.lowest == pytest.approx((7 + (4 + 1) / 2 + 1) / 3)
    assert found.highest == pytest.approx((7 + (4 + 10) / 2 + 10) / 3)


def test_nothing_read_is_no_score():
    found = judged_scores([Judged(None, None)])
    assert (found.n, found.value, found.flip_rate) == (0, None, None)
    assert (found.lowest, found.highest) == (1, 10)
    assert judged_scores([]).lowest is None
