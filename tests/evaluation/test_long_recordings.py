"""Long recordings: cut, asked window by window, joined, scored as one."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tiny_models
from conftest import flac

from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE, WINDOW_SAMPLES
from qwen_audio_jax.audio.quiet_cuts import quiet_windows
from qwen_audio_jax.evaluation import answer_stage, options, stages
from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, read_answers
from qwen_audio_jax.evaluation.asking import Asking
from qwen_audio_jax.evaluation.benchmarks import LONGEST, Item, open_benchmark
from qwen_audio_jax.evaluation.engine_answers import answers
from qwen_audio_jax.evaluation.plan import Planned, Window, read_plan
from qwen_audio_jax.evaluation.recordings import (
    joined,
    parts_of,
    windows_told,
    with_limit,
    with_whole_answers,
)
from qwen_audio_jax.inference.engine import Engine, EngineConfig
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.metrics import Answer, score

OPTIONS = options.from_mapping(
    {
        "limit": 0,
        "control_limit": 0,
        "slots": 4,
        "context": 2048,
        "max_new_tokens": 6,
        "protocols": ("plain",),
        "examples": 0,
        "draws": 20,
        "confidence": 0.95,
        "seed": 0,
    }
)


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    folder = tiny_models.write_model(tmp_path_factory.mktemp("models") / "tiny")
    return Asking.of(load(folder), OPTIONS.max_new_tokens)


def speech(seconds, seed=0):
    """Noise of many levels, in 16-bit numbers."""
    random = np.random.default_rng(seed)
    levels = np.repeat(random.uniform(0.01, 0.3, 1 + int(4 * seconds)), SAMPLE_RATE // 4)
    count = round(seconds * SAMPLE_RATE)
    wave = levels[:count] * random.uniform(-1, 1, count)
    return (np.rint(wave * 32768) / 32768).astype(np.float32)


def item_of(wave, task="asr", **fields):
    annotation = {"text": "one two", "language": "en", **fields.pop("annotation", {})}
    encoded = flac(wave)
    return Item("i", task, annotation, lambda: (encoded,), **fields)


def test_windows_are_the_recording_each_sample_once():
    wave = speech(70)
    parts = parts_of(item_of(wave))
    assert [part.samples for part in parts] == quiet_windows(wave)
    heard = [decode(part.item.clips()[0]) for part in parts]
    np.testing.assert_array_equal(np.concatenate(heard), wave)
    # The same bytes whenever it is cut, as answers are known by them.
    again = parts_of(item_of(wave))
    assert [part.item.clips() for part in again] == [part.item.clips() for part in parts]


def test_a_recording_may_last_longer_than_a_clip():
    encoded = flac(np.zeros(3700 * 1000), 1000)
    item = Item("i", "asr", {"text": "x", "language": "en"}, lambda: (encoded,))
    assert sum(part.samples for part in parts_of(item)) == 3700 * SAMPLE_RATE


def test_chunks_of_a_list_are_windows_and_are_cut_where_they_are_too_long():
    waves = [speech(1, 1), speech(40, 2), speech(2, 3)]
    encoded = tuple(map(flac, waves))
    item = Item(
        "call", "asr", {"text": "x", "language": "en"}, lambda: encoded, rows=("a", "b", "c")
    )
    parts = parts_of(item)
    assert [part.row for part in parts] == ["a", "b", "b", "c"]
    assert max(part.samples for part in parts) <= WINDOW_SAMPLES
    heard = np.concatenate([decode(part.item.clips()[0]) for part in parts])
    np.testing.assert_array_equal(heard, np.concatenate(waves))


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("audio_question_answering", {"annotation": {"question": "What?"}}),
        ("audio_captioning", {}),
        ("speech_translation", {"annotation": {"target_language": "de"}}),
        ("word_timestamps", {"annotation": {"words": [{"word": "a", "start": 0.0, "end": 1.0}]}}),
    ],
)
def test_what_needs_all_of_a_clip_hears_all_of_it_in_one_prompt(asking, task, fields):
    """60 s are 1,500 audio tokens, of two windows; nothing is cut off."""
    wave = speech(60)
    item = item_of(wave, task, **fields)
    assert parts_of(item) == []
    example = asking.example(asking.question(item))
    assert sum(example.clip_frames) == 6000
    assert (example.text.audio >= 0).sum() == 1500


def test_what_is_longer_than_a_model_takes_is_refused(asking):
    item = item_of(speech(301), "audio_captioning")
    with pytest.raises(ValueError, match=r"a clip lasts 301.0 s, and 300 s are the most"):
        asking.example(asking.question(item))


def test_sound_of_a_known_length_is_not_decoded_for_it():
    def unread():
        raise AssertionError

    def known(*samples):
        return dataclasses.replace(item_of(speech(1)), clips=unread, samples=samples)

    assert parts_of(known(2 * SAMPLE_RATE)) == []
    assert with_limit(known(20 * SAMPLE_RATE)).limit == 500
    for samples in ((31 * SAMPLE_RATE,), (SAMPLE_RATE, SAMPLE_RATE)):
        with pytest.raises(AssertionError):
            parts_of(known(*samples))


def test_the_limit_of_an_answer_fits_its_sound():
    assert with_limit(item_of(speech(2))).limit == LONGEST
    assert with_limit(item_of(speech(20))).limit == 500  # 25 a second
    assert with_limit(item_of(speech(20), limit=256)).limit == 256  # a script's own
    assert with_limit(item_of(speech(20), "audio_captioning")).limit == LONGEST
    parts = parts_of(item_of(speech(40)))
    assert [part.item.limit for part in parts] == [
        max(LONGEST, part.samples // 640) for part in parts
    ]
    assert {part.item.limit for part in parts_of(item_of(speech(40), limit=256))} == {256}


@pytest.mark.parametrize(
    ("texts", "language", "whole", "rate"),
    [
        (["kept me", "honest"], "en", "kept me honest", 0.0),
        (["kept me", "me honest"], "en", "kept me me honest", 1 / 3),
        ([" kept me ", "", "honest\n"], None, "kept me honest", 0.0),
    ],
)
def test_windows_are_joined_by_a_space(texts, language, whole, rate):
    assert joined(texts, language) == whole
    annotation = {"text": "kept me honest", "language": language}
    assert score("asr", [Answer(annotation, whole)])[0]["value"] == pytest.approx(rate)
    fused = Answer(annotation, "kept mehonest")
    assert score("asr", [fused])[0]["value"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("language", ["zh", "yue", "ja", "th", "zh-CN"])
def test_and_by_nothing_in_languages_without_spaces(language):
    assert joined(["今天", " 天气 "], language) == "今天天气"


def planned(*keys, language="en"):
    windows = tuple(Window(key, 20 * SAMPLE_RATE, "i") for key in keys)
    return Planned("b", "i", "asr", {"language": language}, key="whole", windows=windows)


def test_a_recording_is_answered_when_all_of_its_windows_are():
    given = {
        "1": Answered("1", "a b", "stop", 2),
        "2": Answered("2", "", "stop", 0),
        "3": Answered("3", "c", "length", 1),
    }
    item = planned("1", "2", "3")
    whole = with_whole_answers([item], given)["whole"]
    assert whole == Answered("whole", "a b c", "length", 3, seconds=60.0)
    assert windows_told([item], given) == {
        "recordings": 1,
        "windows": 3,
        "failed": 0,
        "empty": 1,
        "truncated": 1,
        "looping": 0,
    }
    for key in given:
        lacking = {name: one for name, one in given.items() if name != key}
        assert "whole" not in with_whole_answers([item], lacking)
    given["2"] = Answered("2", "", "failed", 0, "no room")
    failed = with_whole_answers([item], given)["whole"]
    assert (failed.finish, failed.text) == ("failed", "")
    assert failed.error == "window 2 of 3, 20.00 to 40.00 s, failed: no room"
    assert windows_told([planned()], {}) == {}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two recordings of over 30 s, and two clips."""
    folder = tmp_path_factory.mktemp("long")
    rows = []
    for n, seconds in enumerate((62, 1, 33, 2)):
        (folder / f"{n}.flac").write_bytes(flac(speech(seconds, n)))
        rows.append({"audio_filepath": f"{n}.flac", "text": f"{n} one two", "lang": "en"})
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def engine(asking):
    made = Engine(asking.loaded, EngineConfig(2, (1024,), waiting=4))
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(asking, engine, manifest):
    """Answers the manifest into a folder; its programs are compiled once."""

    def into(folder, process=(0, 1)):
        answering = functools.partial(answers, asking, engine)
        answer_stage.answer(
            folder, asking, [open_benchmark("long", manifest)], answering, 0, process
        )

    return into


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluations") / "whole"
    run(folder)
    stages.score(folder, OPTIONS)
    return folder


