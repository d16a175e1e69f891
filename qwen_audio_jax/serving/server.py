"""The process: listens, answers, and at SIGTERM lets running answers end."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import uvicorn
from starlette.applications import Starlette

from qwen_audio_jax.serving.state import State


class Server(uvicorn.Server):
    """Uvicorn's, which goes on listening while it drains: who asks is told that it ends (503)."""

    def __init__(self, app: Starlette, state: State, host: str, port: int):
        """Args: app: what is served. state: its state. host, port: where."""
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http="h11",
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._state = state
        self._signals = 0
        self._tasks: list[asyncio.Task] = []  # or they would be collected

    async def startup(self, sockets=None) -> None:
        """Begins to listen, and says where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"serving at http://{shown}:{port} (Ctrl-C ends it)", flush=True)

    def handle_exit(self, sig: int, frame) -> None:
        """The first signal drains; a second one ends the answers, a third the process."""
        self._signals += 1
        if self._signals == 1:
            self._state.draining = True
            name = signal.Signals(sig).name
            print(f"{name}: running answers end first; again to end them", flush=True)
            self._loop.call_soon_threadsafe(self._begin, self._drain())
        elif self._signals == 2:
            self._loop.call_soon_threadsafe(self._begin, asyncio.to_thread(self._state.close))
        else:
            self.should_exit = self.force_exit = True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._loop.create_task(work))

    async def _drain(self) -> None:
        await self._state.drained()
        self.should_exit = True


def serve(app: Starlette, state: State, host: str, port: int) -> None:
    """Serves until a signal, then ends the engines.

    Raises:
        OSError: the address cannot be listened at.
    """
    server = Server(app, state, host, port)
    try:
        server.run()
    finally:
        state.close()
