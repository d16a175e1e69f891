"""Every form that talks come in gives the record, the ids and the mask of our own form."""

import json
import pathlib
import re

import numpy as np
import pytest
import soundfile
from talk_samples import (
    BOTH,
    CLIPS,
    HEARD,
    ONE,
    ROWS,
    SYSTEM,
    TWO,
    A,
    B,
    assistant,
    parts,
    text,
    user,
)

from data_pipelines.examples import Preprocessor
from data_pipelines.sources import conversations
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.text.tokenizer import train_sentencepiece


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    for name, clip in CLIPS.items():
        (folder / name).write_bytes(clip)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = [t for talk in (ONE, TWO, BOTH) for t in texts_of("chat", {"messages": talk})]
    return train_sentencepiece(texts, [], tmp_path_factory.mktemp("tokenizer"))


def write(folder, *rows, name="talks.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def record_of(path, **how):
    (row,), rejected = conversations.jobs(path, **how)
    assert rejected == []
    return conversations.make(row)


CASES = [
    pytest.param(form, *case, id=f"{form}-{number}")
    for form, cases in ROWS.items()
    for number, case in enumerate(cases)
]


def test_every_form_has_a_sample():
    assert list(ROWS) == list(conversations.FORMS)


@pytest.mark.parametrize(("form", "row", "messages", "clips"), CASES)
def test_a_form_is_told_and_gives_what_our_own_gives(folder, tokenizer, form, row, messages, clips):
    path = write(folder, row)
    made = record_of(path)
    assert made.task == "chat"
    messages = messages or row["messages"]
    names = [name for name in (A, B) if name in clips]
    own = record_of(write(folder, {"messages": messages, "audio": names}, name="own.jsonl"))
    assert made.annotation["messages"] == own.annotation["messages"] == messages
    assert list(made.audio) == list(own.audio) == [CLIPS[name] for name in names]
    for family in ("qwen_audio", "qwen2_audio"):
        preprocessor = Preprocessor(tokenizer, family, "tags", 16, "floor")
        here, there = preprocessor.example(made), preprocessor.example(own)
        np.testing.assert_array_equal(here.text.tokens, there.text.tokens)
        np.testing.assert_array_equal(here.text.loss_weights, there.text.loss_weights)
    assert record_of(path, form=form) == made


def test_the_examples_of_the_documentation(folder):
    """Each is told as the form that the page says, and refused by none of the rules."""
    page = pathlib.Path(__file__).parents[2] / "docs" / "data.md"
    rows = re.findall(r"^\| `(\w+)` \|.*?\|.*?\| `(\{.*?\})`", page.read_text(), re.MULTILINE)
    assert [form for form, _ in rows] == list(conversations.FORMS)
    (folder / "b.flac").write_bytes(CLIPS[A])
    for form, row in rows:
        (folder / "page.jsonl").write_text(row + "\n")
        for told in (form, "auto"):
            (made,), rejected = conversations.jobs(folder / "page.jsonl", told)
            assert rejected == []
            assert made.annotation["messages"][-1]["content"] in ("A bell.", "Hi.")


def test_what_else_a_row_says_is_kept(folder):
    notes = {"source": "mine", "license": "CC0-1.0", "language": "en", "kind": "audio_analysis"}
    made = record_of(write(folder, {"messages": ONE, "audio": A, "id": 7, **notes}))
    assert made.id == "7"
    assert made.annotation == {"messages": ONE, **notes}


def test_texts_are_texts(folder):
    """<audio> is a placeholder in some forms, <sound> in one, and nothing but text elsewhere."""
    said = "Is <audio> or <sound> a tag, or <|im_end|>?"
    for row in (
        {
            "messages": [{"role": "user", "content": [HEARD, text(said)]}, assistant(said)],
            "audio": A,
        },
        {"audio_filepath": A, "context": said, "text": said},
        {"path": A, "Q": said, "text": said, "task": "QA"},
        {"instruction": said, "output": said, "audio_id": A},
        {
            "conversation": [
                {"role": "user", "message_type": "audio", "content": A},
                {"role": "user", "message_type": "text", "content": said},
                {"role": "assistant", "message_type": "text", "content": said},
            ]
        },
    ):
        made = record_of(write(folder, row))
        assert made.annotation["messages"] == [user(HEARD, text(said)), assistant(said)]
    made = record_of(write(folder, {"prompt": said, "completion": said}))
    assert made.annotation["messages"] == [user(said), assistant(said)]
    sound = "<sound>Is it?"
    row = {"messages": [user("<audio>" + sound), assistant("Yes.")], "audios": [A]}
    assert record_of(write(folder, row)).annotation["messages"][0] == user(HEARD, text(sound))


def test_tags_are_kept_as_such(folder):
    tagged = [{"type": "tags", "text": "<|0.10|>"}, text("a bell")]
    talk = [user(HEARD), assistant(tagged)]
    assert record_of(write(folder, {"messages": talk, "audio": A})).annotation["messages"] == talk


@pytest.mark.parametrize(
    ("content", "joined"),
    [
        (["What is it?", [HEARD]], [HEARD, text("What is it?")]),
        ([[HEARD], "What is it?"], [HEARD, text("What is it?")]),
        (["One.", "Two.", [HEARD, HEARD]], [HEARD, HEARD, text("One.\nTwo.")]),
        (["One.", "Two."], "One.\nTwo."),
        # Where one's words stand before a clip on purpose they stay there.
        ([[text("First"), HEARD, text("second"), HEARD], "Which?"],
         [text("First"), HEARD, text("second"), HEARD, text("Which?")]),
        ([[text("First"), HEARD, text("or")], "Which?"],
         [text("First"), HEARD, text("or\nWhich?")]),
    ],
)  # fmt: skip
def test_users_messages_in_a_row_are_one(folder, content, joined):
    clips = sum(part == HEARD for part in joined) if isinstance(joined, list) else 0
    talk = [{"role": "user", "content": one} for one in content]
    made = record_of(write(folder, {"messages": [*talk, assistant("A.")], "audio": [A] * clips}))
    assert made.annotation["messages"] == [{"role": "user", "content": joined}, assistant("A.")]


def test_a_list_in_json_is_read_like_lines(folder):
    rows = [{"messages": ONE, "audio": A}, {"messages": [user("?")]}, {"messages": ONE, "audio": B}]
    for name, whole in (("list.json", rows), ("list.jsonl", rows), ("lines.json", None)):
        path = folder / name
        lines = "\n".join(map(json.dumps, rows))
        path.write_text(json.dumps(whole, indent=1) if whole else lines)
        made, rejected = conversations.jobs(path)
        assert [(row.line, row.id) for row in made] == [(1, "a-1"), (3, "b-3")]
        assert [one["row"] for one in rejected] == [2]
    path = folder / "salmonn.json"
    row = {"path": A, "text": "A bell.", "task": "QA", "Q": "What is it?"}
    path.write_text(json.dumps({"annotation": [row, row]}))
    made, rejected = conversations.jobs(path)
    assert [row.id for row in made] == ["a-1", "a-2"]
    assert not rejected
    path.write_text(json.dumps({"messages": ONE, "audio": A}, indent=2))
    assert record_of(path).annotation["messages"] == ONE
    bare = parts({"type": "audio", "audio": A}, text("What is it?"))
    path.write_text(json.dumps(bare, indent=2))
    assert record_of(path).annotation["messages"] == ONE
    made, rejected = conversations.jobs(write(folder, bare, bare, [7]))
    assert [row.annotation["messages"] for row in made] == [ONE, ONE]
    assert [one["row"] for one in rejected] == [3]


def test_files_are_joined_with_silence_between(folder):
    soundfile.write(folder / "low.wav", np.full((800, 2), 0.25), 8000, subtype="PCM_16")
    row = {"path": A, "expand_wav": [B, "low.wav"], "text": "-", "task": "QA", "Q": "?"}
    made = record_of(write(folder, row))
    (clip,) = made.audio
    pieces = [decode(CLIPS[A]), decode(CLIPS[B]), decode((folder / "low.wav").read_bytes())]
    gap = np.zeros(1600, np.float32)
    expected = np.concatenate([pieces[0], gap, pieces[1], gap, pieces[2]])
    np.testing.assert_allclose(decode(clip), expected, rtol=0, atol=2.0**-23)
    assert made.annotation["messages"] == [user(HEARD, text("?")), assistant("-")]


@pytest.mark.parametrize("field", ["context", "messages"])
def test_a_part_of_a_recording(folder, field):
    row = {"audio_filepath": A, "context": "What is it?", "text": "A bell."}
    if field == "messages":
        row = {"messages": ONE, "audio": A}
    made = record_of(write(folder, {**row, "offset": 0.05, "duration": 0.1}))
    np.testing.assert_array_equal(decode(made.audio[0]), decode(CLIPS[A])[800:2400])


def test_where_relative_paths_start(folder, tmp_path):
    row = {"messages": ONE, "audio": A}
    path = write(tmp_path, row)
    (rejection,) = conversations.jobs(path)[1]
    assert "a.flac is not there; --media-dir=DIR says where" in rejection["reason"]
    assert record_of(path, media_dir=folder).audio == (CLIPS[A],)
    absolute = {"messages": ONE, "audio": (folder / A).as_uri()}
    assert record_of(write(tmp_path, absolute)).audio == (CLIPS[A],)


def test_unplaced_clips_go_first_where_that_is_asked_for(folder):
    def placed(row):
        made = record_of(write(folder, row), unplaced_first=True)
        return made.annotation["messages"], list(made.audio)

    row = {"messages": [SYSTEM, user("What is it?"), assistant("A bell.")], "audios": [A]}
    assert placed(row) == ([SYSTEM, *ONE], [CLIPS[A]])
    row = {"messages": [user("Is <audio> higher?"), assistant("Yes.")], "audios": [A, B]}
    talk = [user(HEARD, text("Is "), HEARD, text(" higher?")), assistant("Yes.")]
    assert placed(row) == (talk, [CLIPS[A], CLIPS[B]])
    said = [{"from": "human", "value": "<sound-1>\nWhat?"}, {"from": "gpt", "value": "A bell."}]
    talk = [user(HEARD, HEARD, text("What?")), assistant("A bell.")]
    assert placed({"sound": [A, B], "conversations": said}) == (talk, [CLIPS[B], CLIPS[A]])
    rows = [{"messages": [user("<audio>?"), assistant("-")], "audios": []}]
    (rejection,) = conversations.jobs(write(folder, *rows), unplaced_first=True)[1]
    assert "<audio> stands once in the messages, and the row lists 0 clips" in rejection["reason"]
