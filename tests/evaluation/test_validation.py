"""When what is evaluated, and the files that tell of it."""

import collections
import dataclasses
import json

import pytest

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.held_out_loss import RecordLoss
from qwen_audio_jax.evaluation.plan import Planned
from qwen_audio_jax.evaluation.split_answers import Result
from qwen_audio_jax.evaluation.split_scores import score_rows
from qwen_audio_jax.evaluation.validation import (
    Evaluation,
    Validation,
    make_validation,
    write_evaluation,
)
from qwen_audio_jax.metrics import Answer, score_by_part
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.run_config import EvaluateConfig

OPTIONS = EvaluateConfig(every=4, data="", limit=0, rows=9, max_new_tokens=4, examples=2)


def validation(workdir, **options):
    changed = dataclasses.replace(OPTIONS, **options)
    splits = {"tones": (None, "validation")}
    return make_validation(changed, splits, None, {}, None, None, None, workdir, Group())


@pytest.mark.parametrize(
    ("options", "whole", "due"),
    [
        ({}, [4, 8], [4, 8]),
        ({"loss_every": 3}, [4, 8], [3, 4, 6, 8, 9]),
        ({"every": 0}, [], []),
        ({"every": 0, "loss_every": 3}, [], [3, 6, 9]),
        ({"loss": False, "loss_every": 3}, [4, 8], [4, 8]),
        ({"answers": False, "loss_every": 3}, [4, 8], [3, 4, 6, 8, 9]),
    ],
)
def test_the_loss_may_be_had_more_often_than_answers(tmp_path, options, whole, due):
    made = validation(tmp_path, **options)
    assert [step for step in range(1, 10) if made.whole(step)] == whole
    assert [step for step in range(1, 10) if made.due(step)] == due


def test_either_can_be_off_and_so_can_both(tmp_path):
    both = validation(tmp_path)
    assert [split.name for split in both.answers.splits] == ["tones"]
    assert both.losses.keys() == {"tones"}
    assert validation(tmp_path, answers=False).answers is None
    assert not validation(tmp_path, loss=False).losses
    assert validation(tmp_path, answers=False, loss=False) is None


def test_without_answers_none_are_asked_for_and_without_need_no_controls():
    def answers(parameters, *, controls):
        asked.append((parameters, controls))
        return {"tones": []}

    asked = []
    for options in (OPTIONS, dataclasses.replace(OPTIONS, controls=True)):
        both = Validation(answers, {}, options)
        assert both("parameters", whole=False) == Evaluation([], {}, {})
        assert both("parameters", start=True).results == {"tones": []}
        assert both("parameters").results == {"tones": []}
    assert asked == [("parameters", controls) for controls in (False, False, False, True)]


SAID = [
    ("asr", "a b", "a", "en"),
    ("asr", "c d", "c d", "fr"),
    ("asr", "\u4f60\u597d\u2028\U0001f600", "\u4f60\udcff", "zh"),
    ("speaker_gender", "male", "male", "en"),
    ("speaker_gender", "female", "male", "en"),
]


def results():
    for number, (task, text, said, language) in enumerate(SAID):
        annotation = {"text": text, "language": language, "source": "test"}
        item = Planned(
            "x", f"r{number}", task, annotation, prompt=f"<|{language}|>", reference=text
        )
        yield Result(item, Answered("", said, "stop"), lambda: (b"clip",))


def rows_of(answers):
    """The table of (task, Answer)s."""
    by_task = collections.defaultdict(list)
    for task, answer in answers:
        by_task[task].append(answer)
    return [row for task in sorted(by_task) for row in score_by_part(task, by_task[task])]


def test_answers_scored_anew_from_their_file_give_the_table(tmp_path):
    found = list(results())
    rows = rows_of((one.item.task, Answer(one.item.annotation, one.answered.text)) for one in found)
    losses = {("x", "r0"): RecordLoss(4.0, 6.0, 8.0), ("x", "r1"): RecordLoss(2.0, 1.0)}
    scored = score_rows({"x": found})
    assert [{name: row[name] for name in rows[0]} for row in scored] == rows
    assert all((row["asked"], row["failed"]) == (row["n"], 0) for row in scored)
    write_evaluation(tmp_path, 7, Evaluation(rows, {"x": found}, losses))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "evaluation.json"]
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    table = json.loads((tmp_path / "evaluation.json").read_text())
    assert table == rows
    assert rows_of((one["task"], Answer(one["annotation"], one["answer"])) for one in lines) == rows
    # By hand from the counts, without the metrics' code.
    asr = [line for line in lines if line["task"] == "asr"]
    words, characters = (
        sum(line[edits] for line in asr) / sum(line[length] for line in asr)
        for edits, length in (("word_edits", "words"), ("character_edits", "characters"))
    )
    value = {(row["task"], row["metric"]): row["value"] for row in table}
    assert (value["asr", "wer"], value["asr", "cer"]) == (words, characters)
    assert value["speaker_gender", "accuracy"] == sum(x.get("right", 0) for x in lines) / 2
    assert lines[0] == {
        "id": "r0",
        "corpus": "x",
        "task": "asr",
        "language": "en",
        "step": 7,
        "prompt": "<|en|>",
        "reference": "a b",
        "answer": "a",
        "word_edits": 1,
        "words": 2,
        "character_edits": 2,
        "characters": 3,
        "tokens": 4.0,
        "loss": 1.5,
        "loss_another_clip": 2.0,
        "annotation": {"text": "a b", "language": "en", "source": "test"},
    }
    assert "loss_another_clip" not in lines[1]
    assert "loss" not in lines[2]


def test_the_last_answers_stay_where_only_the_loss_is_measured(tmp_path):
    write_evaluation(tmp_path, 7, Evaluation([], {"x": list(results())}, {}))
    before = (tmp_path / "answers.jsonl").read_text()
    write_evaluation(tmp_path, 8, Evaluation([], {}, {}))
    assert (tmp_path / "answers.jsonl").read_text() == before
