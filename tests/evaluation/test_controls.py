"""Controls: what a model that does not listen, or likes a letter, shows under them."""

import dataclasses
import functools
import json
import pathlib
import re

import numpy as np
import pytest
import tiny_models
from conftest import flac
from scripted import ASKER, OPTIONS, scripted, write

from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.evaluation import answer_stage, stages
from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.asking import Asking
from qwen_audio_jax.evaluation.benchmarks import Benchmark, Item, open_benchmark
from qwen_audio_jax.evaluation.controls import controls_of, read_controls
from qwen_audio_jax.evaluation.engine_answers import engine_answers
from qwen_audio_jax.evaluation.plan import Planned, read_plan
from qwen_audio_jax.evaluation.progress import Progress
from qwen_audio_jax.inference.loading import load

CLIPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of twelve tones, which are about equally long."""
    made = tmp_path_factory.mktemp("benchmark")
    for n in range(CLIPS):
        wave = 0.3 * np.sin(np.arange(1600 + 16 * n) * (0.05 + 0.01 * n))
        (made / f"{n}.flac").write_bytes(flac(wave))
    return made


@pytest.fixture(scope="module")
def choices(folder):
    """MMSU's form: four choices, of the last two rows two and three; nine of twelve are right by A.

    The right one is `tone N` of clip N.
    """
    rows = []
    for n in range(CLIPS):
        texts = [f"tone {n}", f"hiss {n}", f"hum {n}", f"buzz {n}"]
        if n >= 9:
            texts[:2] = texts[1::-1]
        texts = texts[: {10: 2, 11: 3}.get(n, 4)]
        fields = dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), texts, strict=False))
        row = {"id": n, "audio_path": f"{n}.flac", "question": "Which?", "answer_gt": f"tone {n}"}
        rows.append(row | fields)
    return write(folder / "choices.jsonl", rows)


@pytest.fixture(scope="module")
def emotions(folder):
    """Of ten clips seven are neutral, the others happy."""
    rows = [
        {
            "audio": f"{n}.flac",
            "task": "emotion_recognition",
            "id": f"{n}",
            "language": "en",
            "text": "neutral" if n < 7 else "happy",
        }
        for n in range(10)
    ]
    return write(folder / "emotions.jsonl", rows)


def evaluate(made, path, says, control_limit=0):
    """The rows of evaluation.json by metric, and the questions that were asked."""
    asked = []
    benchmarks = [open_benchmark("b", path)]
    answers = scripted(says, asked)
    answer_stage.answer(made, ASKER, benchmarks, answers, control_limit=control_limit)
    stages.score(made, OPTIONS)
    rows = json.loads((made / "evaluation.json").read_text())
    return {row["metric"]: row for row in rows}, asked


def named(question, letter_of):
    """The letters of the choices in a prompt, by their texts."""
    lines = re.findall(r"^([A-D])\. (?!None$)(.+)$", question.prompt, re.MULTILINE)
    return letter_of({text: letter for letter, text in lines})


def clip_of(folder, question):
    """Which clip is heard; None if there is none, or another."""
    found = question.clips()
    for n in range(CLIPS):
        if found and question.audio and found[0] == (folder / f"{n}.flac").read_bytes():
            return n
    return None


def test_a_model_that_always_says_a(tmp_path, choices):
    """Its accuracy is the share of A, with other audio too, and in all orders what chance has."""
    rows, asked = evaluate(tmp_path, choices, lambda question: "A")
    assert rows["accuracy"]["value"] == 9 / 12
    for control in ("no_audio", "shuffled_audio"):
        row = rows[f"accuracy/{control}"]
        assert (row["value"], row["score"], row["difference"]) == (9 / 12, 9 / 12, 0)
        assert (row["n"], row["asked"], row["failed"], row["same_answers"]) == (12, 12, 0, 12)
        assert row["difference_low"] == row["difference_high"] == 0
        assert row["baseline"] is None
    row = rows["accuracy/permuted_choices"]
    assert row["value"] == pytest.approx((10 / 4 + 1 / 2 + 1 / 3) / 12)
    assert row["right_in_every_order"] == 0
    assert row["letters"] == {"A": 1, "B": 0, "C": 0, "D": 0}
    orders = 10 * 4 + 2 + 3
    even = {"A": 12 / orders, "B": 12 / orders, "C": 11 / orders, "D": 10 / orders}
    assert row["even_letters"] == pytest.approx(even)
    assert rows["same_choice/permuted_choices"]["value"] == 0
    for row in rows.values():
        told = row["scored"] + row["unreadable"] + row["failed"] + row["left_out"]
        assert row["asked"] == told == 12
    # Each order of each item once, and the two other controls.
    assert len(asked) == orders + 2 * 12
    assert len({question.key for question in asked}) == len(asked)


def test_a_model_that_means_a_choice_is_unmoved(tmp_path, choices):
    """By its letter or by its text, whatever stands where; the audio does not matter to it."""

    def says(question):
        tone = named(question, lambda letters: next(t for t in letters if t.startswith("tone")))
        return named(question, lambda letters: letters[tone]) if "7" in tone else tone

    rows, _ = evaluate(tmp_path, choices, says)
    for metric in ("accuracy", "accuracy/permuted_choices", "same_choice/permuted_choices"):
        assert rows[metric]["value"] == 1
    row = rows["accuracy/permuted_choices"]
    assert (row["right_in_every_order"], row["difference"], row["unreadable"]) == (1, 0, 0)
    assert row["letters"] == pytest.approx(row["even_letters"])


def test_a_model_that_listens_is_lost_without_its_audio(tmp_path, folder, choices):
    def says(question):
        heard = clip_of(folder, question)
        return f"tone {heard}" if heard is not None else "I hear nothing"

    rows, _ = evaluate(tmp_path, choices, says)
    assert rows["accuracy"]["value"] == rows["accuracy/permuted_choices"]["value"] == 1
    for control in ("no_audio", "shuffled_audio"):
        row = rows[f"accuracy/{control}"]
        assert (row["value"], row["difference"], row["same_answers"]) == (0, 1, 0)


def test_what_is_asked_without_audio_and_with_another_clip(tmp_path, folder, choices, emotions):
    """A message has no clip; a task's prompt, which no model knows without one, has silence."""
    _, asked = evaluate(tmp_path / "message", choices, lambda question: "A")
    without = [question for question in asked if not question.audio]
    assert len(without) == 12
    assert all(span.clip < 0 for question in without for span in question.spans)
    own = {question.prompt for question in asked if clip_of(folder, question) is not None}
    assert {question.prompt for question in without} <= own
    _, asked = evaluate(tmp_path / "task", emotions, lambda question: "neutral")
    silent = [question for question in asked if clip_of(folder, question) is None]
    lengths = sorted(len(decode(question.clips()[0])) for question in silent)
    assert lengths == [1600 + 16 * n for n in range(10)]
    assert not any(decode(question.clips()[0]).any() for question in silent)
    controls = read_controls(tmp_path / "task")
    shuffled = {one.item.id: one.item for one in controls if one.name == "shuffled_audio"}
    plan = {item.id: item for item in read_plan(tmp_path / "task").items}
    assert shuffled.keys() == plan.keys()
    whose = {item.audio: item for item in plan.values()}
    for name, item in shuffled.items():
        assert item.audio != plan[name].audio
        # Of another label, though most clips have the same.
        assert whose[item.audio].reference != plan[name].reference


