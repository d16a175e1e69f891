"""What evaluation asks, and what is left for the model to answer."""

import dataclasses

import numpy as np
import pytest
from conftest import flac, questions_of

from data_pipelines.examples import Preprocessor
from data_pipelines.records import IndexRow, Record
from qwen_audio_jax.rendering.prompts import templates_of
from qwen_audio_jax.text.tokenizer import train_sentencepiece

ANNOTATION = {"text": "the dog", "language": "en"}


@pytest.fixture
def make(tmp_path):
    tokenizer = train_sentencepiece(["the dog"], ["en"], tmp_path, pieces=16)

    def make(conditioning):
        return Preprocessor(tokenizer, "qwen2_audio", conditioning, 16, "ceil")

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
    preprocessor = make(conditioning)
    ((question, reference),) = questions_of(preprocessor, record())
    text = question.text
    written = preprocessor.tokenizer.decode(text.tokens[text.audio < 0])
    assert written == f"<|audio_bos|><|audio_eos|>{asked}"
    assert reference == "the dog"
    assert not text.loss_weights.any()


@pytest.mark.parametrize("conditioning", ["tags", "prompts"])
def test_lengths_from_the_index_are_those_of_the_example(make, conditioning):
    preprocessor = make(conditioning)
    example = preprocessor.example(record())
    ((tokens, frames),) = preprocessor.lengths([IndexRow("a", "asr", (8001,), ANNOTATION)])
    assert tokens == len(example.text.tokens)
    assert frames == sum(map(len, example.clips))
    assert example.clip_frames == (51,)
    assert np.count_nonzero(example.text.audio >= 0) == 13


def test_prompts_of_ones_own_are_learned_counted_and_asked(make):
    own = {"asr": ("Write it down: ", "What is said?")}
    preprocessor = dataclasses.replace(make("prompts"), templates=templates_of(own))
    learned = set()
    for number in range(8):
        one = dataclasses.replace(record(), id=f"record-{number}")
        text = preprocessor.example(one).text
        (length,) = preprocessor.lengths([IndexRow(one.id, "asr", (8001,), ANNOTATION)])
        assert length[0] == len(text.tokens)
        written = preprocessor.tokenizer.decode(text.tokens[text.audio < 0])
        learned.add(written.removeprefix("<|audio_bos|><|audio_eos|>"))
    assert learned == {f"{wording}<|en|>the dog<|endoftext|>" for wording in own["asr"]}
    ((question, _),) = questions_of(preprocessor, record())
    asked = preprocessor.tokenizer.decode(question.text.tokens[question.text.audio < 0])
    assert asked == "<|audio_bos|><|audio_eos|>Write it down: <|en|>"


@pytest.mark.parametrize("conditioning", ["tags", "prompts"])
def test_a_long_clip_is_heard_in_windows(make, conditioning):
    """As several audio segments in order, each with the features of its stretch alone."""
    preprocessor = make(conditioning)
    wave = np.random.default_rng(0).standard_normal(70 * 16000).clip(-3, 3).astype(np.float32) / 4
    stretches = [wave[:480_000], wave[480_000:960_000], wave[960_000:]]
    annotation = ANNOTATION | {"text": "the dog the dog"}
    long = preprocessor.example(Record("a", "asr", (flac(wave),), annotation))
    assert long.clip_frames == (3000, 3000, 1000)
    for mel, stretch in zip(long.clips, stretches, strict=True):
        alone = preprocessor.example(Record("a", "asr", (flac(stretch),), annotation))
        np.testing.assert_array_equal(mel, alone.clips[0])
    names = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
    begin, place, end = map(preprocessor.tokenizer.special, names)
    audio = [n for count in (750, 750, 250) for n in (begin, *[place] * count, end)]
    assert long.text.tokens[: len(audio)].tolist() == audio
    assert long.text.audio[long.text.audio >= 0].tolist() == list(range(1750))
    ((tokens, frames),) = preprocessor.lengths([IndexRow("a", "asr", (len(wave),), annotation)])
    assert (tokens, frames) == (len(long.text.tokens), sum(map(len, long.clips)))
    ((question, _),) = questions_of(preprocessor, Record("a", "asr", (flac(wave),), annotation))
    assert question.clip_frames == long.clip_frames
