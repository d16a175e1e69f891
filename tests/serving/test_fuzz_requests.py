"""Whatever a body holds, the answer is one or a sentence of 4xx; then the server still answers."""

import base64
import dataclasses
import io
import json

import httpx
import numpy as np
import pytest
import soundfile
from api_server import ENDLESS, LIMITS, TINY, asked, audio_part, encoded, running, state_of, wave
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest_plugins = ("api_fixtures",)

CHAT, WRITE = "/v1/chat/completions", "/v1/audio/transcriptions"
CONTROL = ("<|im_end|>", "<|im_start|>system\n", "<|AUDIO|>", "<|audio_bos|>", "<|endoftext|>")


def not_a_number() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave(0.1) * np.nan, 16_000, format="wav", subtype="FLOAT")
    return file.getvalue()


SOUND = encoded(wave(0.3))
FILES = {
    "wav": SOUND,
    "flac": encoded(wave(0.3), "flac"),
    "mp3": encoded(wave(0.5), "mp3"),
    "ogg": encoded(wave(0.3), "ogg"),
    "nothing": b"",
    "40 s": encoded(np.zeros(640_000, np.int16), "flac"),
    "NaN": not_a_number(),
    "header": SOUND[:44],
    "cut off": SOUND[:999],
    "two": SOUND + SOUND,
    "text": b"RIFF and nothing else",
    "page": b"<!doctype html><p>404",
    "stereo": encoded(wave(0.3, rate=44_100, channels=2), "flac", 44_100),
}

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**30, -(10**30), 1 << 63, 1e308, 5e-324, 0, -1, 2**31]),
)
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from([*CONTROL, "\ud800", "\0", "\u202e", "👩‍🚀", "a" * 300]),
    st.lists(st.sampled_from([*CONTROL, "a", " ", "\n"]), max_size=6).map("".join),
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
damaged = st.builds(
    lambda data, at, byte: data[: at % (len(data) + 1)] + byte + data[at % (len(data) + 1) + 1 :],
    st.sampled_from(list(FILES.values())),
    st.integers(0, 1 << 16),
    st.binary(max_size=2),
)
data = st.one_of(st.sampled_from(list(FILES.values())), damaged, st.binary(max_size=60))
spelled = st.one_of(data.map(lambda d: base64.b64encode(d).decode()), texts)
formats = st.one_of(st.sampled_from(["wav", "mp3", "flac", "ogg"]), texts)
urls = st.one_of(
    st.builds("data:audio/{};base64,{}".format, formats, spelled),
    st.sampled_from(["http://127.0.0.1/", "file:///etc/passwd", "data:,", "data:audio/wav,a"]),
)


def maybe(good, odds: int = 6):
    """Mostly something good."""
    return st.one_of(*[good] * odds, junk)


parts = maybe(
    st.one_of(
        st.fixed_dictionaries({"type": st.just("text"), "text": maybe(texts)}),
        st.fixed_dictionaries(
            {
                "type": st.just("input_audio"),
                "input_audio": maybe(
                    st.fixed_dictionaries({"data": maybe(spelled), "format": maybe(formats)})
                ),
            }
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("audio_url"),
                "audio_url": maybe(st.fixed_dictionaries({"url": maybe(urls)})),
            }
        ),
    )
)
contents = maybe(st.one_of(texts, st.lists(parts, max_size=3)))
messages = st.fixed_dictionaries(
    {"role": maybe(st.sampled_from(["user", "user", "assistant", "system"]), 12)},
    optional={"content": contents},
)
users = st.fixed_dictionaries({"role": st.just("user"), "content": contents})
OPTIONS = {
    "model": st.sampled_from([TINY, ENDLESS]),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, 50),
    "n": st.integers(1, 3),
    "seed": st.integers(-(1 << 63), (1 << 63) - 1),
    "max_tokens": st.integers(1, 4),
    "max_completion_tokens": st.integers(1, 4),
    "stop": st.one_of(st.text(min_size=1, max_size=3), st.lists(texts, max_size=3)),
    "stream": st.booleans(),
    "stream_options": st.just({"include_usage": True}),
    "prompt_cache_key": texts,
    "logprobs": st.just(False),
    "tools": st.just([]),
    "user": texts,
}
bodies = st.one_of(
    st.fixed_dictionaries(
        {
            "messages": maybe(
                st.builds(lambda some, last: [*some, last], st.lists(messages, max_size=2), users),
                10,
            )
        },
        optional={name: maybe(good, 8) for name, good in OPTIONS.items()},
    ),
    junk,
)


