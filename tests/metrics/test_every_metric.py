"""What holds for all metrics: plain JSON, no crash on nonsense, a readable table."""

import io
import json
import math

import pytest
from annotations import ANNOTATION
from rich.console import Console

from qwen_audio_jax.metrics import METRICS, Answer, score
from qwen_audio_jax.metrics.scales import SCALES, evaluation_table, gain, parted, scale_of, verdict
from qwen_audio_jax.tasks import CONVERSATIONS, KINDS, TASKS

NASTY = [
    "",
    " ",
    "\n\t\u3000\u2028",
    "<|",
    "<|en|>",
    "<|0.00|>",
    "<|0.00|>" * 50,
    "<|0.10|>a<|0.20|>b",
    "<|99.99|>x<|0.00|>",
    "<|sil|><|sil|>",
    "<|٣.٤٥|>a<|１.０|>",
    "{words[9][word]} {} %s",
    "pitch , velocity , ",
    "pitch 999, velocity 80,",
    "<|midi_pitch_|><|instrument|><|instrument|>",
    "\x00\ufffd\U0001f600\u202e",
    "<|" * 500,
    "word " * 2000,
    "<script>[bold]",
]


def test_every_task_has_a_metric_and_every_metric_a_scale():
    assert {row.metric for row in KINDS.values() if row.metric} == METRICS.keys()
    for metric in METRICS.values():
        assert {row["metric"] for row in metric([])} <= SCALES.keys()


@pytest.mark.parametrize("task", [*TASKS, *CONVERSATIONS])
@pytest.mark.parametrize("answers", [[], *[[text] for text in NASTY], NASTY])
def test_nonsense_is_scored_and_never_crashes(task, answers):
    rows = score(task, [Answer(ANNOTATION, text) for text in answers])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        told = ["unreadable"] if row["metric"] == "aas_ms" else []
        assert list(row) == ["task", "metric", "value", "baseline", "n", *told]
        assert row["n"] == len(answers)
        if not answers:
            assert row["value"] is None
            assert row["baseline"] is None
        elif row["metric"] != "aas_ms":
            assert math.isfinite(row["value"])
            assert row["baseline"] is not None


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_reference_never_crashes(task):
    score(task, [Answer({}, "anything <|0.10|>at all<|0.20|>")])


def row(metric, value, baseline):
    return {"task": "asr", "metric": metric, "value": value, "baseline": baseline, "n": 1234}


def test_direction_against_the_baseline():
    assert verdict(row("wer", 0.2, 1.0)) == "better"
    assert verdict(row("aas_ms", 200.0, 100.0)) == "worse"
    assert verdict(row("accuracy", 0.9, 0.5)) == "better"
    assert verdict(row("accuracy", 0.5, 0.5)) == "equal"
    assert verdict(row("bleu", None, None)) == ""
    assert verdict(row("coco_bleu_2", 5.177e-10, 0.0)) == "equal"
    assert verdict(row("coco_bleu_2", 0.01, 0.0)) == "better"
    assert verdict(row("wer", 0.99999, 1.0)) == "equal"
    assert gain(row("wer", 0.2, 1.0)) == pytest.approx(0.8)
    assert gain(row("aas_ms", 200.0, 100.0)) == pytest.approx(-1.0)
    assert gain(row("accuracy", 0.75, 0.5)) == pytest.approx(0.5)
    assert gain(row("accuracy", 1.0, 1.0)) is None


def test_coco_bleu_is_written_of_100_as_bleu_is():
    found = scale_of("coco_bleu_2")
    written = [found.text(value) for value in (5.177e-10, 0.8367, -0.05777)]
    assert written == ["0.0", "83.7", "-5.8"]


def test_table_for_the_terminal():
    rows = [row("wer", 0.1234, 1.0), row("aas_ms", 42.4, None), row("[red]x", 0.5, 0.1)]
    out = io.StringIO()
    Console(file=out, width=100).print(evaluation_table(rows))
    for text in ("asr", "WER", "12.3 %", "100.0 %", "42 ms", "1,234", "[red]x"):
        assert text in out.getvalue()


def test_what_was_before_has_a_column_where_it_is_known():
    rows = [row("wer", 0.5, 1.0) | {"before": 0.75}, row("cer", 0.5, 1.0) | {"before": None}]
    out = io.StringIO()
    Console(file=out, width=100).print(evaluation_table(rows))
    head, _, wer, cer, *_ = out.getvalue().strip().splitlines()
    assert head.split() == ["task", "metric", "before", "value", "baseline", "n"]
    assert wer.split()[-7:] == ["75.0", "%", "50.0", "%", "100.0", "%", "1,234"]
    assert cer.split()[-6:] == ["-", "50.0", "%", "100.0", "%", "1,234"]


def test_a_metric_of_a_part_has_it_in_its_name():
    assert scale_of("accuracy/voice_chat/silence").name == "Accuracy, voice_chat, silence"
    assert scale_of("wer/fr").lower_is_better


def test_a_long_table_leaves_languages_and_losses_of_tasks_to_the_page():
    languages = [f"{a}{b}" for a in "abcdefg" for b in "abcdefg"]
    rows = [row("wer", 0.5, 1.0), *(row(f"wer/{one}", 0.25, 1.0) for one in languages)]
    rows += [row("loss", 2.0, 3.0), row("loss", 1.5, 3.5) | {"task": "all"}]
    out = io.StringIO()
    Console(file=out, width=100).print(evaluation_table(rows))
    assert all(shown in out.getvalue() for shown in ("50.0 %", "1.500"))
    assert not any(shown in out.getvalue() for shown in ("25.0 %", "2.000"))
    assert "50 more, losses and languages, in evaluation.json" in out.getvalue()
    first, rest = parted(rows)
    assert sorted(map(str, first + rest)) == sorted(map(str, rows))
    talks = [row(name, 0.5, 0.5) | {"task": "chat"} for name in ("accuracy/a/silence", "token_f1")]
    folded = row("token_f1/a", 0.5, 0.5) | {"task": "chat"}
    assert parted([*rows, *talks, folded]) == ([*first, *talks], [*rest, folded])
    assert parted(rows[:40]) == (rows[:40], [])
