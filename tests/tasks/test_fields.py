"""Every field has a type and a range, and is mended only where there is one reading."""

import pytest

from qwen_audio_jax.tasks import (
    KINDS,
    TASKS,
    TEMPLATED,
    AnnotationError,
    check_annotation,
    check_times,
)
from qwen_audio_jax.tasks.check import LATE
from qwen_audio_jax.tasks.fields import MAX_SECONDS, Listed, Text, Timeline

BLANK = [
    "",
    " ",
    "\n\t",
    "\u00a0",
    "\u3000",
    "\u200b",
    "\ufeff",
    "\u2060 \u200d",
    "\u3164",
    "\ufe0f",
    "\0",
]
NO_TEXT = [42, 3.5, True, False, None, ["a"], {"a": 1}, []]


def clips_of(row):
    """How many go with its example."""
    return 1 if row.clips is None else row.clips


def refused(task, annotation, clips=None) -> str:
    with pytest.raises(AnnotationError) as refusal:
        check_annotation(task, annotation, clips_of(KINDS[task]) if clips is None else clips)
    said = str(refusal.value)
    assert "\n" not in said
    assert len(said) < 250
    return said


def places(value, path=()):
    """Where texts stand in an annotation: in fields, in lists, in objects in lists."""
    if isinstance(value, str):
        yield path
    for key, part in value.items() if isinstance(value, dict) else ():
        yield from places(part, (*path, key))
    for number, part in enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, number))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


EVERY_TEXT = [(task, path) for task, row in TEMPLATED.items() for path in places(row.example)]
EVERY_LABEL = [text for text in EVERY_TEXT if "language" not in text[1][0]]


@pytest.mark.parametrize("task", KINDS)
def test_every_example_is_as_it_should_be(task):
    row = KINDS[task]
    assert check_annotation(task, row.example, clips_of(row)) == (row.example, ())
    assert set(row.example) <= {*row.fields, *row.optional}


@pytest.mark.parametrize(("task", "path"), EVERY_TEXT)
def test_no_text_may_be_of_another_type_or_blank(task, path):
    row = KINDS[task]
    for value in [*NO_TEXT, *BLANK]:
        annotation = replaced(row.example, path, value)
        if path[0] in row.optional and len(path) == 1 and value in (None, "", []):
            continue
        assert f"field {path[0]!r}" in refused(task, annotation)


@pytest.mark.parametrize(("task", "path"), EVERY_LABEL)
def test_blanks_at_an_end_are_left_out_and_counted(task, path):
    row = KINDS[task]
    text = row.example
    for key in path:
        text = text[key]
    for stray in (" ", "\n", "\u00a0", "\u200b", "\ufeff"):
        given = replaced(row.example, path, stray + text + stray)
        before = replaced(given, (), given)
        stored, notes = check_annotation(task, given, clips_of(row))
        assert given == before
        if task == "text":
            assert (stored, notes) == (given, ())  # documents keep their line ends
        else:
            assert stored == row.example
            assert len(notes) == 1
            assert notes[0].startswith(f"field {path[0]!r}: ")


@pytest.mark.parametrize("task", KINDS)
def test_a_field_that_is_missing_null_or_of_another_form_is_named(task):
    row = KINDS[task]
    for field in row.fields:
        for value in (
            None,
            "",
            [],
            {},
            [[]],
            [{}],
            [None],
            True,
            1e999,
            "\u200b",
            10**400,
            {"a": []},
        ):
            assert f"field {field!r}" in refused(task, row.example | {field: value})
        without = {name: value for name, value in row.example.items() if name != field}
        assert refused(task, without).startswith(f"field {field!r}: missing or empty")


