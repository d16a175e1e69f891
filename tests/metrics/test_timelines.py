"""timestamps and events against examples worked by hand."""

import pytest

from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.metrics.timelines import (
    Unit,
    average_shift,
    parse_events,
    parse_timeline,
    reference_timeline,
)

# The original evaluation's label begins so: <|0.00|><|sil|><|0.54|>面<|0.86|>条<|1.17|>机<|1.46|>
NOODLES = {
    "language": "zh",
    "words": [
        {"word": "面", "start": 0.54, "end": 0.86},
        {"word": "条", "start": 0.86, "end": 1.17},
        {"word": "机", "start": 1.17, "end": 1.46},
    ],
}
RIGHT = "<|sil|><|0.54|>面<|0.86|>条<|1.17|>机<|1.46|>"


def scored(*answers):
    return {row["metric"]: row for row in score("word_timestamps", list(answers))}


def test_timeline_puts_the_opening_time_back():
    units = [
        Unit("<|sil|>", 0.0, 0.54),
        Unit("面", 0.54, 0.86),
        Unit("条", 0.86, 1.17),
        Unit("机", 1.17, 1.46),
    ]
    assert reference_timeline(NOODLES) == units
    assert parse_timeline(RIGHT) == units
    assert parse_timeline("<|zh|><|timestamps|><|0.00|>" + RIGHT) == units
    assert parse_timeline(RIGHT + " cut off in the mid") == units


@pytest.mark.parametrize("text", ["", "no times", "<|0.50|><|0.60|>", "a<|0.50|><|0.60|>b<|0.70|>"])
def test_pattern_errors_are_told(text):
    assert parse_timeline(text) is None


def test_a_word_that_looks_like_a_tag_or_a_field_stays_a_word():
    words = [
        {"word": "<|1.00|>", "start": 0.0, "end": 0.5},
        {"word": "{words}", "start": 0.5, "end": 1.0},
    ]
    assert [u.text for u in reference_timeline({"words": words})] == ["<|1.00|>", "{words}"]


def test_the_right_answer_has_no_error_and_no_shift():
    rows = scored(Answer(NOODLES, RIGHT))
    assert rows["wer"]["value"] == 0.0
    assert rows["aas_ms"]["value"] == 0.0
    # Spread over 1.46 s the words begin at 0, 0.4867, 0.9733 and end at 0.4867, 0.9733, 1.46.
    shift = (0.54 + 0.86 - 0.48667) + (0.86 - 0.48667 + 1.17 - 0.97333) + (1.17 - 0.97333)
    assert rows["wer"]["baseline"] == 1.0
    assert rows["aas_ms"]["baseline"] == pytest.approx(1000 * shift / 3, abs=0.02)


def test_shift_is_summed_over_both_ends_of_equal_units_only():
    # sil ends 40 ms early; 面 starts 40 ms early, ends 60 ms early; 条 starts 60 ms early, ends
    # 30 ms late; 机 was not recognised. (40 + 100 + 90) / 3.
    rows = scored(Answer(NOODLES, "<|sil|><|0.50|>面<|0.80|>条<|1.20|>及<|1.46|>"))
    assert rows["aas_ms"]["value"] == pytest.approx(230 / 3)
    assert rows["wer"]["value"] == pytest.approx(1 / 3)


def test_a_missing_word_does_not_shift_its_successors():
    rows = scored(Answer(NOODLES, "<|sil|><|0.54|>面<|1.17|>机<|1.46|>"))
    # sil and 机 exact, 面 ends 310 ms late.
    assert rows["aas_ms"]["value"] == pytest.approx(310 / 3)


def test_unparseable_answers_are_skipped_as_pairs():
    rows = scored(Answer(NOODLES, "garbage"), Answer(NOODLES, RIGHT))
    assert rows["aas_ms"]["value"] == 0.0
    assert (rows["aas_ms"]["n"], rows["aas_ms"]["unreadable"]) == (2, 1)
    assert (rows["wer"]["n"], "unreadable" in rows["wer"]) == (2, False)
    other = scored(Answer(NOODLES, "<|0.10|>x<|0.20|>"))["aas_ms"]
    assert (other["value"], other["n"], other["unreadable"]) == (None, 1, 1)
    assert scored(Answer(NOODLES, ""))["aas_ms"]["value"] is None
    assert average_shift([]) is None


def event(label, start, end):
    return {"event": label, "start": start, "end": end}


def test_events_are_read_and_what_does_not_fit_is_passed_over():
    assert parse_events("<|0.54|>siren<|1.20|><|0.80|>bell<|1.00|>") == [
        Unit("siren", 0.54, 1.20),
        Unit("bell", 0.80, 1.00),
    ]
    assert parse_events("x<|0.10|><|0.20|>bell<|0.30|>noise<|0.40|>rain") == [
        Unit("bell", 0.20, 0.30)
    ]


def test_event_f1_by_hand():
    annotation = {
        "events": [event("siren", 1.0, 2.0), event("bell", 3.0, 3.5), event("bell", 3.1, 3.5)]
    }
    # Right: siren 0.2 s late, one bell. Wrong: a bell too late, a siren found twice, a false dog.
    hypothesis = (
        "<|1.20|>siren<|9.00|><|1.10|>siren<|1.50|><|3.00|>bell<|3.20|>"
        "<|3.40|>bell<|3.60|><|3.00|>dog<|3.20|>"
    )
    row, _ = score("sound_event_detection", [Answer(annotation, hypothesis)])
    assert row["metric"] == "event_f1_onset"
    assert row["value"] == pytest.approx(2 * 2 / (3 + 5))
    assert row["baseline"] == 0.0


def test_matching_finds_the_most_pairs():
    # Giving the bell at 1.15 to the reference nearest to it would leave one unmatched.
    annotation = {"events": [event("bell", 1.0, 2.0), event("bell", 1.2, 2.0)]}
    hypothesis = "<|1.15|>bell<|2.00|><|1.35|>bell<|2.00|>"
    assert score("sound_event_detection", [Answer(annotation, hypothesis)])[0]["value"] == 1.0
