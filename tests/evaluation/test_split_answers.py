"""Splits answered, with their own sound, with silence, with another's; and the table of that."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from conftest import flac, questions_of, tiny_config, tone_record
from talks import talk, talks

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.evaluation import split_answers
from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, path_of, read_answers
from qwen_audio_jax.evaluation.asking import Question
from qwen_audio_jax.evaluation.held_out_loss import RecordLoss
from qwen_audio_jax.evaluation.plan import read_plan
from qwen_audio_jax.evaluation.progress import Progress
from qwen_audio_jax.evaluation.split_answers import SplitAnswers, answers_to, rooms
from qwen_audio_jax.evaluation.split_questions import ANOTHER_CLIP, SILENCE, SplitQuestions
from qwen_audio_jax.evaluation.split_scores import score_rows
from qwen_audio_jax.evaluation.validation import (
    Evaluation,
    shown_examples,
    with_before,
    write_before,
    write_evaluation,
)
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece

OPTIONS = EvaluateConfig(every=0, data="", limit=0, rows=4, max_new_tokens=8, examples=9)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    write_split(folder, "validation", list(talks()))
    train_sentencepiece(["A bell. A dog. Both. None. Hi."], [], folder / "tokenizer", pieces=16)
    tokenizer = load_tokenizer(folder / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor")
    return SplitQuestions("talks", Corpus(folder), "validation", preprocessor, OPTIONS)


def answering(workdir, *splits):
    return SplitAnswers(workdir, splits, splits[0].preprocessor, None, OPTIONS, Group())


@dataclasses.dataclass
class Listener:
    """Stands for the engine: it answers what belongs to the last clip that is not silent.

    Attributes:
        known: (log-mel, answer) of each record's last clip.
        heard: (question, its example) of what was asked, in order.
        most: answers until it is interrupted.
    """

    known: list
    heard: list = dataclasses.field(default_factory=list)
    most: int = 1000

    def __call__(self, asking, questions, slots, context):
        for question in questions:
            if len(self.heard) == self.most:
                raise KeyboardInterrupt
            try:
                example = asking.example(question)
            except ValueError as error:
                yield Progress(1.0), Answered(question.key, "", "failed", error=str(error))
                continue
            self.heard.append((question, example))
            said = self._said(example.clips[-1]) if example.clips else "Hi."
            yield Progress(1.0), Answered(question.key, said, "stop", 1)

    def _said(self, last):
        same = (a for mel, a in self.known if mel.shape == last.shape and np.array_equal(mel, last))
        return next(same, "Nothing.")


@pytest.fixture
def listener(split, monkeypatch):
    known = []
    for number, row in enumerate(split.corpus.index(split.split)):
        if row.samples:
            record = split.corpus.record(split.split, number)
            *_, (example, _) = questions_of(split.preprocessor, record)
            known.append((example.clips[-1], row.annotation["messages"][-1]["content"]))
    made = Listener(known)

    def loaded(name, model, parameters, preprocessor, *, tuned):
        mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1})
        config = tiny_config("qwen2_audio")
        weights = {"weights": np.float32(parameters)}
        return Loaded(name, config.family, config, None, weights, mesh, preprocessor, tuned)

    monkeypatch.setattr(split_answers, "loaded_here", loaded)
    monkeypatch.setattr(split_answers, "engine_answers", made)
    return made


@pytest.fixture
def found(split, listener, tmp_path):
    return answering(tmp_path / "run", split)(1.0, controls=True)["talks"]


def test_controls_are_heard_where_there_are_clips(found, listener):
    assert len(found) == 8
    assert all(one.answered.text == one.item.reference for one in found)
    controls = {one.item.id: {name: of.text for name, of in one.controls.items()} for one in found}
    assert controls["three-a#1"] == controls["written#1"] == {}
    assert controls["one-a#1"] == {SILENCE: "Nothing.", ANOTHER_CLIP: "A dog."}
    assert controls["three-b#2"] == {SILENCE: "Nothing.", ANOTHER_CLIP: "Both."}
    lengths = {question.key: question.tokens for question, _ in listener.heard}
    assert all(len(e.text.tokens) == lengths[q.key] for q, e in listener.heard)


def test_controls_have_rows_of_their_own_and_the_same_baseline(found):
    rows = {row["metric"]: row for row in score_rows({"talks": found})}
    names = [name for name in rows if name.startswith("accuracy")]
    parts = ("", "/audio_analysis", "/several_turns")
    controls = ("", f"/{SILENCE}", f"/{ANOTHER_CLIP}")
    assert names == [f"accuracy{part}{control}" for part in parts for control in controls]
    assert [rows["accuracy" + part]["value"] for part in parts] == [1.0, 1.0, 1.0]
    # What has no clip to be exchanged counts as it is: three of the five turns of that kind.
    silence = [rows[f"accuracy{part}/{SILENCE}"] for part in parts]
    assert [row["value"] for row in silence] == [3 / 8, 0.0, 3 / 5]
    for part, n in zip(parts, (8, 3, 5), strict=True):
        of_part = [rows[f"accuracy{part}{control}"] for control in controls]
        assert len({row["baseline"] for row in of_part}) == 1
        assert [(row["n"], row["asked"], row["failed"]) for row in of_part] == [(n, n, 0)] * 3


def test_without_controls_none_are_asked_for(split, listener, tmp_path):
    results = answering(tmp_path, split)(1.0)
    assert len(results["talks"]) == 8
    assert len(listener.heard) == 6  # three turns are the same "Hello."
    names = {row["metric"].partition("/")[0] for row in score_rows(results)}
    assert names == {"accuracy", "token_f1"}
    assert not any("silence" in row["metric"] for row in score_rows(results))


def test_interrupted_it_goes_on_and_other_weights_begin_anew(split, listener, tmp_path):
    asks, folder = answering(tmp_path, split), tmp_path / "evaluation"
    listener.most = 5
    with pytest.raises(KeyboardInterrupt):
        asks(1.0, controls=True)
    listener.most = 1000
    results = asks(1.0, controls=True)
    keys = [question.key for question, _ in listener.heard]
    assert len(keys) == len(set(keys)) == len(read_answers(folder))
    # A talk's turns without clips are asked alike whatever is heard, and once.
    asked = sum(1 + len(one.controls) for one in results["talks"])
    assert asked == 8 + 2 * 5
    assert len(keys) < asked
    assert asks(1.0, controls=True) == results
    assert len(listener.heard) == len(keys)
    asks(2.0)
    assert len(listener.heard) == len(keys) + len(read_answers(folder))
    assert not set(read_answers(folder)) & set(keys)
    plan = read_plan(folder)
    assert [one.name for one in plan.benchmarks] == ["talks"]
    assert {item.key for item in plan.items} == read_answers(folder).keys()


def test_long_speech_is_asked_window_by_window_and_answered_once(split, listener, tmp_path):
    wave = 0.1 * np.sin(np.arange(40 * 16000) / 7)
    speech = Record("long", "asr", (flac(wave),), {"text": "nothing nothing", "language": "en"})
    write_split(tmp_path, "validation", [(speech, (len(wave),))])
    long = dataclasses.replace(split, corpus=Corpus(tmp_path))
    (result,) = answering(tmp_path / "run", long)(1.0)["talks"]
    assert len(listener.heard) == len(result.item.windows) == 2
    assert result.answered.text == "Nothing. Nothing."
    assert answering(tmp_path / "run", long)(1.0)["talks"] == [result]
    assert len(listener.heard) == 2


def test_answers_that_cannot_be_seen_are_told(tmp_path, monkeypatch):
    def question(key):
        return Question(key, (), tuple, (), "", 4)

    monkeypatch.setattr(split_answers, "_SEEN_SECONDS", 0.1)
    file = AnswerFile(path_of(tmp_path, 1, 2))
    file.put(Answered("a", "x", "stop"))
    file.close()
    assert answers_to(tmp_path, [question("a")]).keys() == {"a"}
    with pytest.raises(OSError, match=r"1 answers of other processes cannot be seen .* --workdir"):
        answers_to(tmp_path, [question("a"), question("b")])


def test_long_prompts_get_so_few_slots_that_they_need_no_more_memory():
    def asked(tokens):
        return Question(str(tokens), (), tuple, (), "", 64, tokens)

    lengths = (7000, 20, 180, 200, 900, 1000, 3000, 4100)
    made = rooms([asked(n) for n in lengths], 16)
    assert [(slots, context, [one.tokens for one in some]) for slots, context, some in made] == [
        (4, 1024, [20, 180, 200, 900]),
        (1, 2048, [1000]),
        (1, 4096, [3000]),
        (2, 8192, [4100, 7000]),
    ]
    assert all(slots * context <= 16 * 1024 for slots, context, _ in made)
    assert [made[:2] for made in rooms([asked(n) for n in (20, 180)] * 9, 16)] == [(16, 256)]
    assert rooms([], 16) == []


def test_who_cannot_be_asked_or_answered_is_dropped_by_name_once(tmp_path, split, listener, caplog):
    good, samples = talk(
        "three-c", [([0.5], "a", "b", True), ([0.5], "c", "d", True)], "several_turns"
    )
    bad = dataclasses.replace(good, id="bad", audio=(b"no sound", good.audio[1]))
    few = dataclasses.replace(good, id="few", audio=good.audio[:1])
    tone = tone_record(0)
    broken = [
        dataclasses.replace(tone, id=f"broken-{i}", task=task, annotation=annotation)
        for i, (task, annotation) in enumerate(
            [
                ("asr", {}),
                ("word_timestamps", {"words": [{"word": "a"}]}),
                ("word_timestamps", {"words": 5}),
                ("sound_event_detection", {"events": ["bell"]}),
                ("entity_recognition", {"entities": [{"type": "a"}]}),
            ]
        )
    ]
    records = [(good, samples), (bad, samples), (few, samples), (tone, (4000,))]
    write_split(tmp_path, "validation", [*records, *((one, (4000,)) for one in broken)])
    asks = answering(tmp_path / "run", dataclasses.replace(split, corpus=Corpus(tmp_path)))
    with caplog.at_level(logging.WARNING):
        results = asks(1.0)["talks"]
    assert [one.record for one in results if one.is_answered] == [
        *("three-c", "three-c", "few", tone.id)
    ]
    for name in ("bad", "few", *(record.id for record in broken)):
        assert caplog.text.count(f"record {name} is dropped: ") == 1
    (row,) = [row for row in score_rows({"talks": results}) if row["metric"] == "token_f1"]
    assert (row["n"], row["asked"], row["failed"]) == (3, 6, 3)


def test_a_line_of_each_turn_and_the_loss_with_the_last(found, tmp_path):
    losses = {("talks", "three-a"): RecordLoss(4.0, 6.0, 8.0)}
    rows = score_rows({"talks": found})
    write_evaluation(tmp_path, 7, Evaluation(rows, {"talks": found}, losses))
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
    def wrong(one):
        answered = dataclasses.replace(one.answered, text="no")
        return dataclasses.replace(one, answered=answered, controls={})

    rows = score_rows({"right": found, "wrong": list(map(wrong, found))})
    by_name = {row["metric"]: row for row in rows}
    assert (by_name["accuracy"]["value"], by_name["accuracy"]["n"]) == (0.5, 16)
    assert [by_name[f"accuracy/{name}"]["value"] for name in ("right", "wrong")] == [1.0, 0.0]
    assert "accuracy/right/silence" not in by_name
    assert len(by_name) == len(rows)


def test_a_report_shows_talks_of_each_kind_whole(found):
    shown = shown_examples({"talks": found}, 4)
    assert [one.id for one in shown] == ["one-a", "three-a", "one-b", "three-b"]
    three = shown[1]
    assert three.answers == {2: "Hi.", 6: "Both."}
    assert len(three.messages) == 6
    assert len(three.clips) == 3


def test_a_table_has_what_was_before(tmp_path):
    now = [{"task": "asr", "metric": m, "value": 0.5, "baseline": 1.0, "n": 2} for m in "ab"]
    assert with_before(tmp_path, now) == now
    write_before(tmp_path, [now[0] | {"value": 0.75}])
    assert [row["before"] for row in with_before(tmp_path, now)] == [0.75, None]