@pytest.mark.parametrize("task", TASKS)
def test_a_tag_in_an_answer_is_refused(task):
    """It would be taken out of what is scored."""
    row = KINDS[task]
    for path in places(row.example):
        if path[0] in ("language", "target_language", "question", "phrase"):
            continue
        said = refused(task, replaced(row.example, path, "good <|en|> morning"))
        assert f"field {path[0]!r}" in said


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("asr", {"text": 42}, "field 'text': must be a text, not the number 42; write \"42\""),
        ("asr", {"text": None}, "field 'text': missing or empty"),
        ("asr", {"language": "en,fr"}, "field 'language': must be a code of ISO 639, as 'en'"),
        ("asr", {"target_language": "event"}, "field 'target_language': must be a code"),
        ("audio_captioning", {"language": 3}, "field 'language': must be a text, not the number 3"),
        ("audio_captioning", {"text": ["a dog", "a cat"]}, "must be a text, not a list"),
        ("note_analysis", {"pitch": 60.5}, "must be a MIDI number from 0 to 127, not the number"),
        ("note_analysis", {"pitch": "60"}, "must be a MIDI number from 0 to 127, not '60'"),
        ("note_analysis", {"velocity": -1}, "must be a MIDI number"),
        ("note_analysis", {"velocity": True}, "must be a MIDI number from 0 to 127, not true"),
        ("note_analysis", {"instrument": "a<b"}, "text without `<` and `\"`, not 'a<b'"),
        ("note_analysis", {"qualities": "bright"}, "must be a list of names, not 'bright'"),
        ("note_analysis", {"qualities": ["a", "b,c"]}, "number 2 must be text without"),
        ("intent_classification", {"scenario": "a,b"}, "must be text without `,`"),
        ("overlapped_speech_recognition", {"texts": ["a"]}, "must have 2 to 6 items, not 1"),
        ("entity_recognition", {"entities": [{"type": "a"}]}, "number 1 is not"),
        (
            "entity_recognition",
            {"entities": [{"type": "city", "value": 3}]},
            "field 'entities': 'value' of number 1 must be a text, not the number 3",
        ),
        (
            "speaker_diarization",
            {"turns": [{"speaker": "A", "start": 1.0, "end": 1.001}]},
            "field 'turns': has nothing in it that lasts",
        ),
        (
            "word_timestamps",
            {"words": [{"word": "a", "start": True, "end": 1}]},
            "start and end of 'a' must be numbers",
        ),
        (
            "sound_event_detection",
            {"events": [{"event": "a", "start": 0, "end": 10**400}]},
            "times of 'a' must rise within 0..3600 s",
        ),
    ],
)
def test_sentences(task, change, said):
    assert said in refused(task, KINDS[task].example | change)


def test_a_whole_number_may_be_written_with_a_point():
    example = KINDS["note_analysis"].example
    stored, notes = check_annotation("note_analysis", example | {"pitch": 60.0}, 1)
    assert str(stored["pitch"]) == "60"
    assert notes == ("field 'pitch': numbers such as 60.0 read as whole ones",)


def test_an_empty_field_that_may_be_missing_is_taken_as_missing():
    for value in (None, ""):
        stored, notes = check_annotation("speaker_gender", {"text": "male", "language": value}, 1)
        assert stored == {"text": "male"}
        assert notes == ("field 'language': empty, taken as not given",)


def test_further_fields_are_kept_as_they_are():
    further = {"license": "CC0 ", "n": 3, "speaker": None, "words": "of the day", "lang": "en"}
    annotation = {"text": "a dog barks"} | further
    assert check_annotation("audio_captioning", annotation, 1) == (annotation, ())


@pytest.mark.parametrize(
    ("task", "other", "field"),
    [
        ("asr", "transcript", "text"),
        ("asr", "Sentence", "text"),
        ("asr", "txet", "text"),
        ("asr", "lang", "language"),
        ("asr", "langauge", "language"),
        ("speech_translation", "target_lang", "target_language"),
        ("note_analysis", "midi_pitch", "pitch"),
        ("speaker_diarization", "segments", "turns"),
    ],
)
def test_a_field_of_another_name_is_suggested(task, other, field):
    annotation = dict(KINDS[task].example)
    annotation[other] = annotation.pop(field)
    said = refused(task, annotation)
    assert said.endswith(f"; if {other!r} is it, call it {field!r}")


def test_a_misspelt_field_that_may_be_missing_is_not_passed_over():
    said = refused("speaker_gender", {"text": "female", "langauge": "en"})
    assert said.startswith("field 'langauge': did you mean 'language'?")
    check_annotation("speaker_gender", {"text": "female", "language": "en", "lang": "x"}, 1)


def test_times_end_with_the_clip():
    for task, row in KINDS.items():
        for field, kind in row.fields.items():
            if not isinstance(kind, Timeline):
                continue
            assert row.clips == 1  # or it would have to be said in which of them
            end = max(unit["end"] for unit in row.example[field])
            check_times(task, row.example, end)
            check_times(task, row.example, end - LATE + 0.001)
            with pytest.raises(
                AnnotationError, match=rf"field '{field}': a time of {end:g} s"
            ) as late:
                check_times(task, row.example, end - LATE - 0.01)
            assert f"the clip lasts {end - LATE - 0.01:.2f} s" in str(late.value)
    assert LATE <= 0.1
    check_times("asr", KINDS["asr"].example, 0.1)


def test_minus_zero_and_whole_seconds_are_times():
    words = [
        {"word": "a", "start": -0.0, "end": 0.5},
        {"word": "b", "start": 1, "end": MAX_SECONDS},
    ]
    stored, _ = check_annotation("word_timestamps", {"words": words, "language": "en"}, 1)
    assert str(stored["words"][0]["start"]) == "0.0"
    assert stored["words"][1] == words[1]


def test_every_text_of_an_answer_is_closed_to_tags():
    """What is read back between tags must not hold one."""
    for name, row in KINDS.items():
        for field, kind in row.fields.items():
            inner = kind.item if isinstance(kind, Listed) else kind
            if isinstance(inner, Text) and row.metric and field not in ("question", "phrase"):
                assert any(sign in "<|" for sign in inner.forbidden), (name, field)
