"""Commands, and what they leave in the talk; with a real engine."""

import dataclasses
import json
import os
import pathlib
import zipfile

import numpy as np
import pytest
from conftest import questions_of
from talking_model import write_model, write_tone

from data_pipelines.records import Record
from qwen_audio_jax.inference.answers import Request
from qwen_audio_jax.inference.engine import Engine, EngineConfig
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.inference.prompt import prompt_of
from qwen_audio_jax.inference.sampling import GREEDY, Sampling
from qwen_audio_jax.inference.weights import weights_of
from qwen_audio_jax.terminal import commands, talk_files
from qwen_audio_jax.terminal.clips import read_clip
from qwen_audio_jax.terminal.questions import Questions
from qwen_audio_jax.terminal.screen import Screen
from qwen_audio_jax.terminal.session import Session, Settings

DRAWN = Settings(Sampling(temperature=1.0), seed=5, max_new_tokens=6)
CONFIG = EngineConfig(slots=1, lengths=(256,), group=2)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load(write_model(tmp_path_factory.mktemp("model") / "mine"))


@pytest.fixture(scope="module")
def engine(loaded):
    made = Engine(loaded, CONFIG)
    yield made
    made.close()


@pytest.fixture
def session(loaded, engine) -> Session:
    return Session(loaded, engine, DRAWN, Screen(interactive=False))


@pytest.fixture
def tones(tmp_path) -> list[str]:
    return [str(write_tone(tmp_path / f"a {n}.flac", 200 + 90 * n)) for n in range(2)]


def contents(session: Session) -> list:
    return [message["content"] for message in session.conversation.messages]


def test_clips_and_text_are_one_turn_and_only_the_answer_is_on_standard_output(
    session, tones, capsys
):
    commands.run(session, f"/audio '{tones[0]}' '{tones[1]}'")
    commands.run(session, "What is <|im_end|> heard?")
    audio, text = {"type": "audio"}, {"type": "text", "text": "What is <|im_end|> heard?"}
    assert contents(session)[0] == [audio, audio, text]
    assert len(session.conversation.clips) == 2
    assert session.added == []
    out, err = capsys.readouterr()
    assert out == contents(session)[1] + "\n"
    assert "first token after" in err
    assert " 6 tokens" in err
    assert "cut at --max_new_tokens=6" in err


def test_audio_alone_is_a_turn_and_nothing_at_all_is_none(session, tones):
    commands.run(session, "")
    assert contents(session) == []
    commands.run(session, f"/audio '{tones[0]}'")
    commands.run(session, "")
    assert contents(session)[0] == [{"type": "audio"}]


def test_undo_takes_clips_first_and_then_turns(session, tones):
    commands.run(session, "Hello")
    commands.run(session, f"/audio '{tones[0]}' '{tones[1]}'")
    commands.run(session, "/undo")
    assert [clip.name for clip in session.added] == ["a 0.flac"]
    commands.run(session, "/undo")
    commands.run(session, "/undo")
    assert contents(session) == []
    with pytest.raises(ValueError, match="nothing was said yet"):
        commands.run(session, "/undo")


def test_again_answers_anew_in_the_place_of_the_answer(session):
    commands.run(session, "Hello")
    first = session.conversation.state()["turns"]
    commands.run(session, "/again")
    (second,) = session.conversation.state()["turns"]
    assert second["content"] == first[0]["content"]
    assert second["ids"] != first[0]["ids"]  # by the next seed


def test_an_answer_that_is_stopped_before_its_first_token_changes_nothing(
    session, engine, tones, monkeypatch, capsys
):
    commands.run(session, "Hello")
    before = session.conversation.state()
    say, again = session.conversation.say, session.conversation.again
    # The only slot is taken, so that the answer waits until it is stopped.
    example = prompt_of(session._loaded, [{"role": "user", "content": "x"}], [])
    long = engine.submit(Request(example, stop=(0,), max_new_tokens=200))

    def stopped(reply):
        reply.cancel()
        return reply

    monkeypatch.setattr(session.conversation, "say", lambda *a, **k: stopped(say(*a, **k)))
    monkeypatch.setattr(session.conversation, "again", lambda **k: stopped(again(**k)))
    commands.run(session, f"/audio '{tones[0]}'")
    for line in ("And this?", "/again"):
        commands.run(session, line)
        assert session.conversation.state() == before
        assert "stopped before a word came: not kept" in capsys.readouterr().err
        assert len(session.added) == 1
    long.cancel()
    long.wait()


