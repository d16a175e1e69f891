"""Pairs as examples: each answer is what a conversation that ends with it is, and learns that."""

import io

import numpy as np
import pytest
import soundfile

from data_pipelines.examples import Preprocessor, empty_batch, fill_row
from data_pipelines.pairs import CHOSEN, LAYOUTS, REJECTED, most_pairs, pair_fields
from data_pipelines.records import IndexRow, Record
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.tasks import PREFERENCE, check_annotation
from qwen_audio_jax.text.tokenizer import train_sentencepiece

AUDIO = {"type": "audio"}
MESSAGES = [
    {"role": "user", "content": [AUDIO, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": "A bell."},
    {"role": "user", "content": [AUDIO, {"type": "text", "text": "And now?"}]},
]
ANSWERS = ("A dog.", "Nothing at all.")
ANNOTATION = {"messages": MESSAGES, "chosen": ANSWERS[0], "rejected": ANSWERS[1]}
SAMPLES = (8000, 12000)
FAMILIES = pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])


def clip(samples):
    buffer = io.BytesIO()
    wave = 0.1 * np.sin(2 * np.pi * 440 * np.arange(samples) / 16000)
    soundfile.write(buffer, wave, 16000, format="FLAC")
    return buffer.getvalue()


RECORD = Record("pair", PREFERENCE, tuple(map(clip, SAMPLES)), ANNOTATION)
ROW = IndexRow("pair", PREFERENCE, SAMPLES, ANNOTATION)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = texts_of(PREFERENCE, ANNOTATION)
    return train_sentencepiece(texts, [], tmp_path_factory.mktemp("tokenizer"))


def talk(answer):
    """The conversation that ends with an answer, which alone is learned."""
    messages = [*MESSAGES, {"role": "assistant", "content": answer}]
    return Record("talk", "chat", RECORD.audio, {"messages": messages})


@FAMILIES
@pytest.mark.parametrize("newline", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_answer_is_the_end_of_a_conversation(layout, newline, family, tokenizer):
    """Token for token, with its position, its audio, and what is learned."""
    options = {"learn": "last", "learn_newline": newline}
    preprocessor = Preprocessor(tokenizer, family, "tags", 16, "floor", layout=layout, **options)
    made = preprocessor.example(RECORD)
    text, pair = made.text, made.pair
    seen = []
    for answer, said in ((CHOSEN, ANSWERS[0]), (REJECTED, ANSWERS[1])):
        segment = pair.segments[pair.answers == answer][0]
        trunk = pair.trunks[pair.answers == answer][0]
        mine = np.isin(pair.segments, [segment, trunk])
        alone = preprocessor.example(talk(said))
        np.testing.assert_array_equal(text.tokens[mine], alone.text.tokens)
        np.testing.assert_array_equal(text.audio[mine], alone.text.audio)
        np.testing.assert_array_equal(text.loss_weights[mine], alone.text.loss_weights)
        np.testing.assert_array_equal(pair.positions[mine], np.arange(mine.sum()))
        learned = tokenizer.decode(text.tokens[mine][text.loss_weights[mine] > 0])
        assert learned == f"{said}<|im_end|>" + "\n" * newline
        seen.append(mine)
    assert np.all(seen[0] | seen[1])
    assert np.any(seen[0] & seen[1]) == (layout == "branches")
    for ours, theirs in zip(made.clips, alone.clips, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ((tokens, frames),) = preprocessor.lengths([ROW])
    assert (tokens, frames) == (len(text.tokens), sum(map(len, made.clips)))
    assert tokens >= 16  # so that `most_pairs` is enough


@FAMILIES
def test_without_a_layout_it_is_the_conversation_that_ends_with_the_chosen_answer(
    family, tokenizer
):
    preprocessor = Preprocessor(tokenizer, family, "tags", 16, "floor")
    one, other = preprocessor.example(RECORD), preprocessor.example(talk(ANSWERS[0]))
    assert one.pair is None
    np.testing.assert_array_equal(one.text.tokens, other.text.tokens)
    np.testing.assert_array_equal(one.text.loss_weights, other.text.loss_weights)
    assert preprocessor.lengths([ROW])[0, 0] == len(one.text.tokens)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_oldest_turns_are_left_out_whole(layout, tokenizer):
    def of(room):
        return Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor", layout=layout, room=room)

    shorter = RECORD.annotation | {"messages": MESSAGES[2:]}
    alone = of(()).example(Record("pair", PREFERENCE, RECORD.audio[1:], shorter))
    room = ((len(alone.text.tokens), sum(map(len, alone.clips))),)
    made = of(room).example(RECORD)
    np.testing.assert_array_equal(made.text.tokens, alone.text.tokens)
    np.testing.assert_array_equal(of(room).lengths([ROW])[0], room[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_lie_side_by_side_in_a_row(layout, tokenizer):
    """One that was dropped leaves its number to nobody, so that others keep their references."""
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor", layout=layout)
    example = preprocessor.example(RECORD)
    n = len(example.text.tokens)
    batch = empty_batch(1, 3 * n, 1024, 16) | pair_fields(1, 3 * n, layout)
    fill_row(batch, 0, [example, None, example])
    assert ("trunks" in batch) == (layout == "branches")
    first, second = ({k: x[0, i * n : (i + 1) * n] for k, x in batch.items()} for i in (0, 1))
    assert set(first["answers"]) - {0} == {1, 2}
    assert set(second["answers"]) - {0} == {5, 6}
    ahead = first["segments"].max()
    np.testing.assert_array_equal(second["segments"], first["segments"] + ahead)
    np.testing.assert_array_equal(second["positions"], first["positions"])
    for batch_of_one in (first, second):
        learned = batch_of_one["loss_weights"] > 0
        assert np.all(batch_of_one["answers"][learned] > 0)
        # The token that is learned is the next one of the same segment.
        (places,) = np.nonzero(learned)
        segments = batch_of_one["segments"]
        np.testing.assert_array_equal(segments[places], segments[places + 1])
        tokens = batch_of_one["tokens"]
        np.testing.assert_array_equal(batch_of_one["targets"][places], tokens[places + 1])
    if layout == "branches":
        np.testing.assert_array_equal(second["trunks"], first["trunks"] + ahead)
        assert set(first["trunks"]) == {1}
        assert set(first["segments"]) == {1, 2, 3}
    assert batch["references"].shape == (1, most_pairs(3 * n), 2)


def test_an_annotation_is_checked():
    stored, notes = check_annotation(PREFERENCE, ANNOTATION, clips=2)
    assert stored == ANNOTATION
    assert not notes
