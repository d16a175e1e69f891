"""OpenAI's own client: chats with sound, streams, transcriptions, models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import openai
import pytest
from api_server import (
    ENDLESS,
    TINY,
    asked,
    audio_part,
    encoded,
    running,
    state_of,
    wave,
)
from stacked_layers import stacked

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.inference.conversation import prompt_of, stop_ids
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.serving import transcriptions

pytest_plugins = ("api_fixtures",)

CLIP = encoded(wave(0.6))
TALK = [
    {"role": "system", "content": "Be brief."},
    *asked(audio_part(CLIP), "What is this?"),
    {"role": "assistant", "content": "A sound."},
    *asked("And ", audio_part(encoded(wave(0.4, 1), "flac"), "flac"), " this?"),
]


@pytest.fixture(scope="module")
def client(api):
    with api.client() as opened:
        yield opened


def chat(client, messages, model=ENDLESS, tokens=24, **options):
    return client.chat.completions.create(
        model=model, messages=messages, max_tokens=tokens, **options
    )


def text_of(answer) -> str:
    return answer.choices[0].message.content


def alone(loaded, messages, waves, new, sampling, seed) -> str:
    """What the plain reference writes."""
    example = prompt_of(loaded, messages, waves)
    graph, parameters = stacked(loaded.model, loaded.parameters)
    batch = empty_batch(1, 512, 512, loaded.preprocessor.mel_bins)
    fill_row(batch, 0, [example])
    write = jax.jit(
        functools.partial(
            generate,
            graph,
            stop=stop_ids(loaded),
            max_new_tokens=new,
            sampling=sampling,
        )
    )
    batch = jax.tree.map(jnp.asarray, batch)
    ids = np.asarray(write(parameters, batch, seeds=jnp.array([seed])))
    return loaded.tokenizer.decode(ids[0].tolist())


def test_an_answer_is_that_of_the_reference(client, models):
    loaded = models.find(ENDLESS).loaded
    messages = [
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What is this?"}]}
    ]
    sampling = Sampling(temperature=0.9, top_p=0.8)
    expected = alone(loaded, messages, [decode(CLIP)], 24, sampling, seed=11)
    options = dict(temperature=0.9, top_p=0.8, seed=11)
    answer = chat(client, asked(audio_part(CLIP), "What is this?"), **options)
    assert text_of(answer) == expected
    assert answer.choices[0].finish_reason == "length"


def test_a_stream_is_the_answer_in_pieces(client):
    whole = chat(client, TALK)
    events = list(chat(client, TALK, stream=True, stream_options={"include_usage": True}))
    pieces = [event.choices[0] for event in events[:-1]]
    assert pieces[0].delta.role == "assistant"
    assert "".join(piece.delta.content or "" for piece in pieces) == text_of(whole)
    assert len([piece for piece in pieces if piece.delta.content]) > 1
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert events[-1].choices == []
    assert events[-1].usage == whole.usage
    assert {event.id for event in events} == {events[0].id}
    assert whole.usage.completion_tokens == 24
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 24
    # 25 tokens a second: of 0.6 s and of 0.4 s.
    assert whole.usage.prompt_tokens_details.audio_tokens == 25


def test_what_is_heard_and_what_was_said_change_the_answer(client):
    answers = {
        text_of(chat(client, talk))
        for talk in (
            TALK,
            TALK[1:],
            [*TALK[:1], *asked(audio_part(encoded(wave(0.6, 5))), "What is this?"), *TALK[2:]],
            [*TALK[:2], {"role": "assistant", "content": "A bell."}, *TALK[3:]],
        )
    }
    assert len(answers) == 4


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_each_kind_of_file_is_heard(client, kind):
    data = encoded(wave(1.0), kind)
    by_data = text_of(chat(client, asked(audio_part(data, kind), "What?")))
    part = audio_part(data, kind)["input_audio"]["data"]
    media = {"mp3": "mpeg", "ogg": "ogg;codecs=vorbis"}.get(kind, kind)
    url = {"type": "audio_url", "audio_url": {"url": f"data:audio/{media};base64,{part}"}}
    assert text_of(chat(client, asked(url, "What?"))) == by_data
    assert by_data != text_of(chat(client, asked("What?")))


def test_a_clip_of_over_30_seconds_is_heard(client):
    answer = chat(client, asked(audio_part(encoded(wave(31.0), "ogg"), "ogg"), "What?"), tokens=4)
    assert answer.usage.prompt_tokens_details.audio_tokens == 31 * 25


def test_stop_strings_end_an_answer_and_are_left_out(client):
    whole = text_of(chat(client, TALK, tokens=40))
    end = whole[20:23]
    at = whole.index(end)
    stopped = chat(client, TALK, tokens=40, stop=["no such text", end])
    assert text_of(stopped) == whole[:at]
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage.completion_tokens == at + 3
    events = list(chat(client, TALK, tokens=40, stop=end, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == whole[:at]
    assert events[-1].choices[0].finish_reason == "stop"


def test_an_answer_that_ends_by_itself_says_stop(client):
    for number in range(20):
        answer = chat(client, asked(f"Question {number}"), model=TINY, tokens=200)
        if answer.choices[0].finish_reason == "stop":
            assert answer.usage.completion_tokens < 200
            assert "<|" not in text_of(answer)
            return
    raise AssertionError("none of them ended")


def test_seeds_draw_the_same_again_and_each_choice_its_own(client):
    options = dict(temperature=1.0, n=3)
    first, again, other = (
        [choice.message.content for choice in chat(client, TALK, seed=seed, **options).choices]
        for seed in (5, 5, 1 << 40)
    )
    assert first == again
    assert len({*first, *other}) == 6
    streamed = ["", "", ""]
    for event in chat(client, TALK, seed=5, stream=True, **options):
        streamed[event.choices[0].index] += event.choices[0].delta.content or ""
    assert streamed == first
    unseeded = {text_of(chat(client, TALK, temperature=1.0)) for _ in range(3)}
    assert len(unseeded) == 3


def test_an_answer_that_is_sent_back_is_understood(client):
    answer = chat(client, TALK).choices[0].message
    talk = [*TALK, answer, *asked("Go on.")]
    by_text = [*TALK, {"role": "assistant", "content": answer.content}, *asked("Go on.")]
    assert text_of(chat(client, talk)) == text_of(chat(client, by_text))


def test_a_talk_that_has_a_key_is_not_read_anew(client):
    answer = chat(client, TALK, prompt_cache_key="mine")
    talk = [*TALK, answer.choices[0].message, *asked("Go on.")]
    expected = chat(client, talk)
    assert expected.usage.prompt_tokens_details.cached_tokens == 0
    others = chat(client, talk, prompt_cache_key="yours")
    assert others.usage.prompt_tokens_details.cached_tokens == 0
    mine = chat(client, talk, prompt_cache_key="mine")
    assert mine.usage.prompt_tokens_details.cached_tokens >= answer.usage.prompt_tokens
    assert text_of(mine) == text_of(others) == text_of(expected)


def test_a_talk_belongs_to_its_api_key(models):
    with running(state_of(models, keys=("key-of-one", "key-of-two"))) as server:
        one, two = map(server.client, ("key-of-one", "key-of-two"))
        chat(one, TALK, prompt_cache_key="same")
        talk = [*TALK, {"role": "assistant", "content": "Yes."}, *asked("Go on.")]
        usage = chat(two, talk, prompt_cache_key="same").usage
        assert usage.prompt_tokens_details.cached_tokens == 0
        chat(one, TALK, prompt_cache_key="same")
        usage = chat(one, talk, prompt_cache_key="same").usage
        assert usage.prompt_tokens_details.cached_tokens > 0


def test_models_are_listed_and_chosen(client):
    assert [model.id for model in client.models.list()] == [TINY, ENDLESS]
    assert client.models.retrieve(ENDLESS).id == ENDLESS
    assert text_of(chat(client, TALK, model=TINY)) != text_of(chat(client, TALK, model=ENDLESS))
    with pytest.raises(openai.NotFoundError, match="there is tiny, endless") as caught:
        chat(client, TALK, model="gpt-4o-audio")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


class TestTranscription:
    def write(self, client, data=CLIP, model=TINY, **options):
        file = ("a.wav", data)
        return client.audio.transcriptions.create(model=model, file=file, **options)

    def test_forms_have_the_same_text(self, client):
        plain = self.write(client, language="en")
        assert plain.usage.input_token_details.audio_tokens == 15
        assert self.write(client, language="en", response_format="text") == f"{plain.text}\n"
        verbose = self.write(client, language="en", response_format="verbose_json")
        assert verbose.text == plain.text
        assert verbose.language == "english"
        assert verbose.duration == 0.6
        assert verbose.usage.seconds == 1

    def test_a_stream_ends_with_the_whole(self, client):
        *deltas, done = self.write(client, language="en", stream=True)
        assert {event.type for event in deltas} == {"transcript.text.delta"}
        assert done.type == "transcript.text.done"
        assert "".join(event.delta for event in deltas) == done.text
        assert done.text == self.write(client, language="en").text

    def test_the_task_asked_is_that_of_pre_training(self, client, models):
        loaded = models.find(TINY).loaded
        waves = [decode(CLIP)]
        example, _ = loaded.preprocessor.question("asr", {"text": "", "language": "en"}, waves)
        answer = self.write(client, language="en")
        assert answer.usage.input_tokens == len(example.text.tokens)
        text = loaded.tokenizer.decode(example.text.tokens[example.text.audio < 0])
        assert text.endswith("recognize the speech: <|en|>")
        # Without a language the model tells it: its tag is no part of the prompt.
        assert self.write(client).usage.input_tokens == len(example.text.tokens) - 1

    def test_words_have_their_times(self, client, models, monkeypatch):
        tokenizer = models.find(TINY).loaded.tokenizer
        ids = [
            *tokenizer.encode("good"),
            tokenizer.special("<|0.40|>"),
            *tokenizer.encode("day"),
            tokenizer.special("<|0.60|>"),
        ]

        class Scripted(transcriptions.Writing):
            async def pieces(self):
                async for _ in super().pieces():
                    pass
                self.ids = ids
                yield "goodday"

        monkeypatch.setattr(transcriptions, "Writing", Scripted)
        answer = self.write(
            client,
            response_format="verbose_json",
            language="en",
            timestamp_granularities=["word"],
        )
        assert answer.text == "good day"
        assert [(w.word, w.start, w.end) for w in answer.words] == [
            ("good", 0.0, 0.4),
            ("day", 0.4, 0.6),
        ]

    def test_what_cannot_be_given_is_refused(self, client):
        for options, words in (
            (dict(response_format="srt"), "response_format: must be json or text or verbose_json"),
            (dict(timestamp_granularities=["word"]), "needs response_format=verbose_json"),
            (
                dict(response_format="verbose_json", timestamp_granularities=["segment"]),
                "must be word alone",
            ),
            (dict(stream=True, response_format="verbose_json"), "stream: "),
            (dict(language="klingonese"), "language: 'klingonese' names no language"),
            (dict(temperature=3), "temperature: must be a number from 0 to 2"),
            (dict(prompt="Names: Ada"), "prompt: is not supported here; leave it out"),
            (dict(data=b""), "file: the file is empty"),
            (dict(data=b"no sound"), "file: it cannot be read as WAV"),
            (dict(data=encoded(wave(36), "ogg")), "35 s together are the server's limit"),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                self.write(client, **options)
