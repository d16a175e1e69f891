"""Which records are answered together, and which are dropped."""

import dataclasses

import numpy as np
import pytest
from conftest import flac, tone_record

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.evaluation.answering import Evaluator, rows_for
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece

OPTIONS = EvaluateConfig(every=0, data="", limit=0, rows=9, max_new_tokens=4, examples=2)


def tone_of(seconds: int) -> tuple[Record, tuple[int, ...]]:
    wave = 0.1 * np.sin(np.arange(16000 * seconds) / 7)
    annotation = {"text": "tone", "source": "test"}
    return Record(f"long-{seconds}", "instrument_classification", (flac(wave),), annotation), (
        len(wave),
    )


@pytest.fixture
def evaluator(tmp_path):
    short = [(tone_record(i), (4000 + 160 * (i % 9),)) for i in range(20)]
    write_split(tmp_path, "validation", [tone_of(80), *short, tone_of(50), tone_of(40)])
    train_sentencepiece(["tone", "noise"], [], tmp_path / "tokenizer", pieces=16)
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor", max_seconds=60)
    return Evaluator(Corpus(tmp_path), "validation", preprocessor, None, None, OPTIONS)


def test_long_records_are_answered_a_few_at_a_time(evaluator, caplog):
    groups = list(evaluator._groups(evaluator._questions(), evaluator._own))
    assert [(rows, len(group)) for rows, group in groups] == [(9, 9), (9, 9), (2, 2), (2, 2)]
    asked = [record.id for _, group in groups for record, *_ in group]
    assert len(set(asked)) == 22
    assert asked[-2:] == ["long-40", "long-50"]
    assert "record long-80 is dropped: a clip of it lasts 80.0 s, and config.data" in caplog.text


def test_a_record_that_cannot_be_asked_is_dropped_by_name(tmp_path, evaluator, caplog):
    good, samples = tone_of(1)
    broken = [
        dataclasses.replace(good, id=f"bad-{i}", task=task, annotation=annotation)
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
    folder = tmp_path / "broken"
    folder.mkdir()
    write_split(folder, "validation", [(record, samples) for record in [*broken, good]])
    asked = dataclasses.replace(evaluator, corpus=Corpus(folder))
    ((_, group),) = asked._groups(asked._questions(), asked._own)
    assert [record.id for record, *_ in group] == ["long-1"]
    for record in broken:
        assert f"record {record.id} is dropped: " in caplog.text


def test_an_answer_ends_at_the_end_token_and_not_at_its_name(evaluator, monkeypatch):
    """The text says what the token is called; only the token itself ends an answer."""
    tokenizer = evaluator.preprocessor.tokenizer
    said = "tone<|endoftext|> on"
    ids = [*tokenizer.encode(said), tokenizer.end_of_text, *tokenizer.encode("more")]
    monkeypatch.setattr(Evaluator, "_greedy", lambda self, *_: np.array([ids]))
    ((_, group),) = evaluator._groups(evaluator._questions()[:1], evaluator._own)
    mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1})
    answering = dataclasses.replace(evaluator, mesh=mesh)
    asked = answering._answer(None, [example for *_, example, _ in group], 1)
    assert answering._texts(asked, 1) == [said]


def test_a_limit_is_spread_over_what_can_be_asked(evaluator):
    limited = dataclasses.replace(evaluator, options=dataclasses.replace(OPTIONS, limit=3))
    (rows, group), *rest = limited._groups(limited._questions(), limited._own)
    asked = [*group, *(one for _, group in rest for one in group)]
    assert len(asked) == 3
    assert rows == 2


def test_rows_of_long_records_take_no_more_memory():
    assert [rows_for(16000 * s, 64) for s in (0, 5, 30, 31, 60, 61, 300)] == [
        64, 64, 64, 16, 16, 7, 1,
    ]  # fmt: skip
