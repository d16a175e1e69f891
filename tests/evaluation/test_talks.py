"""Conversations answered turn by turn, with their own sound, with silence, with another's."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import flac, questions_of, tone_record

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.evaluation.answering import ANOTHER_CLIP, SILENCE, Evaluator
from qwen_audio_jax.evaluation.held_out_loss import RecordLoss
from qwen_audio_jax.evaluation.validation import (
    Evaluation,
    score_rows,
    shown_examples,
    with_before,
    write_before,
    write_evaluation,
)
from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.text.control_tokens import IM_END
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece

OPTIONS = EvaluateConfig(every=0, data="", limit=0, rows=4, max_new_tokens=8, examples=9)
AUDIO = {"type": "audio"}


def text(said):
    return {"type": "text", "text": said}


def talk(name, turns, kind):
    """A talk of (clips' seconds, question, answer, whether it is learned)."""
    clips, messages = [], []
    for seconds, question, answer, learned in turns:
        for length in seconds:
            pitch = 200 + 37 * len(name) + 11 * ord(name[-1]) + 50 * len(clips)
            wave = 0.1 * np.sin(2 * np.pi * pitch * np.arange(int(16000 * length)) / 16000)
            clips.append(flac(wave))
        heard = [AUDIO] * len(seconds)
        messages.append({"role": "user", "content": [*heard, text(question)]})
        loss = {} if learned else {"loss": False}
        messages.append({"role": "assistant", "content": answer, **loss})
    record = Record(name, "chat", tuple(clips), {"messages": messages, "kind": kind})
    return record, tuple(len(decode(clip)) for clip in clips)


def talks():
    yield talk("one-a", [([0.5], "What?", "A bell.", True)], "audio_analysis")
    yield talk("one-b", [([0.6], "What?", "A dog.", True)], "audio_analysis")
    yield talk("one-c", [([0.4], "How?", "A cat.", True)], "audio_analysis")
    for name, (first, last) in {"three-a": ("Yes.", "Both."), "three-b": ("No.", "None.")}.items():
        turns = [
            ([], "Hello.", "Hi.", True),
            ([0.5], "Heard?", first, False),
            ([0.7, 0.3], "And here?", last, True),
        ]
        yield talk(name, turns, "several_turns")
    yield talk("written", [([], "Hello.", "Hi.", True)], "several_turns")


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    write_split(folder, "validation", list(talks()))
    train_sentencepiece(["A bell. A dog. Both. None. Hi."], [], folder / "tokenizer", pieces=16)
    tokenizer = load_tokenizer(folder / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor")
    mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1})
    return Evaluator(Corpus(folder), "validation", preprocessor, None, mesh, OPTIONS)


def test_each_learned_answer_is_asked_for_and_groups_hold_so_many_questions(evaluator):
    questions = evaluator._questions()
    index = evaluator.corpus.index("validation")
    named = [(index[q.number].id, q.place, len(q.samples)) for q in questions]
    assert named == [
        ("three-a", 0, 0),
        ("three-b", 0, 0),
        ("written", 0, 0),
        ("one-c", 0, 1),
        ("one-a", 0, 1),
        ("one-b", 0, 1),
        ("three-a", 1, 3),
        ("three-b", 1, 3),
    ]
    groups = list(evaluator._groups(questions, evaluator._own))
    assert [(rows, len(group)) for rows, group in groups] == [(4, 4), (4, 4)]
    for _, group in groups:
        for record, question, example, reference in group:
            assert reference == question.annotation["messages"][-1]["content"]
            assert len(example.clips) == len(question.samples)
            whole = questions_of(evaluator.preprocessor, record)[question.place]
            np.testing.assert_array_equal(example.text.tokens, whole[0].text.tokens)
            assert whole[1] == reference


def listening(monkeypatch, evaluator):
    """A model that hears: it answers what belongs to the last clip that is not silent.

    Returns:
        What was heard: (prompt's tokens, log-mel of all its clips) of each question.
    """
    tokenizer = evaluator.preprocessor.tokenizer
    index = evaluator.corpus.index("validation")
    known = []
    for number, row in enumerate(index):
        record = evaluator.corpus.record("validation", number)
        if row.samples:
            ((example, _), *_) = questions_of(evaluator.preprocessor, record)[-1:]
            known.append((example.clips[-1], row.annotation["messages"][-1]["content"]))
    heard = []

    def answer(self, parameters, examples, rows):
        ids = np.full((rows, 8), tokenizer.end_of_text)
        for row, example in enumerate(examples):
            heard.append(example)
            said = "Hi."
            if example.clips:
                last = example.clips[-1]
                said = next(
                    (
                        a
                        for mel, a in known
                        if mel.shape == last.shape and np.array_equal(mel, last)
                    ),
                    "Nothing.",
                )
            written = [*tokenizer.encode(said)[:7], tokenizer.special(IM_END)]
            ids[row, : len(written)] = written
        return ids

    monkeypatch.setattr(Evaluator, "_answer", answer)
    return heard


@pytest.fixture
def found(evaluator, monkeypatch):
    heard = listening(monkeypatch, evaluator)
    return evaluator(None, controls=True), heard


def test_an_answer_ends_at_the_end_of_a_message(found):
    results, _ = found
    assert len(results) == 8
    assert all(one.hypothesis == one.reference for one in results)


