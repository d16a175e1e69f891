"""Intent, entities and grounding against examples worked by hand."""

import pytest

from qwen_audio_jax.metrics import Answer, score


def row(task, *answers):
    (found,) = score(task, [Answer(*answer) for answer in answers])
    return found


def test_intent_needs_scenario_and_action():
    alarm = {"scenario": "alarm", "action": "set"}
    lights = {"scenario": "lights", "action": "turn off"}
    found = row(
        "intent_classification",
        (alarm, "<|scenario|>alarm<|action|>set"),
        (alarm, "scenario alarm, action query"),
        (alarm, "alarm set"),
        (lights, " scenario lights, action turn off "),
    )
    assert found["value"] == pytest.approx(2 / 4)
    assert found["baseline"] == pytest.approx(3 / 4)


def test_entities_are_counted_as_pairs():
    entities = [{"type": "person", "value": "Anna"}, {"type": "city", "value": "Bonn"}]
    found = row(
        "entity_recognition",
        ({"entities": entities}, 'person "anna", city "Berlin"'),
        ({"entities": entities[:1]}, 'person "Anna", person "Anna"'),
        ({"entities": entities}, ""),
    )
    # Right 2, wanted 5, found 4.
    assert found["value"] == pytest.approx(2 * 2 / (5 + 4))
    assert found["baseline"] == 0


def test_grounding_is_shared_time_over_all_time():
    segments = [{"start": 1.0, "end": 2.0}, {"start": 3.0, "end": 4.0}]
    found = row(
        "audio_grounding",
        ({"phrase": "x", "segments": segments}, "<|1.00|><|2.00|><|delim|><|3.00|><|4.00|>"),
        ({"phrase": "x", "segments": segments}, "<|1.50|><|3.50|>"),
        ({"phrase": "x", "segments": segments}, "often"),
    )
    assert found["value"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found["baseline"] == pytest.approx(2 / 4)