def test_one_answer_for_all_is_told_and_equals_the_control(tmp_path, emotions, capsys):
    """lmms-eval#1081: the audio is not heard."""
    rows, _ = evaluate(tmp_path, emotions, lambda question: "happy")
    table = stages.score(tmp_path, OPTIONS)
    told = str(table.caption)
    assert "b: 10 of 10 clips get the same answer, 'happy': does the model hear them?" in told
    assert "without audio, 10 of 10 answers are as they were" in told
    row = rows["accuracy/no_audio"]
    assert rows["accuracy"]["value"] == row["value"] == 0.3
    assert row["difference"] == 0
    # What always naming the commonest label would have got stands next to it.
    assert rows["accuracy"]["baseline"] == 0.7
    assert "does the model hear them?" in (tmp_path / "report.html").read_text()


def test_a_conversation_without_audio_keeps_its_words():
    """Unless a message of it has none; then its clips are silent."""
    part, words = {"type": "audio"}, {"type": "text", "text": "And this?"}
    spoken = {"role": "user", "content": [part, words]}
    said = {"role": "assistant", "content": "A bell."}
    wave = flac(0.1 * np.sin(np.arange(800)))
    items = [
        Item(f"{n}", "chat", {"messages": messages}, lambda: (wave, wave))
        for n, messages in enumerate(
            (
                [spoken, said, spoken, said],
                [spoken, said, {"role": "user", "content": [part]}, said],
            )
        )
    ]
    pair = {"messages": [spoken], "chosen": "A bell.", "rejected": "A dog."}
    items.append(Item("pair", "preference", pair, lambda: (wave,)))
    benchmark = Benchmark("talks", "corpus", pathlib.Path(), "", items, ())
    pairs = [
        (one, Planned("talks", one.id, one.task, {}, "key", audio=("a", "b"))) for one in items
    ]
    (name, _, changed), *_ = controls_of(benchmark, pairs, lambda item: True, 0)
    assert name == "no_audio"
    first, second, pair = changed.items
    mute = {"role": "user", "content": [words]}
    assert first.annotation["messages"] == [mute, said, mute, said]
    assert pair.annotation == items[2].annotation | {"messages": [mute]}
    assert second.annotation == items[1].annotation
    assert [len(decode(clip)) for clip in second.clips()] == [800, 800]
    assert not any(decode(clip).any() for clip in second.clips())