def test_controls_are_heard_where_there_are_clips(evaluator, found):
    results, heard = found
    by_name = {(one.record.id, len(one.annotation["messages"])): one for one in results}
    # A talk's first turn has no clip, so it has nothing else to hear either.
    assert by_name["three-a", 2].controls == {}
    assert by_name["written", 2].controls == {}
    assert by_name["one-a", 2].controls == {SILENCE: "Nothing.", ANOTHER_CLIP: "A dog."}
    assert by_name["one-b", 2].controls[ANOTHER_CLIP] == "A bell."  # the same was asked
    # Of a question that nobody else was asked, the nearest in length of its kind.
    assert by_name["one-c", 2].controls[ANOTHER_CLIP] == "A bell."
    assert by_name["three-a", 6].controls == {SILENCE: "Nothing.", ANOTHER_CLIP: "None."}
    assert by_name["three-b", 6].controls[ANOTHER_CLIP] == "Both."
    silent = [one for one in heard if one.clips and all(np.ptp(mel) == 0 for mel in one.clips)]
    assert len(silent) == 5
    own = {len(one.text.tokens): one for one in heard if not any(one is two for two in silent)}
    for one in silent:  # as long as the clips that they stand for
        np.testing.assert_array_equal(one.text.tokens, own[len(one.text.tokens)].text.tokens)


def test_controls_have_rows_of_their_own_and_the_same_baseline(found):
    rows = {row["metric"]: row for row in score_rows({"talks": found[0]})}
    names = [name for name in rows if name.startswith("accuracy")]
    parts = ("", "/audio_analysis", "/several_turns")
    controls = ("", f"/{SILENCE}", f"/{ANOTHER_CLIP}")
    assert names == [f"accuracy{part}{control}" for part in parts for control in controls]
    assert [rows["accuracy" + part]["value"] for part in parts] == [1.0, 1.0, 1.0]
    # What has no clip to be exchanged counts as it is: three of the five turns of that kind.
    silence = [rows[f"accuracy{part}/{SILENCE}"] for part in parts]
    assert [row["value"] for row in silence] == [3 / 8, 0.0, 3 / 5]
    assert [row["n"] for row in silence] == [8, 3, 5]
    for part in parts:
        baselines = {rows[f"accuracy{part}{control}"]["baseline"] for control in controls}
        assert len(baselines) == 1


def test_without_controls_none_are_asked_for(evaluator, monkeypatch):
    heard = listening(monkeypatch, evaluator)
    results = evaluator(None)
    assert len(heard) == len(results) == 8
    assert {
        name.partition("/")[0] for name in (r["metric"] for r in score_rows({"": results}))
    } == {
        "accuracy",
        "token_f1",
    }
    assert not any("silence" in row["metric"] for row in score_rows({"": results}))


def test_a_line_of_each_turn_and_the_loss_with_the_last(found, tmp_path):
    results = found[0]
    losses = {("talks", "three-a"): RecordLoss(4.0, 6.0, 8.0)}
    rows = score_rows({"talks": results})
    write_evaluation(tmp_path, 7, Evaluation(rows, {"talks": results}, losses))
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    of_one = {line["turn"]: line for line in lines if line["id"] == "three-a"}
    assert list(of_one) == [1, 3]
    assert all(line["kind"] == "several_turns" and line["right"] == 1 for line in of_one.values())
    assert (of_one[3]["reference"], of_one[3]["answer_silence"]) == ("Both.", "Nothing.")
    assert [line.get("loss") for line in of_one.values()] == [None, 1.5]
    anew = score("chat", [Answer(line["annotation"], line["answer"]) for line in lines])
    assert [row["value"] for row in anew] == [1.0, 1.0]
    assert rows[0]["metric"] == "accuracy"
    assert rows[0]["value"] == 1.0


def test_a_task_of_several_corpora_has_rows_of_each(found):
    results = found[0]
    wrong = [dataclasses.replace(one, hypothesis="no", controls={}) for one in results]
    rows = {row["metric"]: row for row in score_rows({"right": results, "wrong": wrong})}
    assert (rows["accuracy"]["value"], rows["accuracy"]["n"]) == (0.5, 16)
    assert (rows["accuracy/right"]["value"], rows["accuracy/wrong"]["value"]) == (1.0, 0.0)
    assert "accuracy/right/silence" not in rows


def test_a_report_shows_talks_of_each_kind_whole(found):
    shown = shown_examples({"talks": found[0]}, 4)
    assert [one.id for one in shown] == ["one-c", "three-a", "one-a", "three-b"]
    three = shown[1]
    assert three.answers == {2: "Hi.", 6: "Both."}
    assert len(three.messages) == 6
    assert len(three.clips) == 3


def test_a_table_has_what_was_before(tmp_path):
    now = [{"task": "asr", "metric": m, "value": 0.5, "baseline": 1.0, "n": 2} for m in "ab"]
    assert with_before(tmp_path, now) == now
    write_before(tmp_path, [now[0] | {"value": 0.75}])
    assert [row["before"] for row in with_before(tmp_path, now)] == [0.75, None]


def test_a_clip_that_cannot_be_read_drops_its_record_by_name_once(tmp_path, evaluator, caplog):
    good, samples = talk(
        "three-c", [([0.5], "a", "b", True), ([0.5], "c", "d", True)], "several_turns"
    )
    bad = dataclasses.replace(good, id="bad", audio=(b"no sound", good.audio[1]))
    tone = tone_record(0)
    write_split(tmp_path, "validation", [(good, samples), (bad, samples), (tone, (4000,))])
    asked = dataclasses.replace(evaluator, corpus=Corpus(tmp_path))
    questions = asked._questions()
    groups = list(asked._groups(questions, asked._own))
    assert len(questions) == 5
    assert sorted(record.id for _, group in groups for record, *_ in group) == [
        "three-c",
        "three-c",
        tone.id,
    ]
    assert caplog.text.count("record bad is dropped: ") == 1
