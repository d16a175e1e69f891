"""Whatever a build accepts is scored, and the exact answer is perfect, in each conditioning."""

import functools
import json
import math
import unicodedata

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.metrics.scales import SCALES, evaluation_table, gain, verdict
from qwen_audio_jax.rendering import render
from qwen_audio_jax.tasks import TASKS, AnnotationError, check_annotation

NASTY = [
    "a",
    " a  b ",
    "a\n\tb\u2028c\u00a0",
    "<|en|>",
    "<|0.50|>a<|1.00|>",
    "<|30.00|>",
    "<|sil|>",
    "<|delim|>",
    "<|endoftext|> and on",
    "a<|b",
    "|>a<|",
    "a < b > c",
    "<script>&amp;",
    'say "no", then "yes"',
    '"',
    "a\\",
    '\\"',
    ", ,",
    ".",
    " ?",
    "{words[0][word]} {} %s {text!json}",
    "scenario a, action b",
    "pitch 1, velocity 2, horn",
    "<|startofentitytype|>a<|endofentitytype|><|startofentityvalue|>b<|endofentityvalue|>",
    "<|instrument|>a<|midi_pitch_1|>",
    "你好，世界。",
    "ß İ ŉ ﬁ",
    "e\u0301 \u202eabc\u202c \U0001f469\u200d\U0001f4bb",
    "\x00\x1f\ufeff\ufffd",
    "a" * 300,
    "one two three four five",
]
text = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
name = text.filter(lambda text: not set(text) & set(',<"')) | st.just(" two  words ")
language = st.sampled_from(["en", "zh", "ja", "th", "de", "yue", "unknown"])


@st.composite
def timed(draw, key: str | None, most: float = 3600.0):
    """Units one after another; the first may begin late, and a unit may last no time."""
    steps = draw(st.lists(st.floats(0, most / 12), min_size=2, max_size=10))
    clock, times = 0.0, []
    for step in steps:
        clock += step
        times.append(clock)
    pairs = zip(times[0::2], times[1::2], strict=False)
    units = [{"start": start, "end": end} for start, end in pairs]
    return [unit | {key: draw(text)} if key else unit for unit in units]


FIELDS = {
    "text": text,
    "question": text,
    "phrase": text,
    "language": language,
    "target_language": language,
    "texts": st.lists(text, min_size=2, max_size=6),
    "entities": st.lists(st.fixed_dictionaries({"type": name, "value": text}), min_size=1),
    "scenario": name,
    "action": name,
    "pitch": st.integers(0, 127),
    "velocity": st.integers(0, 127),
    "instrument": text,
    "qualities": st.lists(name, max_size=3),
    "words": timed("word"),
    "events": timed("event"),
    "turns": timed("speaker"),
    "segments": timed(None),
}


@st.composite
def annotations(draw, task: str):
    """One that a build accepts."""
    fields = {name: draw(FIELDS[name]) for name in (*TASKS[task].fields, *TASKS[task].optional)}
    try:
        check_annotation(task, fields, TASKS[task].clips)
    except AnnotationError:
        assume(False)
    return fields


def label(task: str, annotation: dict, conditioning: str) -> str:
    """What the model learns to write, as it is decoded."""
    return "".join(span.tag or span.text for span in render(task, annotation, conditioning)[1])