def test_recordings_in_windows_are_whole_under_controls(tmp_path):
    """One of over 30 s, and one that its list has in two chunks: each hears the other."""
    rows = []
    for name, samples in (("long", 32 * 16000), ("0", 16000), ("1", 24000)):
        wave = 0.3 * np.sin(np.arange(samples) * (0.05 if name == "1" else 0.04))
        (tmp_path / f"{name}.flac").write_bytes(flac(wave))
        row = {"audio_filepath": f"{name}.flac", "id": name, "lang": "en", "text": "a b"}
        if name != "long":
            row |= {"text": "c d", "parent_id": "call", "chunk_index": int(name)}
        rows.append(row)
    made = tmp_path / "evaluation"

    def hears(question):
        (clip,) = question.clips()
        return "a b" if decode(clip).any() else ""

    found, _ = evaluate(made, write(tmp_path / "list.jsonl", rows), hears)
    assert found["wer"]["value"] == 6 / 4
    silent, shuffled = found["wer/no_audio"], found["wer/shuffled_audio"]
    assert (silent["value"], silent["n"], silent["asked"], silent["failed"]) == (1, 2, 2, 0)
    assert (shuffled["n"], shuffled["same_answers"]) == (2, 2)
    windows = {
        (one.name, one.item.id): [(w.samples, w.row) for w in one.item.windows]
        for one in read_controls(made)
    }
    whole = [samples for samples, _ in windows["shuffled_audio", "call"]]
    assert sum(whole) == 32 * 16000
    assert windows["shuffled_audio", "long"] == [(16000, "0"), (24000, "1")]
    assert windows["no_audio", "call"] == [(16000, "0"), (24000, "1")]
    assert sum(samples for samples, _ in windows["no_audio", "long"]) == 32 * 16000


