"""A judge whose replies a test writes, behind a real socket."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator

NAME = "maker/judge-7b"
HANG, CLOSE, NO_JSON, GONE = "hang", "close", "no JSON", "gone"

Script = Callable[[str, int], "str | int | tuple[str, str]"]
"""Of a prompt and how often it came before: a reply, a status, or ("fault", one of the above)."""


class ScriptedJudge:
    """What it is asked is in `prompts`, in order; `most_at_once` is how many came together.

    Once it is gone, nothing has a reply any more.
    """

    def __init__(self, script: Script):
        self.script = script
        self.prompts: list[str] = []
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.is_gone = False
        self._now = 0
        self._lock = threading.Lock()

    def asked(self, prompt: str, body: dict, key: str | None):
        with self._lock:
            before = self.prompts.count(prompt)
            if self.is_gone:
                return "fault", CLOSE
            self.prompts.append(prompt)
            self.bodies.append(body)
            self.keys.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.script(prompt, before)
        finally:
            with self._lock:
                self._now -= 1


@contextlib.contextmanager
def served(script: Script) -> Iterator[tuple[str, ScriptedJudge]]:
    """(address, judge) until the block ends."""
    judge = ScriptedJudge(script)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not judge.is_gone:
                models = {"data": [{"id": NAME}, {"id": "other"}]}
                self._send(200, json.dumps(models).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            said = judge.asked(prompt, body, self.headers["Authorization"])
            if isinstance(said, int):
                self._send(said, json.dumps({"error": {"message": "too much"}}).encode())
            elif said == ("fault", HANG):
                time.sleep(1.0)
            elif said == ("fault", NO_JSON):
                self._send(200, b"<html>")
            elif said == ("fault", GONE):
                judge.is_gone = True
            elif said != ("fault", CLOSE):
                message = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
                self._send(200, json.dumps(message).encode())

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *told: object) -> None:
            del told

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", judge
        finally:
            server.shutdown()
            thread.join()
