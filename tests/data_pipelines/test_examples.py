"""What evaluation asks, and what is left for the model to answer."""

import numpy as np
import pytest
from conftest import flac

from data_pipelines.examples import ExampleMaker
from data_pipelines.records import IndexRow, Record
from qwen_audio_jax.tokenizer import train_sentencepiece

ANNOTATION = {"text": "the dog", "language": "en"}


@pytest.fixture
def make(tmp_path):
    tokenizer = train_sentencepiece(["the dog"], ["en"], tmp_path, pieces=16)

    def make(conditioning):
        return ExampleMaker(tokenizer, "qwen2_audio", conditioning, 16, "ceil")

    return make


def record():
    wave = np.random.default_rng(0).standard_normal(8001).clip(-3, 3) / 4
    return Record("a", "asr", (flac(wave),), ANNOTATION)


@pytest.mark.parametrize(
    ("conditioning", "asked"),
    [
        ("prompts", "Detect the language and recognize the speech: <|en|>"),
        ("tags", "<|startoftranscript|><|en|><|transcribe|><|en|><|notimestamps|><|wo_itn|>"),
    ],
)
def test_a_question_gives_the_language_and_asks_for_the_words(make, conditioning, asked):
    maker = make(conditioning)
    question, reference = maker.question(record())
    text = question.text
    written = maker.tokenizer.decode(text.tokens[text.audio < 0])
    assert written == f"<|audio_bos|><|audio_eos|>{asked}"
    assert reference == "the dog"
    assert not text.loss_weights.any()


@pytest.mark.parametrize("conditioning", ["tags", "prompts"])
def test_lengths_from_the_index_are_those_of_the_example(make, conditioning):
    maker = make(conditioning)
    example = maker.example(record())
    ((tokens, frames),) = maker.lengths([IndexRow("a", "asr", (8001,), ANNOTATION)])
    assert tokens == len(example.text.tokens)
    assert frames == sum(map(len, example.clips))
    assert example.clip_frames == (51,)
    assert np.count_nonzero(example.text.audio >= 0) == 13