def test_controls_that_come_later_are_all_that_is_asked(tmp_path, choices):
    says = functools.partial(named, letter_of=lambda letters: letters[sorted(letters)[-1]])
    rows, asked = evaluate(tmp_path, choices, says, control_limit=None)
    assert len(asked) == 12
    assert not any("control" in row for row in rows.values())
    _, more = evaluate(tmp_path, choices, says)
    assert not {q.key for q in asked} & {q.key for q in more}
    whole = (tmp_path / "evaluation.json").read_bytes()
    assert evaluate(tmp_path, choices, says)[1] == []
    assert (tmp_path / "evaluation.json").read_bytes() == whole
    # Without them they are no rows; what was answered stays.
    again, none = evaluate(tmp_path, choices, says, control_limit=None)
    assert (again, none) == (rows, [])
    part, none = evaluate(tmp_path, choices, says, control_limit=3)
    assert none == []
    assert part["accuracy/no_audio"]["n"] == part["accuracy/permuted_choices"]["n"] == 3


def test_controls_without_answers_are_not_scored(tmp_path, emotions):
    evaluate(tmp_path, emotions, lambda question: "happy")
    path = tmp_path / "answers-00000-of-00001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(ValueError, match="2 of 20 controls have no answer yet; answer them first"):
        stages.score(tmp_path, OPTIONS)
    (tmp_path / "controls.jsonl").write_text('{"name": "no_audio"}\n')
    with pytest.raises(ValueError, match=r"controls.jsonl: is damaged \('places'\)"):
        stages.score(tmp_path, OPTIONS)


def test_a_control_that_fails_is_counted(tmp_path, emotions, folder):
    """An item counts where both its answers are there."""
    silent = []

    def answers(questions):
        for question in questions:
            if clip_of(folder, question) is None and not silent:
                silent.append(question)
                yield Progress(0.0), Answered(question.key, "", "failed", error="no room")
            else:
                yield Progress(0.0), Answered(question.key, "happy", "stop", 1)

    answer_stage.answer(tmp_path, ASKER, [open_benchmark("b", emotions)], answers, control_limit=0)
    stages.score(tmp_path, OPTIONS)
    rows = {row["metric"]: row for row in json.loads((tmp_path / "evaluation.json").read_text())}
    row = rows["accuracy/no_audio"]
    assert (row["n"], row["asked"], row["failed"]) == (9, 10, 1)
    assert row["score"] == row["value"] != rows["accuracy"]["value"]
    assert rows["accuracy/shuffled_audio"]["n"] == 10


def test_the_engine_answers_messages_without_audio(tmp_path, choices):
    """As they are asked of a model that was tuned on conversations; another has silence."""
    loaded = load(tiny_models.write_model(tmp_path / "tiny"))
    asking = Asking.of(dataclasses.replace(loaded, tuned=True), 4)
    answers = functools.partial(engine_answers, asking, slots=4, context=512)
    benchmark = open_benchmark("b", choices)
    answer_stage.answer(tmp_path, asking, [benchmark], answers, limit=2, control_limit=1)
    stages.score(tmp_path, OPTIONS)
    rows = {row["metric"]: row for row in json.loads((tmp_path / "evaluation.json").read_text())}
    for metric in ("accuracy/no_audio", "accuracy/permuted_choices"):
        assert (rows[metric]["n"], rows[metric]["failed"]) == (1, 0)
    (control, *_) = read_controls(tmp_path)
    assert (control.name, control.item.audio) == ("no_audio", ())
    untuned = Asking(dataclasses.replace(loaded, tuned=False), asking.weights)
    assert not any(map(untuned.is_message, benchmark.items))


def test_another_s_clip_has_its_own_length():
    """Which is what its prompt's room, and whether it is cut into windows, are told by."""
    items = [
        Item(f"{n}", "asr", {"text": f"number {n}"}, lambda n=n: (bytes(n + 1),), samples=(n,))
        for n in range(2)
    ]
    benchmark = Benchmark("speech", "corpus", pathlib.Path(), "", items, ())
    pairs = [(one, Planned("speech", one.id, "asr", {}, "key", audio=(one.id,))) for one in items]
    made = {name: of.items for name, _, of in controls_of(benchmark, pairs, lambda item: False, 0)}
    assert [item.samples for item in made["shuffled_audio"]] == [(1,), (0,)]
