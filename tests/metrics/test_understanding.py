"""Intent, entities and grounding against examples worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.tasks import labels


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


@pytest.mark.parametrize("start", [0, 90, 99.5, 120, 3590])
def test_grounding_wherever_it_lies(start):
    def iou(wanted, found):
        annotation = {"phrase": "x", "segments": [{"start": a, "end": b} for a, b in wanted]}
        said = labels.segments({"segments": [{"start": a, "end": b} for a, b in found]})
        return row("audio_grounding", (annotation, said))["value"]

    wanted = [(start, start + 10)]
    assert iou(wanted, wanted) == 1
    assert iou(wanted, []) == 0
    assert iou(wanted, [(start + 5, start + 10)]) == pytest.approx(0.5)
    assert iou(wanted, [(start + 5, start + 15)]) == pytest.approx(1 / 3)
    moment = [(start + 1, start + 1)]
    assert iou(moment, moment) == 1
    assert iou(moment, []) == 0
    assert iou(moment, [(start + 2, start + 2)]) == 0
    assert iou([], []) == 1


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), max_size=4)


@given(spans, spans)
def test_grounding_second_by_second(wanted, found):
    one, other = ({t for a, b in side for t in range(a, b)} for side in (wanted, found))
    if not one | other:
        return
    annotation = {"phrase": "x", "segments": [{"start": a, "end": b} for a, b in wanted]}
    said = "<|delim|>".join(f"<|{a}.00|><|{b}.00|>" for a, b in found)
    iou = row("audio_grounding", (annotation, said))["value"]
    assert iou == pytest.approx(len(one & other) / len(one | other))
