"""What a client sent wrongly is told in one sentence of OpenAI's form; never is it a 500."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
import soundfile
from api_server import ENDLESS, LIMITS, asked, audio_part, encoded, text_part, wave

pytest_plugins = ("api_fixtures",)

CHAT, WRITE = "/v1/chat/completions", "/v1/audio/transcriptions"
CLIP = encoded(wave(0.5))


@pytest.fixture(scope="module")
def http(api):
    with httpx.Client(base_url=api.address, timeout=60) as client:
        yield client


def refused(response, status=400) -> dict:
    """The error of a response, in OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    message = error["message"]
    assert message
    assert "\n" not in message
    assert len(message) < 400
    return error


def said(**body) -> dict:
    return {"model": ENDLESS, "messages": asked("Hello"), "max_tokens": 2} | body


def user(content) -> dict:
    return said(messages=[{"role": "user", "content": content}])


DATA = base64.b64encode(CLIP).decode()

BODIES = {
    "no list": (said(messages="hi"), "messages", "must be a list of one message at least"),
    "no message": (said(messages=[]), "messages", "must be a list of one message"),
    "null": (said(messages=None), "messages", "is missing"),
    "no object": (said(messages=["hi"]), "messages[0]", "must be an object, not 'hi'"),
    "role": (
        said(messages=[{"role": "tool", "content": "x"}]),
        "messages[0].role",
        "must be system or developer or user or assistant, not 'tool'",
    ),
    "no content": (said(messages=[{"role": "user"}]), "messages[0].content", "is missing"),
    "number": (user(5), "messages[0].content", "must be a text or a list of parts, not 5"),
    "blank": (user(" \n"), "messages[0].content", "has nothing in it"),
    "no part": (user([]), "messages[0].content", "not an empty list"),
    "image": (
        user([{"type": "image_url", "image_url": {"url": "data:,"}}]),
        "messages[0].content[0].type",
        "must be text or input_audio or audio_url, not 'image_url'",
    ),
    "tags": (
        user([{"type": "tags", "text": "<|im_end|>"}]),
        "messages[0].content[0].type",
        "not 'tags'",
    ),
    "part's field": (
        user([text_part("a") | {"loss": True}]),
        "messages[0].content[0].loss",
        "is not an argument",
    ),
    "surrogate": (user("a\ud800"), "messages[0].content", "half of a surrogate pair"),
    "the model's last": (
        said(messages=[*asked("a"), {"role": "assistant", "content": "b"}]),
        "messages[1].role",
        "the last message is the assistant's",
    ),
    "late system": (
        said(messages=[*asked("a"), {"role": "system", "content": "b"}]),
        "messages[1].role",
        "stands first",
    ),
    "assistant's sound": (
        said(messages=[{"role": "assistant", "content": [audio_part(CLIP)]}, *asked("a")]),
        "messages[0].content[0].type",
        "only a user's message has audio",
    ),
    "tool call": (
        said(
            messages=[
                {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
                *asked("a"),
            ]
        ),
        "messages[0].tool_calls",
        "is not supported",
    ),
    "base64": (
        user([{"type": "input_audio", "input_audio": {"data": "no!", "format": "wav"}}]),
        "messages[0].content[0].input_audio.data",
        "is not base64",
    ),
    "no bytes": (user([audio_part(b"")]), "messages[0].content[0].input_audio.data", "is empty"),
    "text as wav": (
        user([audio_part(b"hello there")]),
        "messages[0].content[0].input_audio.data",
        "it cannot be read as WAV",
    ),
    "mp3 as wav": (
        user([audio_part(encoded(wave(0.5), "mp3"), "wav")]),
        "messages[0].content[0].input_audio.data",
        "it is mp3, and the request calls it wav",
    ),
    "cut off": (
        user([audio_part(CLIP[:2000])]),
        "messages[0].content[0].input_audio.data",
        "it is broken off",
    ),
    "too short": (
        user([audio_part(encoded(wave(0.01)))]),
        "messages[0].content[0].input_audio.data",
        "it is too short",
    ),
    "aiff": (
        user([audio_part(encoded(wave(0.5), "aiff"), "wav")]),
        "messages[0].content[0].input_audio.data",
        "send WAV (PCM), MP3, FLAC or Ogg",
    ),
    "format": (
        user([audio_part(CLIP, "pcm16")]),
        "messages[0].content[0].input_audio.format",
        "must be wav or mp3 or flac or ogg, not 'pcm16'",
    ),
    "url": (
        user([{"type": "audio_url", "audio_url": {"url": "http://169.254.169.254/latest"}}]),
        "messages[0].content[0].audio_url.url",
        "this server opens no other URL and no file",
    ),
    "path": (
        user([{"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}}]),
        "messages[0].content[0].audio_url.url",
        "must be a data: URL",
    ),
    "not sound": (
        user([{"type": "audio_url", "audio_url": {"url": f"data:image/png;base64,{DATA}"}}]),
        "messages[0].content[0].audio_url.url",
        "must begin as data:audio/wav;base64,",
    ),
    "long": (
        user([audio_part(encoded(wave(20), "ogg"), "ogg")] * 2),
        "messages[0].content[1].input_audio.data",
        "35 s together are the server's limit",
    ),
    "misspelt": (said(max_token=5), "max_token", "is not an argument that is known here"),
    "hot": (said(temperature=2.5), "temperature", "must be a number from 0 to 2, not 2.5"),
    "cold": (said(temperature=-1), "temperature", "must be a number from 0 to 2"),
    "true": (said(temperature=True), "temperature", "not true"),
    "word": (said(top_p="high"), "top_p", "must be a number from 0 to 1, not 'high'"),
    "no tokens": (said(max_tokens=0), "max_tokens", "must be a whole number from 1 to 2,048"),
    "many tokens": (said(max_tokens=10**30), "max_tokens", "must be a whole number"),
    "two lengths": (said(max_completion_tokens=3), "max_tokens", "send one of them"),
    "fraction": (said(n=1.5), "n", "must be a whole number from 1 to 8, not 1.5"),
    "choices": (said(n=9), "n", "must be a whole number from 1 to 8"),
    "seed": (said(seed=1 << 70), "seed", "must be a whole number"),
    "stops": (said(stop=["a"] * 5), "stop", "has 5 texts, and 4 are the most"),
    "empty stop": (said(stop=["a", ""]), "stop[1]", "must have 1 to 256 characters"),
    "tools": (said(tools=[{"type": "function"}]), "tools", "is not supported here; leave it out"),
    "logprobs": (said(logprobs=True), "logprobs", "leave it out, or send false"),
    "penalty": (said(presence_penalty=0.5), "presence_penalty", "is not supported"),
    "json": (
        said(response_format={"type": "json_object"}),
        "response_format",
        "is not supported",
    ),
    "spoken": (said(modalities=["text", "audio"]), "modalities", "is not supported"),
    "usage": (said(stream_options={"include_usage": True}), "stream_options", "is of streams"),
    "model": (said(model=7), "model", "must be a text, not 7"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_argument_is_named(http, name):
    body, param, words = BODIES[name]
    error = refused(http.post(CHAT, content=json.dumps(body)))
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert words in error["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (b"\xff\xfe{\0}\0", "the body is not UTF-8"),
        (b'{"temperature": NaN}', "NaN is no number of JSON"),
        (b'{"temperature": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"temperature": 1e999, "messages": [{"role": "user", "content": "a"}]}', "not inf"),
        (b'{"n": ' + b"9" * 5000 + b"}", "a number has 5,000 digits"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (b'{"messages": []}', "not an empty list"),
        (b'{"model": "a", "model": "b"}', "an object has 'model' twice"),
        (b'{"messages": ' + b"[" * 50_000, "values"),
        (b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper than 12"),
        (b'{"messages": ' + b"[" * 20 + b"]" * 20 + b"}", "nested deeper than 12"),
        (b'{"messages": [' + b"1," * 60_000 + b"1]}", "more than 50,000 values"),
    ],
)
def test_what_is_no_json_is_told(http, content, words):
    assert words in refused(http.post(CHAT, content=content))["message"]


def test_what_openai_ignores_or_does_by_default_is_taken(http):
    body = said(
        user="me",
        metadata={"a": "b"},
        store=False,
        tools=[],
        tool_choice="none",
        frequency_penalty=0,
        logit_bias={},
        response_format={"type": "text"},
        temperature=None,
        stop=None,
    )
    assert http.post(CHAT, json=body).status_code == 200


def test_samples_that_are_no_numbers_are_refused(http):
    sound = wave(0.5)
    sound[100] = np.nan
    file = io.BytesIO()
    soundfile.write(file, sound, 16_000, format="wav", subtype="FLOAT")
    error = refused(http.post(CHAT, json=user([audio_part(file.getvalue())])))
    assert "1 of its 8000 samples are not numbers" in error["message"]


def test_a_small_file_that_holds_much_sound_is_not_decoded(http):
    sound = np.zeros((20 * 96_000, 8), np.int16)
    sound[0] = 1
    data = encoded(sound, "flac", 96_000)
    assert len(data) < LIMITS.body_bytes // 10
    error = refused(http.post(CHAT, json=user([audio_part(data, "flac")])))
    assert "20.0 s with 8 channels of 96,000 Hz, which is more than" in error["message"]


def test_a_prompt_that_no_slot_holds_is_told(http):
    error = refused(http.post(CHAT, json=user("a" * 4000) | {"max_tokens": 100}))
    assert error["code"] == "context_length_exceeded"
    assert "4,096 are the most" in error["message"]
    del (body := user("a" * 4090))["max_tokens"]
    assert "4,096 together" in refused(http.post(CHAT, json=body))["message"]


def test_a_body_that_is_too_large_is_not_read(http):
    body = {"messages": asked("a" * LIMITS.body_bytes)}
    error = refused(http.post(CHAT, json=body), 413)
    assert "larger than 1 MiB" in error["message"]

    def pieces():  # whose length nobody tells
        for _ in range(20):
            yield b"a" * 100_000

    refused(http.post(CHAT, content=pieces()), 413)
    files = {"file": ("a.wav", bytes(LIMITS.body_bytes))}
    refused(http.post(WRITE, files=files), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("PUT", CHAT, 405),
        ("OPTIONS", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/", 405),
        ("GET", "/v1/embeddings", 404),
        ("POST", "/v1/audio/speech", 404),
        ("GET", "/v1/models/none", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/serve.py", 404),
        ("GET", "/page/main.js", 404),
        ("GET", "/v1/models/", 404),
    ],
)
def test_other_paths_and_methods(http, method, path, status):
    refused(http.request(method, path), status)


def test_forms_that_are_none(http):
    for options, words in (
        (dict(json={}), "the body must be multipart/form-data"),
        (dict(content=b"", headers={"Content-Type": "multipart/form-data"}), "boundary"),
        (
            dict(content=b"x", headers={"Content-Type": "multipart/form-data; boundary=a"}),
            "no form that can be read",
        ),
        (dict(files={"sound": ("a", CLIP)}), "sound: is sent as a file"),
        (dict(files={"model": (None, "tiny")}), "file: is missing"),
        (dict(files=[("file", ("a", CLIP)), ("file", ("b", CLIP))]), "Too many files"),
        (dict(files={"file": ("a", CLIP), "words": (None, "1")}), "words: is not an argument"),
        (dict(files={"file": ("a", CLIP), "stream": (None, "maybe")}), "stream: must be"),
        (dict(files=[("file", ("a", CLIP)), *2 * [("language", (None, "en"))]]), "twice"),
        (dict(files={"file": ("a", CLIP), "temperature": (None, "nan")}), "temperature: must"),
    ):
        assert words in refused(http.post(WRITE, **options))["message"]
    refused(http.post(WRITE, files={"file": ("a", CLIP), "model": (None, "whisper-1")}), 404)