@pytest.mark.parametrize("conditioning", ["tags", "prompts"])
@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_the_exact_answer_is_perfect(task, conditioning, data):
    several = data.draw(st.lists(annotations(task), min_size=1, max_size=3))
    # As it is, or as a vocabulary decodes it that knows letters with marks in one form only.
    form = data.draw(st.sampled_from([str, functools.partial(unicodedata.normalize, "NFC")]))
    answers = [Answer(one, form(label(task, one, conditioning))) for one in several]
    rows = score(task, answers)
    evaluation_table(rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        verdict(row), gain(row)
        assert row["n"] == len(answers)
        # Undefined where there is no word, no token and no speech in any reference.
        if row["value"] is not None:
            assert row["value"] == pytest.approx(SCALES[row["metric"]].best)
        else:
            assert row["metric"] in ("wer", "bleu", "der")


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_any_answer_to_any_label_is_scored(task, data):
    answers = [
        Answer(data.draw(annotations(task)), " ".join(data.draw(st.lists(text, max_size=4))))
        for _ in range(2)
    ]
    for row in score(task, answers):
        assert row["n"] == 2
        assert row["value"] is None or math.isfinite(row["value"])


@pytest.mark.parametrize("task", TASKS)
def test_the_examples_of_the_table_are_perfect(task):
    one = TASKS[task].example
    for conditioning in ("tags", "prompts"):
        for row in score(task, [Answer(one, label(task, one, conditioning))]):
            assert row["value"] == pytest.approx(SCALES[row["metric"]].best)


@pytest.mark.parametrize(
    ("task", "annotation", "answers"),
    [
        (
            "intent_classification",
            {"scenario": "alarm ", "action": " set", "language": "en"},
            ["<|scenario|>alarm<|action|>set", "scenario alarm, action set"],
        ),
        (
            "entity_recognition",
            {"entities": [{"type": "city ", "value": "Berlin "}], "language": "en"},
            [
                "<|startofentitytype|>city<|endofentitytype|>"
                "<|startofentityvalue|>Berlin<|endofentityvalue|>",
                'city "Berlin"',
                'city  "Berlin "',
            ],
        ),
        (
            "note_analysis",
            {"pitch": 60, "velocity": 9, "instrument": "flute "},
            ["pitch 60, velocity 9, flute", "pitch 60, velocity 9, flute "],
        ),
        (
            "note_analysis",
            {"pitch": 60, "velocity": 9, "instrument": "a<b"},
            ["pitch 60, velocity 9, a<b", " velocity 9, a<b<|x|>, pitch 60"],
        ),
    ],
)
def test_stray_blanks_make_no_difference(task, annotation, answers):
    for hypothesis in answers:
        assert score(task, [Answer(annotation, hypothesis)])[0]["value"] == 1.0
    last = score(task, [Answer(annotation, answers[-1])])[-1]
    assert last["value"] == 1.0


WRONG = {
    "asr": {"text": 42},
    "speech_translation": {"text": ["a", "b"], "target_language": 3},
    "audio_captioning": {"text": 3.5},
    "audio_question_answering": {"question": {"a": 1}, "text": ["yes"]},
    "overlapped_speech_recognition": {"texts": [1, None]},
    "word_timestamps": {"words": [{"word": None, "start": 0, "end": 0.5}]},
    "sound_event_detection": {"events": [{"event": [1], "start": 0, "end": 0.5}]},
    "speaker_diarization": {"turns": [{"speaker": ["A"], "start": 0, "end": 1}]},
    "entity_recognition": {"entities": [{"type": 5, "value": {"a": 1}}]},
    "intent_classification": {"scenario": ["alarm"], "action": True},
    "note_analysis": {"pitch": 60, "velocity": 9, "instrument": {"a": 1}},
}


@pytest.mark.parametrize("task", WRONG)
def test_labels_of_old_corpora_are_scored_as_the_model_learned_them(task, caplog):
    annotation = {"language": "en", "target_language": "de"} | WRONG[task]
    exact = Answer(annotation, label(task, annotation, "tags"))
    for row in score(task, [exact]):
        assert row["n"] == 1
        assert row["value"] == pytest.approx(SCALES[row["metric"]].best)
    assert not caplog.records


@pytest.mark.parametrize(
    ("task", "broken"),
    [
        ("word_timestamps", {"words": "abc"}),
        ("sound_event_detection", {"events": [{"event": "bell"}]}),
        ("speaker_diarization", {"turns": [{"speaker": "A", "start": "x", "end": None}]}),
        ("audio_grounding", {"segments": 5}),
        ("entity_recognition", {"entities": [{"type": "city"}]}),
        ("overlapped_speech_recognition", {"texts": 7}),
    ],
)
def test_labels_that_cannot_be_read_are_counted_out(task, broken, caplog):
    good = TASKS[task].example
    rows = score(task, [Answer(broken, "x"), Answer(good, label(task, good, "tags"))])
    assert [row["n"] for row in rows] == [1] * len(rows)
    assert all(row["value"] == SCALES[row["metric"]].best for row in rows)
    assert f"{task}: 1 of 2 answers are not scored" in caplog.text
