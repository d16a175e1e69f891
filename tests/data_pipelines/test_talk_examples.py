"""Conversations as examples: what is learned, what is asked, and what is left out where it is long.

The ids themselves are compared with the originals' in tests/rendering/test_chat.py.
"""

import io

import numpy as np
import pytest
import soundfile
from conftest import questions_of

from data_pipelines.examples import Preprocessor, empty_batch, fill_row
from data_pipelines.records import IndexRow, Record
from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.text.control_tokens import IM_END
from qwen_audio_jax.text.tokenizer import train_sentencepiece

AUDIO = {"type": "audio"}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [AUDIO, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": "A bell."},
    {"role": "user", "content": "And how loud?"},
    {"role": "assistant", "content": "Loud.", "loss": False},
    {"role": "user", "content": [AUDIO, AUDIO]},
    {"role": "assistant", "content": "Both are bells."},
]
SECONDS = (0.5, 0.75, 1.0)


def clip(seconds, pitch=440):
    buffer, times = io.BytesIO(), np.arange(int(16000 * seconds)) / 16000
    soundfile.write(buffer, 0.1 * np.sin(2 * np.pi * pitch * times), 16000, format="FLAC")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = texts_of("chat", {"messages": MESSAGES})
    return train_sentencepiece(texts, [], tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def record():
    return Record("talk", "chat", tuple(map(clip, SECONDS)), {"messages": MESSAGES})


def row_of(record):
    samples = tuple(int(16000 * seconds) for seconds in SECONDS)[: len(record.audio)]
    return IndexRow(record.id, record.task, samples, record.annotation)


def learned(example, tokenizer):
    return tokenizer.decode(example.text.tokens[example.text.loss_weights > 0])


FAMILIES = pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])


@FAMILIES
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "A bell.<|im_end|>Both are bells.<|im_end|>"),
        ({"learn": "last"}, "Both are bells.<|im_end|>"),
        ({"learn_newline": True}, "A bell.<|im_end|>\nBoth are bells.<|im_end|>\n"),
    ],
)
def test_what_is_learned(family, options, expected, record, tokenizer):
    plain = Preprocessor(tokenizer, family, "tags", 16, "floor")
    changed = Preprocessor(tokenizer, family, "tags", 16, "floor", **options)
    example = changed.example(record)
    assert learned(example, tokenizer) == expected
    # What is learned changes no token, and neither does the conditioning.
    prompts = Preprocessor(tokenizer, family, "prompts", 16, "floor")
    for other in (plain.example(record), prompts.example(record)):
        np.testing.assert_array_equal(other.text.tokens, example.text.tokens)
    everything = {"messages": [{k: m[k] for k in ("role", "content")} for m in MESSAGES]}
    whole = plain.example(Record("talk", "chat", record.audio, everything))
    np.testing.assert_array_equal(whole.text.tokens, example.text.tokens)
    assert learned(whole, tokenizer) == "A bell.<|im_end|>Loud.<|im_end|>Both are bells.<|im_end|>"
    ((tokens, frames),) = changed.lengths([row_of(record)])
    assert tokens == len(example.text.tokens)
    assert frames == sum(map(len, example.clips))


@FAMILIES
def test_each_learned_answer_is_asked_for_behind_the_turns_before_it(family, record, tokenizer):
    preprocessor = Preprocessor(tokenizer, family, "tags", 16, "floor")
    whole = preprocessor.example(record)
    asked = questions_of(preprocessor, record)
    assert [reference for _, reference in asked] == ["A bell.", "Both are bells."]
    assert [len(question.clips) for question, _ in asked] == [1, 3]
    for question, reference in asked:
        n = len(question.text.tokens)
        np.testing.assert_array_equal(question.text.tokens, whole.text.tokens[:n])
        np.testing.assert_array_equal(question.text.audio, whole.text.audio[:n])
        answer = tokenizer.decode(whole.text.tokens[n:])
        assert answer.startswith(reference + IM_END)


@FAMILIES
def test_the_oldest_turns_are_left_out_whole(family, record, tokenizer):
    def shortened(room):
        return Preprocessor(tokenizer, family, "tags", 16, "floor", room=room)

    whole = shortened(()).example(record)
    row = row_of(record)
    for dropped, (kept, clips) in {
        1: ([MESSAGES[0], *MESSAGES[3:]], record.audio[1:]),
        2: ([MESSAGES[0], *MESSAGES[5:]], record.audio[1:]),
    }.items():
        alone = shortened(()).example(Record("kept", "chat", clips, {"messages": kept}))
        tokens, frames = len(alone.text.tokens), sum(map(len, alone.clips))
        preprocessor = shortened(((tokens, frames),))
        made = preprocessor.example(record)
        np.testing.assert_array_equal(made.text.tokens, alone.text.tokens)
        np.testing.assert_array_equal(made.text.loss_weights, alone.text.loss_weights)
        for one, other in zip(made.clips, alone.clips, strict=True):
            np.testing.assert_array_equal(one, other)
        assert preprocessor.lengths([row]).tolist() == [[tokens, frames]], dropped
    # The last turn alone does not fit: the record is too large, by name, and nothing is cut.
    least = shortened(((tokens - 1, frames),))
    size = [len(whole.text.tokens), sum(map(len, whole.clips))]
    assert least.lengths([row]).tolist() == [size]
    assert f"needs one of at least {size[0]} tokens and {size[1]} frames" in least.too_large(row)


def test_a_talk_without_anything_to_learn_has_no_room_anywhere(record, tokenizer):
    messages = [*MESSAGES[:-1], MESSAGES[-1] | {"loss": False}]
    row = row_of(Record("talk", "chat", record.audio, {"messages": messages}))
    last = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor", learn="last")
    assert last.lengths([row]).min() > 1 << 20
    assert "config.data.learn is 'last', and its last message has 'loss': false" in (
        last.too_large(row)
    )
    every = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor")
    assert every.lengths([row]).max() < 1000


def test_a_clip_of_over_30_s_is_heard_in_windows(tokenizer):
    talk = Record("long", "chat", (clip(31), clip(0.5)), {"messages": MESSAGES[:1] + MESSAGES[5:]})
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor")
    example = preprocessor.example(talk)
    assert len(example.clips) == 3
    heard = [audio_tokens(mel_frames(n, "floor")) for n in (480000, 16000, 8000)]
    assert (example.text.audio >= 0).sum() == sum(heard)


def test_talks_with_any_number_of_clips_lie_in_one_row(record, tokenizer):
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor")
    written = {"messages": MESSAGES[:1] + MESSAGES[3:4] + MESSAGES[2:3]}
    examples = [
        preprocessor.example(record),
        preprocessor.example(Record("written", "chat", (), written)),
        preprocessor.example(Record("heard", "chat", record.audio[:1], {"messages": MESSAGES[:3]})),
    ]
    batch = empty_batch(1, 512, 1024, 16)
    fill_row(batch, 0, examples)
    assert batch["segments"].max() == 3
    assert batch["mel_segments"].max() == 4
    for number, example in enumerate(examples, start=1):
        mine = batch["segments"][0] == number
        np.testing.assert_array_equal(batch["tokens"][0][mine], example.text.tokens)
        targets = batch["targets"][0][mine & (batch["loss_weights"][0] > 0)]
        assert tokenizer.decode(targets) == learned(example, tokenizer)
