"""Keys, hosts and origins."""

import httpx
import pytest
from api_server import CONFIG, asked, running, state_of

from qwen_audio_jax.serving.guard import is_loopback

pytest_plugins = ("api_fixtures",)

BODY = {"messages": asked("Hello"), "max_tokens": 2}
CHAT, MODELS = "/v1/chat/completions", "/v1/models"
KEYS = ("a-first-key", "a-second-key")


@pytest.fixture(scope="module")
def locked(models):
    with (
        running(state_of(models, keys=KEYS)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        yield client


def header(value):
    return {"Authorization": value}


@pytest.mark.parametrize("path", [MODELS, "/metrics", "/v1/models/tiny", "/nothing"])
def test_without_a_key_nothing_is_told(locked, path):
    for headers in (
        {},
        header("Bearer"),
        header("Bearer a-third-key"),
        header("Bearer a-first-key2"),
        header("Bearer a-first-ke"),
        header("Basic a-first-key"),
        header("a-first-key"),
        [(b"authorization", b"Bearer \xff\xfe")],
    ):
        response = locked.get(path, headers=headers)
        assert response.status_code == 401, headers
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
        assert "tiny" not in response.text


def test_each_key_opens(locked):
    for key in KEYS:
        assert locked.get(MODELS, headers=header(f"Bearer {key}")).status_code == 200
        answer = locked.post(CHAT, json=BODY, headers=header(f"bearer {key}"))
        assert answer.status_code == 200
    assert locked.post(CHAT, json=BODY).status_code == 401


def test_the_page_and_health_are_open(locked):
    assert locked.get("/health").json() == {"status": "ok"}
    page = locked.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("[::1", 403),
        ("LOCALHOST:99", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("localhost.evil.example", 403),
        ("169.254.169.254", 403),
        ("", 403),
    ],
)
def test_a_name_that_was_pointed_here_is_refused(api, host, status):
    """What DNS rebinding does: a page of evil.example whose name now is 127.0.0.1."""
    response = httpx.get(api.address + MODELS, headers={"Host": host})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("http://127.0.0.1:1", 403),
        ("http://localhost:{port}", 403),
        ("https://evil.example", 403),
        ("http://evil.example:{port}", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_site_cannot_ask(api, origin, status):
    headers = {"Origin": origin.format(port=api.port), "Content-Type": "text/plain"}
    response = httpx.post(api.address + CHAT, json=BODY, headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_a_reverse_proxys_name_is_allowed(models):
    with running(state_of(models), allowed_hosts=("Audio.example",)) as server:
        for host, origin, status in (
            ("audio.example", "https://audio.example", 200),
            ("audio.example:443", None, 200),
            (f"127.0.0.1:{server.port}", "https://audio.example", 200),
            ("audio.example", "https://other.example", 403),
            ("other.example", None, 403),
        ):
            headers = {"Host": host} | ({"Origin": origin} if origin else {})
            assert httpx.get(server.address + MODELS, headers=headers).status_code == status


def test_loopback_is_known_in_every_spelling():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_measures_count_what_was_answered(api):
    def values():
        lines = httpx.get(f"{api.address}/metrics").text.splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    before = values()
    httpx.post(api.address + CHAT, json=BODY | {"model": "endless", "max_tokens": 7})
    httpx.post(api.address + CHAT, json={})
    after = values()

    def more(name):
        return float(after[name]) - float(before.get(name, 0))

    assert more('qwen_audio_tokens_written_total{model="endless"}') == 7
    assert more('qwen_audio_first_token_seconds_count{model="endless"}') == 1
    assert more('qwen_audio_first_token_seconds_bucket{model="endless",le="+Inf"}') == 1
    assert more('qwen_audio_responses_total{path="/v1/chat/completions",status="200"}') == 1
    assert more('qwen_audio_responses_total{path="/v1/chat/completions",status="400"}') == 1
    assert float(after['qwen_audio_slots{model="tiny"}']) == CONFIG.slots
    assert float(after['qwen_audio_slots_running{model="tiny"}']) == 0
