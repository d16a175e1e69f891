"""The prompt of a talk, and of the stateless form, has the ids of transformers' processor."""

import types

import numpy as np
import pytest
from released_processor import released_processor
from tiny_loaded import tiny_loaded

from data_pipelines.examples import Preprocessor
from qwen_audio_jax.inference.answers import STOP, Answer
from qwen_audio_jax.inference.conversation import Conversation
from qwen_audio_jax.inference.engine import EngineConfig
from qwen_audio_jax.inference.prompt import prompt_of
from qwen_audio_jax.text.tokenizer import load_tokenizer

AUDIO = {"type": "audio"}
TALK = [
    {"role": "user", "content": [AUDIO, {"type": "text", "text": "What is that?"}]},
    {"role": "assistant", "content": "A bell. 两声 😀"},
    {"role": "user", "content": [{"type": "text", "text": "\nAnd these:"}, AUDIO, AUDIO]},
    {"role": "assistant", "content": "1234 steps"},
    {"role": "user", "content": "Sure?"},
]


class Silent:
    """An engine that answers nothing."""

    config = EngineConfig()

    def submit(self, request):
        answer = Answer(request)
        answer.put([], STOP)
        return answer


@pytest.mark.parity
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_ids_of_transformers_processor(references, monkeypatch, system):
    folder = references / "golden/qwen2_audio/folder_example"
    processor = released_processor(folder, monkeypatch)
    tokenizer = load_tokenizer(folder)
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "prompts", 128, "ceil")
    loaded = types.SimpleNamespace(
        name="released", family="qwen2_audio", preprocessor=preprocessor, tokenizer=tokenizer
    )
    waves = [np.zeros(n, np.float32) for n in (1600, 9000, 480_000)]
    messages = [{"role": "system", "content": system}, *TALK] if system else TALK
    told = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    theirs = processor(text=told, audio=waves, sampling_rate=16000)["input_ids"]
    expected = np.asarray(theirs).reshape(-1).tolist()
    assert prompt_of(loaded, messages, waves).text.tokens.tolist() == expected

    turns = [
        {"content": user["content"], "ids": tokenizer.encode(said["content"]), "text": "unread"}
        for user, said in zip(TALK[:-1:2], TALK[1::2], strict=True)
    ]
    state = {"system": system, "turns": turns}
    talk = Conversation.restored(state, waves, loaded, Silent())
    reply = talk.say(["Sure?"])
    assert reply.answer.request.example.text.tokens.tolist() == expected


@pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])
def test_times_are_tokens_in_an_answer_that_comes_back_and_nowhere_else(family, tmp_path):
    loaded = tiny_loaded(family, tmp_path)
    time, known = "<|2.33|>", loaded.tokenizer.control_ids

    def ids(system, said, answer):
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": said},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": [{"type": "text", "text": said}]},
        ]
        return prompt_of(loaded, messages, []).text.tokens.tolist()

    assert known[time] not in ids(time, time, "x")
    for answer in (f"A{time} b", [{"type": "text", "text": f"A{time} b"}]):
        assert ids("x", "x", answer).count(known[time]) == 1
        assert loaded.tokenizer.decode(ids("x", "x", answer)).count(f"A{time} b") == 1
    # Nor is anything else a token, and a time that there is none of is text.
    other = "<|en|>", "<|im_end|>", "<|99.99|>", "<|2.3|>"
    controls = set(known.values())
    for text in other:
        plain, with_it = (sum(i in controls for i in ids("x", "x", said)) for said in ("x", text))
        assert plain == with_it
    assert ids("x", "x", "") == ids("x", "x", [{"type": "text", "text": ""}])