def test_a_whole_recording_is_one_item(whole):
    plan, known = read_plan(whole), read_answers(whole)
    assert [len(item.windows) for item in plan.items] == [3, 0, 2, 0]
    assert len(known) == 7
    rows = {row["metric"]: row for row in read(whole, "evaluation.json")}
    assert list(rows) == ["wer", "cer", "wer/plain", "wer/near_cuts", "wer/away_from_cuts"]
    assert rows["wer"]["n"] == rows["wer"]["asked"] == 4
    assert rows["wer/near_cuts"]["n"] == rows["wer/near_cuts"]["asked"] == 2
    first = plan.items[0]
    text = joined([known[window.key].text for window in first.windows], "en")
    official = (whole / "official" / "long.jsonl").read_text().splitlines()
    assert json.loads(official[0])["pred_text"] == text
    assert len(official) == 4
    told = read(whole, "summary.json")["benchmarks"][0]
    assert told["windows"]["recordings"] == 2
    assert told["windows"]["windows"] == 5


def test_a_killed_evaluation_goes_on_by_window(whole, run, tmp_path, monkeypatch):
    asked = []
    put = AnswerFile.put
    monkeypatch.setattr(
        AnswerFile, "put", lambda self, one: asked.append(one.key) or put(self, one)
    )
    known = next(whole.glob("answers-*")).read_bytes().splitlines(keepends=True)
    for kept in (2, 6):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "answers-00000-of-00001.jsonl").write_bytes(b"".join(known[:kept]))
        asked.clear()
        run(folder)
        assert len(asked) == 7 - kept
        assert not {json.loads(line)["key"] for line in known[:kept]} & set(asked)
        stages.score(folder, OPTIONS)
        for name in ("evaluation.json", "summary.json"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_two_processes_share_the_windows(whole, run, tmp_path):
    for index in (1, 0):
        run(tmp_path, (index, 2))
    stages.score(tmp_path, OPTIONS)
    assert read(tmp_path, "evaluation.json") == read(whole, "evaluation.json")


def test_a_missing_window_fails_the_recording_and_none_is_passed_over(whole, tmp_path):
    windows = read_plan(whole).items[0].windows
    lines = [json.loads(line) for line in next(whole.glob("answers-*")).read_text().splitlines()]
    for name in ("plan.json", "items.jsonl"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    path = tmp_path / "answers-00000-of-00001.jsonl"
    rest = [line for line in lines if line["key"] != windows[1].key]
    path.write_text("".join(json.dumps(line) + "\n" for line in rest))
    with pytest.raises(ValueError, match="1 of 4 questions have no answer yet"):
        stages.score(tmp_path, OPTIONS)
    failed = {"key": windows[1].key, "text": "", "finish": "failed", "error": "no room"}
    path.write_text("".join(json.dumps(line) + "\n" for line in [*rest, failed]))
    table = stages.score(tmp_path, OPTIONS)
    rows = {row["metric"]: row for row in read(tmp_path, "evaluation.json")}
    assert (rows["wer"]["n"], rows["wer"]["failed"], rows["wer"]["asked"]) == (3, 1, 4)
    assert (rows["wer/near_cuts"]["n"], rows["wer/near_cuts"]["failed"]) == (1, 1)
    told = read(tmp_path, "summary.json")["benchmarks"][0]
    assert next(iter(told["reasons"])).endswith("failed: no room")
    assert "long recordings, 2 of them, were asked in 5 windows, of which 1 failed" in str(
        table.caption
    )
    official = (tmp_path / "official" / "long.jsonl").read_text().splitlines()
    assert len(official) == 4


def test_what_is_told_of_the_engine_is_what_it_did(asking, engine):
    """A clip of a second: 102 frames where 256 go through the encoder, 25 tokens and the words
    around them where 32 or 64 are read.
    """
    before = engine.statistics()
    question = asking.question(item_of(speech(1, 9)))
    ((progress, answered),) = answers(asking, engine, [question])
    assert answered.finish != "failed"
    after = engine.statistics()
    tokens = len(asking.example(question).text.tokens)
    assert after.read_tokens - before.read_tokens == tokens
    assert after.read_places - before.read_places == next(n for n in (32, 64, 128) if n >= tokens)
    assert after.frame_places - before.frame_places == 256
    assert after.frames - before.frames == 104  # with the margin, a multiple of 4
    assert progress.heard == 1.0
    assert progress.compiled == len(engine.compiled)
    assert ("encode", 256) in engine.compiled
    assert progress.compile_seconds == sum(engine.compiled.values()) > 0
    assert progress.padding[0] == (
        "the prompts' tokens",
        1 - after.read_tokens / after.read_places,
    )
    assert 0 < progress.padding[1][1] < 1
    again = engine.compiled
    list(answers(asking, engine, [question]))
    assert engine.compiled == again  # a program that there is takes no time to compile
