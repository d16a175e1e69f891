"""Which records of a split are asked, which are left out, and what conversations hear instead."""

import dataclasses

import numpy as np
import pytest
from conftest import flac, tone_record
from talks import talks

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.evaluation.split_questions import SplitQuestions
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece

OPTIONS = EvaluateConfig(every=0, data="", limit=0, rows=9, max_new_tokens=4, examples=2)


def tone_of(seconds: int) -> tuple[Record, tuple[int, ...]]:
    wave = 0.1 * np.sin(np.arange(16000 * seconds) / 7)
    annotation = {"text": "tone", "source": "test"}
    record = Record(f"long-{seconds}", "instrument_classification", (flac(wave),), annotation)
    return record, (len(wave),)


@pytest.fixture(scope="module")
def preprocessor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_sentencepiece(["tone noise"], [], folder, pieces=16)
    tokenizer = load_tokenizer(folder)
    return Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor", max_seconds=2)


def split_of(folder, records, preprocessor, **options):
    write_split(folder, "validation", records)
    changed = dataclasses.replace(OPTIONS, **options)
    return SplitQuestions("tones", Corpus(folder), "validation", preprocessor, changed)


def test_records_that_are_too_long_are_left_out_and_a_limit_is_spread_over_the_rest(
    tmp_path, preprocessor
):
    short = [(tone_record(i), (4000 + 160 * (i % 9),)) for i in range(6)]
    text = Record("words", "text", (), {"text": "x"})
    records = [tone_of(3), *short, tone_of(1), (text, ())]
    split = split_of(tmp_path, records, preprocessor, limit=3)
    assert [item.id for item in split.own.items] == ["tone-0", "noise-3", "long-1"]
    ((name, why),) = [(one.row, one.reason) for one in split.own.left_out]
    assert name == "long-3"
    assert "a clip of it lasts 3.0 s, and config.data.max_seconds is 2" in why
    assert {item.limit for item in split.own.items} == {OPTIONS.max_new_tokens}
    assert [item.samples for item in split.own.items] == [(4000,), (4480,), (16000,)]
    assert [one.name for one in split.benchmarks(controls=False)] == ["tones"]


def test_a_conversation_is_asked_answer_by_answer_and_with_other_sound(tmp_path, preprocessor):
    split = split_of(tmp_path, list(talks()), preprocessor)
    own, silence, another = split.benchmarks(controls=True)
    assert [one.name for one in (own, silence, another)] == [
        "tones",
        "tones/silence",
        "tones/another_clip",
    ]
    assert [item.id for item in own.items] == [
        *("one-a#1", "one-b#1", "one-c#1"),
        *("three-a#1", "three-a#2", "three-b#1", "three-b#2", "written#1"),
    ]
    # A talk's turns before its first clip have nothing else to hear.
    heard = ["one-a#1", "one-b#1", "one-c#1", "three-a#2", "three-b#2"]
    assert [item.id for item in silence.items] == [item.id for item in another.items] == heard
    by_id = {item.id: item for item in own.items}
    for item in silence.items:
        waves = list(map(decode, item.clips()))
        assert tuple(map(len, waves)) == item.samples == by_id[item.id].samples
        assert not np.concatenate(waves).any()
        assert item.annotation == by_id[item.id].annotation
    sounds = {item.id: item.clips() for item in own.items}
    others = {item.id: item.clips() for item in another.items}
    assert others["one-a#1"] == sounds["one-b#1"]  # the same was asked
    assert others["one-b#1"] == sounds["one-a#1"]
    # Of a question that nobody else was asked, the nearest in length of its kind.
    assert others["one-c#1"] == sounds["one-a#1"]
    assert others["three-a#2"] == sounds["three-b#2"]
    for item in another.items:
        assert item.samples == tuple(len(decode(clip)) for clip in others[item.id])