def test_the_system_message_stands_before_all_turns(session, capsys):
    commands.run(session, "/system")
    assert "You are a helpful assistant." in capsys.readouterr().err
    commands.run(session, "/system Be brief.")
    commands.run(session, "Hello")
    assert contents(session)[0] == "Be brief."
    with pytest.raises(ValueError, match="reset"):
        commands.run(session, "/system Be long.")
    commands.run(session, "/reset")
    assert [m["role"] for m in session.conversation.messages] == ["system"]


def test_a_saved_talk_goes_on_as_if_it_had_not_been_left(
    loaded, engine, session, tones, tmp_path, capsys
):
    commands.run(session, "/system Be brief.")
    commands.run(session, f"/audio '{tones[0]}'")
    commands.run(session, "What is it?")
    commands.run(session, "And now?")
    commands.run(session, f"/save {tmp_path}/my talk.zip")
    again = Session(loaded, engine, DRAWN, Screen(interactive=False))
    capsys.readouterr()
    commands.run(again, f"/load {tmp_path}/my talk.zip")
    shown = capsys.readouterr().err
    assert "› [clip] What is it?\n" in shown
    assert again.conversation.state() == session.conversation.state()
    for before, after in zip(session.conversation.clips, again.conversation.clips, strict=True):
        np.testing.assert_array_equal(before, after)
    again._answers = session._answers  # the same seed next
    for each in (session, again):
        commands.run(each, "Why?")
    assert again.conversation.state() == session.conversation.state()
    commands.run(again, f"/save {tmp_path}/my talk.zip")  # its own file


def test_a_talk_with_another_model_is_refused(session, tmp_path):
    commands.run(session, "Hello")
    commands.run(session, f"/save {tmp_path}/talk.zip")
    other = load(write_model(tmp_path / "other", seed=4))
    assert weights_of(other) != weights_of(session._loaded)
    model = talk_files.Model("other", weights_of(other))
    told = (
        r"talk\.zip: is a talk with another model, which had the name 'mine', and this is 'other'"
    )
    with pytest.raises(ValueError, match=told):
        talk_files.load(f"{tmp_path}/talk.zip", model)
    with pytest.raises(ValueError, match="had the name 'mine' and other weights"):
        talk_files.load(f"{tmp_path}/talk.zip", dataclasses.replace(model, name="mine"))


def test_what_might_never_end_is_no_talk(session, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=r"is no file but a device or a pipe; name a file"):
            commands.run(session, f"/load {path}")
    with pytest.raises(ValueError, match="is a folder"):
        commands.run(session, f"/load {tmp_path}")


def test_again_needs_a_turn(session, capsys):
    with pytest.raises(ValueError, match="nothing was said yet"):
        commands.run(session, "/again")
    assert "most likely" not in "".join(capsys.readouterr())