@pytest.fixture(scope="module")
def http(models):
    """A server whose answers are short."""
    state = state_of(models, dataclasses.replace(LIMITS, tokens=4))
    with running(state) as server, httpx.Client(base_url=server.address, timeout=60) as client:
        yield client


def check(response: httpx.Response) -> None:
    """An answer, or one sentence that says why not."""
    if response.status_code == 200:
        streamed = response.headers["content-type"].startswith("text/event-stream")
        assert '"error"' not in response.text or not streamed
        return
    assert 400 <= response.status_code < 500
    assert response.status_code not in (401, 403, 408, 429)
    message = response.json()["error"]["message"]
    assert message
    assert "\n" not in message
    assert len(message) < 500
    assert "Traceback" not in message


def still_answers(http) -> str:
    body = {"model": ENDLESS, "messages": asked(audio_part(SOUND), "What?"), "seed": 1}
    response = http.post(CHAT, json=body | {"temperature": 1})
    return response.json()["choices"][0]["message"]["content"]


def fuzz_chat(http, examples: int) -> None:
    before = still_answers(http)

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(body=bodies)
    def run(body):
        check(http.post(CHAT, content=json.dumps(body)))

    run()
    assert still_answers(http) == before


def fuzz_forms(http, examples: int) -> None:
    before = still_answers(http)
    fields = {
        "model": st.sampled_from([TINY, ENDLESS]),
        "language": st.sampled_from(["en", "zh", "de", "German"]),
        "response_format": st.sampled_from(["json", "text", "verbose_json"]),
        "temperature": st.floats(0, 2).map(str),
        "timestamp_granularities[]": st.sampled_from(["word", "segment"]),
        "stream": st.sampled_from(["true", "false"]),
        "prompt": st.just(""),
    }
    plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    values = {name: st.one_of(*[good] * 5, plain) for name, good in fields.items()}

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(sent=st.fixed_dictionaries({}, optional=values), sound=data, name=plain)
    def run(sent, sound, name):
        files = {"file": (name or "a", sound)} | {n: (None, v) for n, v in sent.items()}
        check(http.post(WRITE, files=files))

    run()
    assert still_answers(http) == before


def fuzz_bytes(http, examples: int) -> None:
    """Bodies that were right before some of their bytes were changed."""
    right = json.dumps({"messages": asked(audio_part(SOUND), "What?"), "max_tokens": 2}).encode()
    changes = st.lists(
        st.tuples(st.integers(0, len(right)), st.integers(0, 3), st.binary(max_size=3)),
        min_size=1,
        max_size=4,
    )

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(changes=changes)
    def run(changes):
        content = right
        for at, gone, new in changes:
            content = content[:at] + new + content[at + gone :]
        check(http.post(CHAT, content=content))

    run()


FUZZ = {"chat": fuzz_chat, "forms": fuzz_forms, "bytes": fuzz_bytes}


@pytest.mark.parametrize("name", FUZZ)
def test_any_body(http, name):
    FUZZ[name](http, examples=60)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "examples"), [("chat", 2000), ("forms", 500), ("bytes", 500)])
def test_many_bodies(http, name, examples):
    FUZZ[name](http, examples)


@pytest.mark.parametrize("text", [*CONTROL, "<|0.40|>", "<|en|>", "Audio 1: <|AUDIO|>"])
def test_control_tokens_in_a_text_are_its_letters(http, models, text):
    """As many tokens as letters, of a vocabulary of bytes; another text of its length: as many.

    But for a time in an answer that comes back, which is one token.
    """
    for name in ("user", "assistant", "system"):
        said = [{"role": "user", "content": text}]
        if name != "user":
            said = [{"role": name, "content": text}, {"role": "user", "content": "a"}]
        other = json.loads(json.dumps(said).replace(json.dumps(text)[1:-1], "x" * len(text)))
        one, two = (
            http.post(CHAT, json={"messages": m, "max_tokens": 1}).json() for m in (said, other)
        )
        fewer = len(text) - 1 if (name, text) == ("assistant", "<|0.40|>") else 0
        assert one["usage"]["prompt_tokens"] == two["usage"]["prompt_tokens"] - fewer
        assert one["usage"]["prompt_tokens_details"]["audio_tokens"] == 0
