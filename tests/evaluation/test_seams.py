"""Errors near the cuts between windows, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.evaluation.recordings import joined
from qwen_audio_jax.evaluation.seams import seam_counts
from qwen_audio_jax.metrics.protocols import PROTOCOLS

TEN = "a b c d e f g h i j"


@pytest.mark.parametrize(
    ("reference", "texts", "near", "away"),
    [
        # Right: three words on each side of the cut.
        (TEN, ["a b c d e", "f g h i j"], (0, 6), (0, 4)),
        # A word that the cut went through is missing: before it and behind it as one.
        (TEN, ["a b c d", "f g h i j"], (1, 7), (0, 3)),
        # Heard on both sides.
        (TEN, ["a b c d e", "e f g h i j"], (1, 6), (0, 4)),
        # Heard as another.
        (TEN, ["a b c d x", "f g h i j"], (1, 6), (0, 4)),
        # Errors at either end of the recording are none of the cut's.
        (TEN, ["x b c d e", "f g h i j k"], (0, 6), (2, 4)),
        # A window that is silent: of the ten words that it lacks, those next to its two cuts.
        (f"{TEN} {TEN.upper()} k l", [TEN, "", "k l"], (6, 3 + 3 + 3 + 2), (4, 11)),
        # Nothing said at all, and nothing to say.
        ("a b c d", ["", ""], (4, 4), (0, 0)),
        ("", ["a", "b"], (2, 0), (0, 0)),
        # Windows of few words: each is near a cut.
        ("a b c", ["a", "b", "c"], (0, 3), (0, 0)),
    ],
)
def test_by_hand(reference, texts, near, away):
    assert seam_counts(reference, texts, "en") == (near, away)


def test_characters_where_words_have_no_spaces():
    near, away = seam_counts("今天天气很好我们去公园", ["今天天气很", "我们去公园"], "zh")
    assert near == (1, 7)
    assert away == (0, 4)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", ","]), max_size=12).map(" ".join)


@given(WORDS, st.lists(WORDS, min_size=2, max_size=4), st.sampled_from(["en", "zh", None]))
def test_near_and_away_are_all_errors_of_the_whole(reference, texts, language):
    near, away = seam_counts(reference, texts, language)
    whole = PROTOCOLS["v1"].edit_counts(reference, joined(texts, language), language)
    assert near[0] + away[0] == whole.edits
    assert near[1] + away[1] == whole.reference_length
    assert min(*near, *away) >= 0