def test_a_file_that_is_there_is_not_overwritten(session, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"mine\.txt: is there already; save under another name"):
        commands.run(session, f"/save {tmp_path}/mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "kept"
    with pytest.raises(ValueError, match="cannot be written"):
        commands.run(session, f"/save {tmp_path}/none/talk.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def damaged(saved, name: str, value):
    """The talk of a file with something else in it."""
    told = json.loads(saved["talk.json"])
    told[name] = value
    return saved | {"talk.json": json.dumps(told).encode()}


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: {},
        lambda saved: saved | {"talk.json": b"["},
        lambda saved: saved | {"talk.json": b"[" * 100_000},
        lambda saved: saved | {"talk.json": b"{}"},
        lambda saved: saved | {"talk.json": b"\xff"},
        lambda saved: {"talk.json": saved["talk.json"]},
        lambda saved: saved | {"clip-1.wav": b"no sound"},
        lambda saved: damaged(saved, "clips", 10**9),
        lambda saved: damaged(saved, "clips", None),
        lambda saved: damaged(saved, "clips", -1),
        lambda saved: damaged(saved, "form", 2),
        lambda saved: damaged(saved, "model", {"name": 1}),
        lambda saved: damaged(saved, "talk", {"system": None}),
        lambda saved: damaged(saved, "talk", {"system": 3, "turns": []}),
        lambda saved: damaged(saved, "talk", {"system": None, "turns": [{"content": 1}]}),
        lambda saved: damaged(saved, "talk", {"system": None, "turns": "x"}),
        lambda saved: damaged(
            saved, "talk", {"system": None, "turns": [{"content": [], "ids": [1e9], "text": ""}]}
        ),
    ],
)
def test_a_damaged_talk_is_refused_and_the_present_one_stays(session, tones, tmp_path, change):
    commands.run(session, f"/audio '{tones[0]}'")
    commands.run(session, "")
    path = f"{tmp_path}/talk.zip"
    commands.run(session, f"/save {path}")
    with zipfile.ZipFile(path) as archive:
        saved = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(saved).items():
            archive.writestr(name, data)
    before = session.conversation.state()
    with pytest.raises(ValueError, match=r"talk\.zip: is damaged"):
        commands.run(session, f"/load {path}")
    assert session.conversation.state() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/audio", "takes a file, or several"),
        ("/audio nowhere.wav", "nowhere.wav: there is no such file"),
        ("/audio {folder}", "is a folder; name a file in it"),
        ("/audio /dev/zero", "is no file but a device"),
        ("/audio {folder}/empty.wav", "empty.wav: the file is empty"),
        ("/audio {folder}/text.wav", "text.wav: it cannot be read as WAV"),
        ("/audio {folder}/empty.wave", "did you mean {folder}/empty.wav?"),
        ("/audio 'a", "has no counterpart"),
        ("/audio a\0b", "NUL"),
        ("/audio \udcff.wav", "there is no such file"),
        ("/load {folder}/text.wav", "text.wav: is no talk"),
        ("/load {folder}", "is a folder; name a file in it"),
        ("/load nowhere.zip", "nowhere.zip: there is no such file"),
        ("/load", "/load takes a file"),
        ("/load 'a' 'b'", "names 2 files"),
        ("/save a\0b", "no file's name has a NUL"),
        ("/undo now", "takes nothing behind it, and 'now' stands there"),
        ("/record", "takes a terminal"),
        ("/dance", "is no command"),
    ],
)
def test_nonsense_is_refused_in_a_sentence_with_the_mend(session, tmp_path, line, told):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"\w") as refused:
        commands.run(session, line.format(folder=tmp_path))
    assert told.format(folder=tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (session.added, contents(session)) == ([], [])


def test_of_several_files_one_that_is_bad_adds_none(session, tones):
    with pytest.raises(ValueError, match="no such file"):
        commands.run(session, f"/audio '{tones[0]}' none.wav")
    assert session.added == []


def test_a_message_that_no_slot_holds_is_refused_and_its_clips_stay(session, tones):
    commands.run(session, f"/audio '{tones[0]}'")
    with pytest.raises(ValueError, match="are the most"):
        commands.run(session, "A bell. " * 300)
    assert (len(session.added), contents(session)) == (1, [])
    commands.run(session, "Hello")
    assert len(contents(session)) == 2


class TestQuestions:
    """A task's questions, as pre-training has them."""

    def session(self, loaded, engine, task: str, **languages) -> Session:
        settings = Settings(GREEDY, seed=0, max_new_tokens=4)
        questions = Questions(loaded, engine, task, languages)
        return Session(loaded, engine, settings, Screen(interactive=False), questions=questions)

    @pytest.mark.parametrize(
        ("task", "words", "annotation"),
        [
            ("asr", "", {"language": "de", "text": "anything"}),
            ("speech_translation", "", {"language": "de", "target_language": "en", "text": "x"}),
            ("audio_question_answering", "Who?", {"question": "Who?", "text": "x"}),
        ],
    )
    @pytest.mark.parametrize("conditioning", ["tags", "prompts"])
    def test_a_prompt_is_that_of_a_record(
        self, loaded, engine, tones, task, words, annotation, conditioning
    ):
        how = dataclasses.replace(loaded.preprocessor, conditioning=conditioning)
        loaded = dataclasses.replace(loaded, preprocessor=how)
        told = {key: annotation[key] for key in annotation if key.endswith("language")}
        questions = Questions(loaded, engine, task, told)
        data = pathlib.Path(tones[0]).read_bytes()
        ((expected, _),) = questions_of(how, Record("x", task, (data,), annotation))
        asked = questions.example([read_clip(tones[0]).wave], words)
        np.testing.assert_array_equal(asked.text.tokens, expected.text.tokens)
        np.testing.assert_array_equal(asked.clips[0], expected.clips[0])

    def test_each_clip_is_a_question(self, loaded, engine, tones, capsys):
        session = self.session(loaded, engine, "asr", language="English")
        commands.run(session, f"/audio '{tones[0]}' '{tones[1]}'")
        assert len(capsys.readouterr().out.splitlines()) == 2
        commands.run(session, "/again")
        assert len(capsys.readouterr().out.splitlines()) == 1

    def test_words_are_refused_where_the_task_asks_none(self, loaded, engine, tones):
        session = self.session(loaded, engine, "speaker_verification")
        commands.run(session, f"/audio '{tones[0]}'")
        session.added *= 2
        with pytest.raises(ValueError, match="asks nothing in words"):
            commands.run(session, "Who?")

    def test_two_clips_where_the_task_takes_two(self, loaded, engine, tones, capsys):
        session = self.session(loaded, engine, "speaker_verification")
        commands.run(session, f"/audio '{tones[0]}'")
        assert capsys.readouterr().out == ""
        with pytest.raises(ValueError, match=r"1 clip added, and a question .* takes 2"):
            commands.run(session, "")
        commands.run(session, f"/audio '{tones[1]}'")
        assert len(capsys.readouterr().out.splitlines()) == 1

    def test_words_are_typed_where_the_task_asks_in_words(self, loaded, engine, tones, capsys):
        session = self.session(loaded, engine, "audio_question_answering")
        commands.run(session, f"/audio '{tones[0]}'")
        assert capsys.readouterr().out == ""
        with pytest.raises(ValueError, match="type the question"):
            commands.run(session, "")
        commands.run(session, "Who?")
        assert len(capsys.readouterr().out.splitlines()) == 1
        with pytest.raises(ValueError, match="0 clips added"):
            commands.run(session, "Who?")

    def test_it_is_no_talk(self, loaded, engine):
        session = self.session(loaded, engine, "audio_captioning")
        for line in ("/save x.zip", "/load x.zip", "/system"):
            with pytest.raises(ValueError, match="each question stands for itself"):
                commands.run(session, line)

    @pytest.mark.parametrize(
        ("task", "languages", "told"),
        [
            ("aser", {}, "--task: 'aser' is no task; did you mean asr?"),
            ("chat", {}, "--task: 'chat' is no task"),
            ("asr", {}, "--language: is missing"),
            ("asr", {"language": "xx"}, "--language: 'xx'"),
            ("asr", {"language": "cs"}, "has no tag for 'cs'; it has de, en"),
            ("speech_translation", {"language": "en"}, "--target_language: is missing"),
            ("audio_captioning", {"language": "en"}, "--language: is not asked for"),
        ],
    )
    def test_what_cannot_be_asked_is_told_before_anything_is(
        self, loaded, engine, task, languages, told
    ):
        with pytest.raises(ValueError, match="--") as refused:
            Questions(loaded, engine, task, languages)
        assert told in str(refused.value)
