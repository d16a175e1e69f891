"""VoiceBench's sets that need no judge."""

import published_lists
import pytest

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation.benchmarks import ELSEWHERE, REFUSALS, voice_bench
from qwen_audio_jax.metrics.choices import Question, choice_scores
from qwen_audio_jax.rendering.spans import Span


def read(root, name):
    return voice_bench.read(published_lists.voice_bench(root, name))


@pytest.mark.parametrize("name", published_lists.VOICE_BENCH)
def test_the_clip_asks_all_by_itself(tmp_path, name):
    items, _ = read(tmp_path, name)
    for item in items:
        assert item.spans == (Span(clip=0),)
        assert item.messages == ({"role": "user", "content": [{"type": "audio"}]},)
        assert item.limit == 2048
    assert items[0].annotation["question"] == published_lists.VOICE_BENCH[name][0]["prompt"]
    assert items[0].clips() == ((tmp_path / "a.wav").read_bytes(),)


def test_spoken_choices_are_letters(tmp_path):
    items, left_out = read(tmp_path, "openbookqa")
    assert [(item.id, item.choices, item.rule) for item in items] == [
        ("1", ("A", "B", "C", "D"), "voicebench")
    ]
    assert items[0].annotation["text"] == "B"
    assert left_out[0].reason == (
        "field 'reference': 'E' is not among the choices 'A', 'B', 'C', 'D'"
    )
    (item,), _ = read(tmp_path, "mmsu")
    assert (item.id, item.annotation["category"]) == ("70", "physics")


def scored(item, *answers):
    right = item.choices.index(item.annotation["text"])
    found = choice_scores(item.rule, [Question(item.choices, right, one) for one in answers])
    return found.right, found.wrong, found.unreadable


def test_answers_of_bbh_are_read_by_our_rule(tmp_path):
    items, _ = read(tmp_path, "bbh")
    assert [item.id for item in items] == ["bbh_navigate_1", "bbh_hyperbaton_2"]
    answers = ("No, you do not.", "The answer is no.", "Yes", "I do not know")
    assert scored(items[0], *answers) == (2, 1, 1)
    assert scored(items[1], "(B)", "The answer is (B).", "(A)", "Neither") == (2, 1, 1)


def test_sets_without_a_reference(tmp_path):
    (item,), _ = read(tmp_path, "ifeval")
    assert (item.id, item.rule, item.choices) == ("1001", ELSEWHERE, ())
    (item,), _ = read(tmp_path, "advbench")
    assert (item.id, item.rule, item.choices) == ("1", REFUSALS, ())


def test_a_set_is_told_by_name_file_or_folder(tmp_path):
    assert voice_bench.set_of(tmp_path / "test.jsonl", "VoiceBench-BBH") == "bbh"
    assert voice_bench.set_of(tmp_path / "qwen-advbench-test-audio.jsonl") == "advbench"
    assert voice_bench.set_of(tmp_path / "ifeval" / "test.jsonl", "voice") == "ifeval"
    with pytest.raises(
        RejectedRecord, match="call the benchmark by one of these names: openbookqa"
    ):
        voice_bench.set_of(tmp_path / "alpacaeval" / "test.jsonl")
