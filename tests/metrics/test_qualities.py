"""Qualities and chroma of notes, by hand and against scikit-learn's recorded values."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics.qualities import QUALITIES, chroma_accuracy, quality_precision

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "notes.json"


@pytest.mark.parametrize("notes", json.loads(GOLDEN.read_text())["sets"])
def test_official_values_are_the_scripts(notes):
    official = quality_precision(notes["qualities"]).official
    assert official == pytest.approx(notes["average_precision"], abs=1e-12)
    assert chroma_accuracy(notes["pitches"]).official == pytest.approx(notes["chroma"])


def test_average_precision_by_hand():
    # bright: recall 1/2, precision 1/1, in 2 of 4 notes: 1/2 + 1/2 * 2/4. dark is right.
    pairs = [("bright, dark", "bright, dark"), ("bright", ""), ("", ""), ("", "")]
    found = quality_precision(pairs)
    assert found.official == found.strict == pytest.approx((3 / 4 + 1) / 2)


def test_what_a_model_invents_changes_the_official_value_alone():
    honest = quality_precision([("bright", "bright"), ("", "")])
    assert (honest.official, honest.strict) == (1, 1)
    # A quality that no note has adds one of precision 0; a name that is none adds nothing.
    invented = quality_precision([("bright", "bright, reverb"), ("", "warm")])
    assert (invented.official, invented.strict) == (1 / 2, 1)


def test_blanks_are_no_part_of_a_name():
    found = quality_precision([("bright, dark", " bright,dark "), ("", "")])
    # To the script that is one name, which it does not know.
    assert found.official == pytest.approx(1 / 2)
    assert found.strict == 1


def test_sets_without_any_quality_or_note():
    assert quality_precision([("", ""), ("", "warm")]) == quality_precision([])
    assert quality_precision([]).official is None
    assert quality_precision([("", "dark")]).official == 0
    assert quality_precision([("", "dark")]).strict is None
    assert chroma_accuracy([]).strict is None


def test_chroma_needs_the_pitches_and_not_their_places():
    # 62 and 74 are an octave apart; of the pitches 60, 62, 74 they are the second and third.
    found = chroma_accuracy([(60, 60), (62, 74)])
    assert (found.official, found.strict) == (1 / 2, 1)
    # 60 and 84 too, and here the script has them 12 places apart by chance.
    lucky = chroma_accuracy([(60, 84), *((60 + 2 * i, 60 + 2 * i) for i in range(1, 12))])
    assert (lucky.official, lucky.strict) == (1, 1)


def test_a_missing_pitch_is_wrong():
    assert chroma_accuracy([(None, None), (60, None)]).strict == 0
    assert chroma_accuracy([(None, None), (60, None)]).official == 1 / 2


names = st.lists(st.sampled_from(QUALITIES), unique=True).map(", ".join)


@given(st.lists(st.tuples(names, names), min_size=1))
def test_values_are_fractions_and_perfect_answers_are_perfect(pairs):
    found = quality_precision(pairs)
    for value in (found.official, found.strict):
        assert value is None or 0 <= value <= 1 + 1e-12
    perfect = quality_precision([(reference, reference) for reference, _ in pairs])
    assert perfect.official in (None, pytest.approx(1))
    assert perfect.official == perfect.strict
