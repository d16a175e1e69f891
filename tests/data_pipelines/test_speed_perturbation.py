"""Speed perturbation is part of the plan: lengths from the index are those of what is heard."""

import numpy as np
import pytest
from conftest import flac
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import PackPlan, RowShape
from data_pipelines.record_lengths import RecordLengths
from data_pipelines.records import IndexRow, Record
from data_pipelines.speed_perturbation import annotation_at, rate_for, samples_at
from qwen_audio_jax.audio.decode import resample
from qwen_audio_jax.audio.wave_augment import WaveAugment
from qwen_audio_jax.text.tokenizer import train_sentencepiece

SPEEDS = (0.9, 1.0, 1.1)
WORDS = [{"word": "the", "start": 0.0, "end": 0.4}, {"word": "dog", "start": 0.45, "end": 1.0}]


@pytest.fixture(scope="module")
def preprocessor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = train_sentencepiece(["the dog"], ["en"], folder, pieces=16)
    augment = WaveAugment(speeds=SPEEDS)
    return Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "ceil", augment=augment)


def record(task, samples):
    wave = 0.3 * np.sin(np.arange(samples) / 5)
    annotation = {"text": "the dog", "language": "en", "words": WORDS}
    return Record("a", task, (flac(wave),), annotation)


@given(samples=st.integers(480, 40_000), speed=st.sampled_from([0.9, 0.95, 1.05, 1.1, 0.5, 2.0]))
def test_samples_are_those_of_the_resampler(samples, speed):
    rate = round(16_000 * speed)
    assert len(resample(np.zeros(samples, np.float32), rate)) == samples_at(samples, rate)


@pytest.mark.parametrize("samples", [16_000, 16_001, 500, 31 * 16_000, 28 * 16_000])
@pytest.mark.parametrize("task", ["asr", "word_timestamps", "speaker_age"])
def test_lengths_from_the_index_are_those_of_the_example(preprocessor, task, samples):
    made = record(task, samples)
    row = IndexRow("a", task, (samples,), made.annotation)
    lengths = RecordLengths([row], preprocessor)
    for variant in range(3):
        example = preprocessor.example(made, (samples,), variant)
        ((tokens, frames),) = lengths[np.array([0]), np.array([variant])]
        assert tokens == len(example.text.tokens)
        assert frames == sum(map(len, example.clips))


def test_faster_is_shorter_and_its_times_come_sooner(preprocessor):
    made = record("word_timestamps", 16_000)
    slow, plain, fast = (preprocessor.example(made, None, variant) for variant in range(3))
    assert slow.clip_frames[0] == 112  # 17,778 samples
    assert plain.clip_frames[0] == 100
    assert fast.clip_frames[0] == 91  # 14,546

    def answer(example):
        return preprocessor.tokenizer.decode(example.text.tokens[example.text.loss_weights > 0])

    assert answer(plain) == "the<|0.40|><|sil|><|0.45|>dog<|1.00|><|endoftext|>"
    assert answer(fast) == "the<|0.36|><|sil|><|0.41|>dog<|0.91|><|endoftext|>"
    assert answer(slow) == "the<|0.44|><|sil|><|0.50|>dog<|1.11|><|endoftext|>"


def test_no_time_is_after_the_end():
    moved = annotation_at({"words": WORDS}, 17_600, 0.9)["words"]
    assert moved[-1]["end"] == 0.9
    assert annotation_at({"words": WORDS}, 16_000, 0.5) == {"words": WORDS}


def test_a_label_that_speed_would_falsify_keeps_its_clip(preprocessor):
    made = record("speaker_age", 16_000)
    examples = [preprocessor.example(made, None, variant) for variant in range(3)]
    for example in examples:
        np.testing.assert_array_equal(example.clips[0], examples[1].clips[0])
    assert rate_for("speaker_age", [16_000], 17_600) == 16_000
    # Nor is a clip sped up until nothing is left of it.
    assert rate_for("asr", [500], 17_600) == 16_000
    assert rate_for("asr", [500], 14_400) == 14_400


def test_the_plan_draws_a_speed_for_each_time_that_a_record_comes():
    lengths = np.random.default_rng(0).integers(8, 30, (300, 3, 2))
    shapes = [RowShape(4, 100, 100)]
    plan = PackPlan({"a": lengths}, {"a": 1.0}, shapes, seed=0, variants=3)
    records = np.arange(300)
    drawn = np.array([plan.variant(window, 0, records) for window in range(60)])
    np.testing.assert_allclose([(drawn == v).mean() for v in range(3)], 1 / 3, atol=0.02)
    # Another one in another window, and independent of the neighbours'.
    assert (drawn[0] != drawn[1]).mean() > 0.5
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.4
    for slot in range(5):
        for row in plan.batch(slot).rows:
            used = sum(lengths[r, plan.variant_at(slot, 0, r)] for _, r in row)
            assert np.all(used <= 100)
    assert (plan.variant(3, 0, np.array([7, 9])) == drawn[3][[7, 9]]).all()
