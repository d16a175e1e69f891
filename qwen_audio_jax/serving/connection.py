"""Work for a client, for as long as it is there and as the server allows."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from qwen_audio_jax.serving.errors import ApiError, overdue

T = TypeVar("T")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T], until: float) -> T:
    """What `work` gives, which is cancelled if the client goes or the time is over.

    Args:
        receive: of a request whose body has been read.
        work: what is done for it.
        until: when it has to be done, in the event loop's time.

    Raises:
        ClientDisconnect: the client has gone.
        ApiError: the time is over.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        left = max(until - asyncio.get_running_loop().time(), 0)
        await asyncio.wait({working, watching}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect if watching.done() else overdue()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """A response of server-sent events, one JSON object each.

    What goes wrong on the way is told in an event of its own, as OpenAI's clients read it.
    """

    def __init__(
        self,
        events: AsyncGenerator[dict[str, Any]],
        until: float,
        close: Callable[[], None],
        end: str = "",
    ):
        """Args:
        events: in order.
        until: when the last has to be sent, in the event loop's time.
        close: is called at the end, however it comes.
        end: `data` of a last event, if not "".
        """
        self._events, self._until, self._close, self._end = events, until, close, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it, as an application of ASGI."""
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store",
            "x-accel-buffering": "no",  # or nginx would collect it
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            await while_connected(receive, self._send(send), self._until)
        except ApiError as error:
            await _send_data(send, json.dumps(error.body()))
        except ClientDisconnect:
            return
        finally:
            self._close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._events):
            async for event in self._events:
                # In ASCII: some clients take U+2028 and the like for ends of lines.
                await _send_data(send, json.dumps(event))
        if self._end:
            await _send_data(send, self._end)


async def _send_data(send: Send, data: str) -> None:
    body = f"data: {data}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
