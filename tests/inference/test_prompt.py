"""The prompt of a talk, and of the stateless form, has the ids of transformers' processor."""

import types

import numpy as np
import pytest

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
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = references / "golden/qwen2_audio/folder_example"
    processor = transformers.Qwen2AudioProcessor(
        transformers.WhisperFeatureExtractor(feature_size=128),
        transformers.AutoTokenizer.from_pretrained(folder),
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
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
