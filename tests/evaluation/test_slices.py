"""Slices by hand, and that each item is where its annotation says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.evaluation.slices import FIELDS, Slice, slices


def names(annotations, least=1):
    return {one.name: list(one.items) for one in slices(annotations, least)}


def test_slices_of_least_items_in_the_order_of_fields_and_values():
    annotations = [
        {"language": "fr", "gender": "Female", "duration": 12.0},
        {"language": "en", "gender": "female ", "duration": 1},
        {"language": "en", "gender": "male", "duration": 2.0, "text": "hello"},
        {"language": "de"},
    ]
    assert slices(annotations, least=2) == [
        Slice("language", "en", (1, 2)),
        Slice("gender", "female", (0, 1)),
        Slice("duration", "to 2 s", (1, 2)),
    ]


def test_buckets_are_in_the_order_of_their_numbers():
    annotations = [{"duration": s} for s in (31, 30, 10.5, 3, 0.4)]
    assert names(annotations) == {
        "duration=to 2 s": [4],
        "duration=2-5 s": [3],
        "duration=10-20 s": [2],
        "duration=20-30 s": [1],
        "duration=over 30 s": [0],
    }
    assert list(names([{"snr": s} for s in (25, -3, 7)])) == [
        "snr=to 0 dB",
        "snr=5-10 dB",
        "snr=over 20 dB",
    ]


def test_what_benchmarks_tell_of_their_items():
    annotations = [{"category": "Reasoning", "spoken_language": "zh"}, {"difficulty": "hard"}]
    assert names(annotations) == {
        "category=reasoning": [0],
        "difficulty=hard": [1],
        "spoken_language=zh": [0],
    }


def test_ages_are_decades_or_words():
    annotations = [{"age": age} for age in (34, 30, 9, "Twenties", 103)]
    assert names(annotations) == {
        "age=0-9": [2],
        "age=twenties": [3],
        "age=30-39": [0, 1],
        "age=100-109": [4],
    }


def test_a_slice_of_all_items_says_nothing_new():
    assert slices([{"language": "en"}] * 60) == []
    assert names([{"language": "en"}] * 2 + [{}], least=2) == {"language=en": [0, 1]}


@pytest.mark.parametrize("value", [None, True, math.nan, "", "  ", [1], {"a": 1}, "12"])
def test_values_of_another_type_are_in_no_bucket(value):
    assert names([{"duration": value, "snr": value}, {}]) == {}


VALUES = st.none() | st.text(max_size=3) | st.floats() | st.integers() | st.lists(st.none())
ANNOTATIONS = st.lists(st.dictionaries(st.sampled_from([*FIELDS, "text"]), VALUES), max_size=8)


@given(ANNOTATIONS, st.integers(1, 3))
def test_any_annotations_have_slices(annotations, least):
    found = slices(annotations, least)
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert least <= len(one.items) < len(annotations)
        assert list(one.items) == sorted(set(one.items))
        assert all(one.field in annotations[number] for number in one.items)
