"""accuracy and note against examples worked by hand."""

import pytest

from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.tasks import parse


def test_accuracy_compares_tag_free_text_exactly():
    pairs = [
        ("dog bark", "dog bark"),
        ("dog bark", " <|en|>dog bark "),
        ("dog bark", "Dog bark"),
        ("siren", ""),
    ]
    answers = [Answer({"text": text}, hypothesis) for text, hypothesis in pairs]
    (row,) = score("sound_event_classification", answers)
    assert row["metric"] == "accuracy"
    assert row["value"] == 0.5
    assert row["baseline"] == 0.75  # three of four are dog barks
    assert row["n"] == 4


def test_baseline_is_the_best_constant_answer_to_each_question():
    labels = [("Is it loud?", "yes")] * 3 + [("Is it loud?", "no")] + [("How many?", "two")] * 2
    answers = [Answer({"question": q, "text": a}, "yes") for q, a in labels]
    (row,) = score("audio_question_answering", answers)
    assert row["value"] == pytest.approx(3 / 6)
    assert row["baseline"] == pytest.approx((3 + 2) / 6)


@pytest.mark.parametrize(
    "text",
    [
        "<|pitch|><|midi_pitch_60|><|velocity|><|midi_velocity_80|><|instrument|>flute",
        "<|instrument|>flute<|velocity|><|midi_velocity_80|><|pitch|><|midi_pitch_60|>",
        "pitch 60, velocity 80, flute",
    ],
)
def test_both_forms_of_a_note_are_read(text):
    assert parse.note(text) == {"pitch": 60, "velocity": 80, "instrument": "flute"}


def test_instrument_may_hold_a_comma():
    assert parse.note("pitch 60, velocity 80, guitar, muted")["instrument"] == "guitar, muted"


def test_note_scores_each_field_and_unreadable_fields_are_wrong():
    flute = {"pitch": 60, "velocity": 80, "instrument": "flute"}
    organ = {"pitch": 61, "velocity": 80, "instrument": "organ"}
    answers = [
        Answer(flute, "pitch 60, velocity 81, flute"),
        Answer(flute, "<|pitch|><|midi_pitch_60|><|instrument|>"),
        Answer(organ, "nothing to read"),
        Answer(organ, "<|instrument|>organ<|velocity|><|midi_velocity_80|>"),
    ]
    rows = {row["metric"]: row for row in score("note_analysis", answers)}
    assert {name: row["value"] for name, row in rows.items()} == {
        "accuracy": 0.5,
        "velocity_accuracy": 0.25,
        "instrument_accuracy": 0.5,
    }
    assert rows["velocity_accuracy"]["baseline"] == 1.0
    assert rows["accuracy"]["baseline"] == 0.5
