"""A server that gives the page, and answers by a script: what the page makes of any answer."""

import asyncio
import collections
import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from qwen_audio_jax.serving.web_page import web_page


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server does when it is asked.

    Attributes:
        pieces: of text, each an event of its own.
        gate: what has to be set before anything comes behind the first piece.
        finish: why the answer ends; "" if the connection breaks off instead.
        status: of the response; not 200 for an error.
        body: the response's body if it is an error; a sentence for one in OpenAI's form.
        place: what of the request that sentence is about, "" if it does not say.
        failure: a sentence that is sent in mid-stream, behind the pieces.
    """

    pieces: Sequence[str] = ("Well ", "heard.")
    gate: threading.Event | None = None
    finish: str = "stop"
    status: int = 200
    body: str | bytes = ""
    place: str = ""
    failure: str = ""


class ScriptedServer:
    """The server; a test reads what it was asked and says what comes next.

    Attributes:
        script: the next answers; where it is empty, `Answer()`.
        asked: bodies of the questions that came.
        gone: how often a client left before the answer's end.
        key: the API key, "" for none.
        address: where it is, without a slash behind.
    """

    def __init__(self):
        self.script: collections.deque[Answer] = collections.deque()
        self.asked: list[dict] = []
        self.gone = 0
        self.key = ""
        self.models = {"all4": True, "poems": False}  # whether each is tuned
        self.address = ""
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
            ]
        )

    def _page(self, request: Request) -> Response:
        page = web_page()
        return Response(page.html, media_type="text/html", headers=page.headers)

    def _models(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        models = [{"id": name, "tuned": tuned} for name, tuned in self.models.items()]
        return JSONResponse({"object": "list", "data": models})

    def _refusal(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if not self.key or given == f"Bearer {self.key}":
            return None
        what = "wrong" if given else "missing"
        return _error(401, f"The API key is {what}.")

    async def _complete(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        self.asked.append(await request.json())
        answer = self.script.popleft() if self.script else Answer()
        if answer.status != 200:
            if isinstance(answer.body, str):
                return _error(answer.status, answer.body, answer.place)
            return Response(answer.body, answer.status)
        return StreamingResponse(self._events(answer), media_type="text/event-stream")

    async def _events(self, answer: Answer):
        try:
            yield _event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
            for piece in answer.pieces:
                yield _event({"choices": [{"delta": {"content": piece}, "finish_reason": None}]})
                while answer.gate and not answer.gate.is_set():
                    await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.gone += 1
            raise
        if answer.failure:
            yield _event({"error": {"message": answer.failure}})
        elif answer.finish:
            yield _event({"choices": [{"delta": {}, "finish_reason": answer.finish}]})
            yield _event({"choices": [], "usage": {"completion_tokens": len(answer.pieces)}})
            yield "data: [DONE]\n\n"
        else:
            await asyncio.sleep(0.2)  # or the browser drops what it has not read yet
            raise ConnectionAbortedError("as the script says")


def _error(status: int, sentence: str, place: str = "") -> Response:
    message = f"{place}: {sentence}" if place else sentence
    return JSONResponse({"error": {"message": message, "param": place or None}}, status)


def _event(content: dict) -> str:
    return f"data: {json.dumps(content)}\n\n"


@contextlib.contextmanager
def running() -> Iterator[ScriptedServer]:
    """A scripted server on a free port of this machine."""
    scripted = ScriptedServer()
    config = uvicorn.Config(scripted.app, port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    scripted.address = f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.force_exit = server.should_exit = True
        thread.join()
