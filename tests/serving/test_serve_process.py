"""`python -m qwen_audio_jax.serve` as a process: curl, flags, keys, signals, memory."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import tiny_models
from api_server import asked, audio_part, encoded, wave

from qwen_audio_jax import serve, serving
from qwen_audio_jax.serving.clips import from_base64

COMMAND = [sys.executable, "-u", "-m", "qwen_audio_jax.serve"]
CHAT = "/v1/chat/completions"
KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.write_model(tmp_path_factory.mktemp("models") / "tiny", ending=0.0)


class Process:
    """A server in a process of its own.

    Attributes:
        process: it.
        address: where it is.
        said: its lines so far.
    """

    def __init__(self, process: subprocess.Popen):
        self.process, self.said = process, []
        self.address = ""
        found = threading.Event()

        def read():
            for line in process.stdout:
                self.said.append(line)
                if at := re.search(r"http://[\w.:\[\]]+", line):
                    self.address = at[0]
                    found.set()
            found.set()

        self._reading = threading.Thread(target=read)
        self._reading.start()
        found.wait(120)
        assert self.address, self.text()

    def text(self) -> str:
        return "".join(self.said)

    def ended(self) -> int:
        status = self.process.wait(60)
        self._reading.join()
        return status


@contextlib.contextmanager
def started(folder, *options, **environment):
    command = [*COMMAND, f"--checkpoint={folder}", "--port=0", "--context=1024", *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


def long_answer(address: str, headers: dict, pieces: list) -> threading.Thread:
    """Reads an answer of 800 tokens in a thread; its events go into `pieces`."""
    body = {"messages": asked("Hello"), "max_tokens": 800, "stream": True}

    def read():
        with httpx.stream(
            "POST", address + CHAT, json=body, headers=headers, timeout=120
        ) as response:
            pieces.extend(line for line in response.iter_lines() if line)

    thread = threading.Thread(target=read)
    thread.start()
    end = time.monotonic() + 60
    while not pieces and time.monotonic() < end:
        time.sleep(0.01)
    return thread


def test_curl_then_a_signal_that_lets_the_answer_end(folder, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\nanother-key-of-some\n")
    authorized = {"Authorization": f"Bearer {KEY}"}
    with started(folder, f"--api-key-file={file}", "--max-tokens=800") as server:
        assert (
            KEY
            not in subprocess.run(
                ["ps", "-o", "args=", "-p", str(server.process.pid)], capture_output=True, text=True
            ).stdout
        )
        sound = tmp_path / "sound.wav"
        sound.write_bytes(encoded(wave(0.5)))
        body = tmp_path / "body.json"
        body.write_text(
            json.dumps({"messages": asked(audio_part(sound.read_bytes())), "max_tokens": 5})
        )

        def curl(*arguments):
            command = ["curl", "-s", "-S", "-H", f"Authorization: Bearer {KEY}", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout

        if shutil.which("curl"):
            answer = json.loads(curl(server.address + CHAT, "-d", f"@{body}"))
            assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] == 12
            path = f"{server.address}/v1/audio/transcriptions"
            assert json.loads(curl(path, "-F", f"file=@{sound}"))["usage"]["type"] == "tokens"
            assert curl(f"{server.address}/v1/models").count('"id":"tiny"') == 1
        assert httpx.get(f"{server.address}/v1/models").status_code == 401

        pieces: list[str] = []
        thread = long_answer(server.address, authorized, pieces)
        server.process.send_signal(signal.SIGTERM)
        statuses = set()
        while 503 not in statuses and thread.is_alive():
            statuses.add(httpx.get(f"{server.address}/health").status_code)
        refused = httpx.post(server.address + CHAT, json={}, headers=authorized)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        thread.join()
        assert pieces[-1] == "data: [DONE]"
        assert json.loads(pieces[-2][6:])["choices"][0]["finish_reason"] == "length"
        assert server.ended() == 0
        assert "SIGTERM: running answers end first" in server.text()
        assert "Traceback" not in server.text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.address}/health")


@pytest.mark.slow
def test_a_second_signal_ends_at_once(folder):
    with started(folder, "--max-tokens=800") as server:
        pieces: list[str] = []
        thread = long_answer(server.address, {}, pieces)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        assert server.ended() == 0
        thread.join()
        assert json.loads(pieces[-1].removeprefix("data: "))["error"]["code"] == "draining"
        assert "Traceback" not in server.text()


def resident(pid: int) -> int:
    """Memory of a process in KiB."""
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.slow
def test_memory_stays_flat(folder):
    part = audio_part(encoded(wave(10.0), "flac"), "flac")
    with started(folder) as server, httpx.Client(base_url=server.address, timeout=60) as client:

        def ask(number):
            body = {"messages": asked(part, f"Question {number}"), "max_tokens": 8}
            options = {"prompt_cache_key": str(number)} if number % 2 else {}
            assert client.post(CHAT, json=body | options).status_code == 200

        for number in range(100):
            ask(number)
        before = resident(server.process.pid)
        for number in range(100, 400):
            ask(number)
        # A clip's waveform and log-mel are 1 MB: of 300 nothing stays.
        assert resident(server.process.pid) - before < 30_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checkpoint={0}/none"], "none: is not a folder"),
        (["--checkpoint={0}", "--host=0.0.0.0"], "--host: 0.0.0.0 is reached from other machines"),
        (["--checkpoint={0}", "--host=::"], "needs an API key"),
        (["--checkpoint={0}", "--port=70000"], "--port: must be from 0 to 65,535"),
        (["--checkpoint={0}", "--host=no.such.host.invalid"], "--host: no.such.host.invalid"),
        (["--checkpoint={0}", "--adapter=mine"], "--adapter: 'mine' is not NAME=DIR"),
        (["--checkpoint={0}", "--adapter=a b={0}"], "--adapter: 'a b="),
        (["--checkpoint={0}", "--adapter=a={0}", "--adapter=a={0}"], "'a' is given twice"),
        (["--checkpoint={0}", "--adapter=a={0}/none"], "none is not a folder"),
        (["--checkpoint={0}", "--api-key=short"], "8 ASCII characters at least"),
        (["--checkpoint={0}", "--api-key-file={0}/none"], "none cannot be read: No such file"),
        (["--checkpoint={0}", "--api-key-file={0}/empty"], "empty holds no key"),
        (["--checkpoint={0}", "--slots=0"], "--slots: must be from 1 to 1,024, not 0"),
        (["--checkpoint={0}", "--context=5"], "--context: must be from 64"),
        (["--checkpoint={0}", "--max-tokens=-1"], "--max-tokens: must be from 1"),
        (["--checkpoint={0}", "--max-body-mb=nan"], "--max-body-mb: must be from"),
    ],
)
def test_flags_that_cannot_be_are_told_in_a_sentence(tmp_path, capsys, options, words):
    (tmp_path / "empty").write_text("\n \n")
    status = serve.main([option.format(tmp_path) for option in options] + [])
    out, err = capsys.readouterr()
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert "serving at" not in out


def test_an_address_that_is_taken_is_told_before_the_model_is_loaded(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve.main([f"--checkpoint={tmp_path}", f"--port={port}"]) == 1
    out, err = capsys.readouterr()
    assert f"127.0.0.1:{port} cannot be listened at" in err
    assert "loading" not in out


def test_a_key_of_the_environment_opens_to_other_machines(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(serve.KEY_VARIABLE, KEY)
    assert serve.main([f"--checkpoint={tmp_path}/none", "--host=0.0.0.0", "--port=0"]) == 1
    assert "none: is not a folder" in capsys.readouterr().err


def test_a_package_that_is_missing_is_told(tmp_path, capsys, monkeypatch):
    for name in ("server", "start"):
        monkeypatch.delitem(sys.modules, f"qwen_audio_jax.serving.{name}", raising=False)
        monkeypatch.delattr(serving, name, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert serve.main([f"--checkpoint={tmp_path}"]) == 1
    assert capsys.readouterr().err == "error: uvicorn is missing; pip install -e '.[serve]'\n"


def test_base64_of_a_file_with_line_breaks_is_read():
    data = encoded(wave(0.2))
    assert from_base64(base64.encodebytes(data).decode(), "data", "wav").data == data
