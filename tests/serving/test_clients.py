"""Many clients at once, those that go away, and more than there is room for."""

import concurrent.futures
import contextlib
import dataclasses
import json
import socket
import time

import httpx
import pytest
from api_server import CONFIG, ENDLESS, LIMITS, TINY, asked, audio_part, encoded, running, state_of
from api_server import wave as noise

pytest_plugins = ("api_fixtures",)

CHAT = "/v1/chat/completions"


def body(number: int, tokens: int = 24) -> dict:
    """One of many requests, no two of which are alike."""
    parts: list = [f"Question {number}"]
    if number % 3:
        sound = noise(0.2 + number % 7 / 10, number)
        parts.insert(0, audio_part(encoded(sound, "flac"), "flac"))
    return {
        "model": (TINY, ENDLESS)[number % 2],
        "messages": asked(*parts),
        "max_tokens": 1 + (number * 7) % tokens,
        "temperature": (0, 0.9)[number // 2 % 2],
        "seed": number,
    }


def text_of(client: httpx.Client, number: int, stream: bool) -> str:
    """An answer, whole or put together of its pieces."""
    if not stream:
        return client.post(CHAT, json=body(number)).json()["choices"][0]["message"]["content"]
    text = ""
    with client.stream("POST", CHAT, json=body(number) | {"stream": True}) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                text += delta.get("content") or ""
    return text


def answered_as_alone(address: str, requests: int, connections: int) -> None:
    with httpx.Client(base_url=address, timeout=120) as client:
        alone = [text_of(client, number, False) for number in range(requests)]

    def one_connection(first: int) -> list[str]:
        with httpx.Client(base_url=address, timeout=120) as client:
            numbers = range(first, requests, connections)
            return [text_of(client, n, stream=n % 4 == 0) for n in numbers]

    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        found = list(pool.map(one_connection, range(connections)))
    together = [found[n % connections][n // connections] for n in range(requests)]
    assert together == alone
    assert len(set(alone)) > requests // 2


def test_each_is_answered_as_if_it_were_alone(api):
    answered_as_alone(api.address, requests=24, connections=8)


@pytest.mark.slow
def test_200_requests_over_20_connections(api):
    answered_as_alone(api.address, requests=200, connections=20)


def until(condition, seconds: float = 20.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def sent(server, **changes) -> socket.socket:
    """A connection on which an endless answer was asked for."""
    content = json.dumps(
        {"model": ENDLESS, "messages": asked("Hello"), "max_tokens": LIMITS.tokens} | changes
    ).encode()
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def idle(server) -> bool:
    statistics = server.engine(ENDLESS).statistics()
    return not statistics.running and not statistics.waiting


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_who_goes_away_frees_the_slot(api, stream):
    before = api.engine(ENDLESS).statistics().written
    connection = sent(api, stream=stream)
    assert until(lambda: api.engine(ENDLESS).statistics().written > before + 8)
    if stream:
        assert b"200 OK" in connection.recv(1 << 16)
    connection.close()
    assert until(lambda: idle(api))
    written = api.engine(ENDLESS).statistics().written - before
    assert written < LIMITS.tokens


def test_who_goes_away_while_waiting_is_forgotten(api):
    before = api.engine(ENDLESS).statistics().written
    running_ones = [sent(api, stream=True) for _ in range(CONFIG.slots)]
    assert until(lambda: api.engine(ENDLESS).statistics().running == CONFIG.slots)
    waiting = sent(api, stream=True)
    assert until(lambda: api.engine(ENDLESS).statistics().waiting == 1)
    waiting.close()
    assert until(lambda: api.engine(ENDLESS).statistics().waiting == 0)
    for connection in running_ones:
        connection.close()
    assert until(lambda: idle(api))
    assert api.engine(ENDLESS).statistics().written - before < CONFIG.slots * LIMITS.tokens


def test_who_goes_away_or_dawdles_while_sending_is_let_go(models):
    limits = dataclasses.replace(LIMITS, body_seconds=0.3, queue=0)
    with running(state_of(models, limits)) as server:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{{".encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head)
            told = b""
            while piece := connection.recv(1 << 16):
                told += piece
        assert told.startswith(b"HTTP/1.1 408")
        assert b"the body was not there after 0.3 s" in told
        with httpx.Client(base_url=server.address) as client:
            assert client.post(CHAT, json=body(2)).status_code == 200


def test_more_than_slots_and_queue_hold_are_told_so(models):
    state = state_of(models, dataclasses.replace(LIMITS, queue=1))
    with running(state) as server, contextlib.ExitStack() as stack:
        most = 2 * CONFIG.slots + 1
        for _ in range(most):
            stack.enter_context(sent(server, stream=True))
        assert until(lambda: state._inside == most)
        response = httpx.post(server.address + CHAT, json=body(1))
        assert response.status_code == 429
        assert response.json()["error"]["type"] == "rate_limit_error"
        assert int(response.headers["retry-after"]) > 0
        assert httpx.get(f"{server.address}/health").status_code == 200
        stack.close()
        assert until(lambda: httpx.post(server.address + CHAT, json=body(1)).status_code == 200)


def test_a_request_whose_choices_the_queue_cannot_hold_leaves_nothing(api):
    with contextlib.ExitStack() as stack:
        most = CONFIG.waiting + CONFIG.slots
        for _ in range(most // 8):
            stack.enter_context(sent(api, stream=True, n=8, temperature=1))
        waiting = most // 8 * 8 - CONFIG.slots
        assert until(lambda: api.engine(ENDLESS).statistics().waiting == waiting)
        response = httpx.post(api.address + CHAT, json=body(1) | {"n": 8}, timeout=60)
        assert response.status_code == 429
        assert until(lambda: api.engine(ENDLESS).statistics().waiting == waiting)
    assert until(lambda: idle(api))


def test_an_answer_that_takes_too_long_is_ended_and_told(models):
    with running(state_of(models, dataclasses.replace(LIMITS, answer_seconds=0.2))) as server:
        request = {"model": ENDLESS, "messages": asked("Hello"), "max_tokens": LIMITS.tokens}
        whole = httpx.post(server.address + CHAT, json=request, timeout=60)
        assert whole.status_code == 503
        assert whole.json()["error"]["code"] == "timeout"
        streamed = httpx.post(server.address + CHAT, json=request | {"stream": True}, timeout=60)
        assert streamed.status_code == 200
        *_, last = streamed.text.strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert until(lambda: idle(server))
