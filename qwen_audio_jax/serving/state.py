"""What the endpoints share: models, limits, and how much is going on."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import TypeVar

from qwen_audio_jax.serving.errors import busy, draining
from qwen_audio_jax.serving.limits import Limits
from qwen_audio_jax.serving.measures import Measures
from qwen_audio_jax.serving.served import Models

T = TypeVar("T")

_PREPARING = 2
"""Requests whose clips are decoded at once: each takes a core and the memory of its sound."""


@dataclasses.dataclass
class State:
    """One server's.

    Attributes:
        models: what it serves.
        limits: of requests.
        keys: digests of the API keys; nobody needs one if there are none.
        measures: what /metrics tells beside the engines' statistics.
        draining: whether it takes no more requests.
    """

    models: Models
    limits: Limits
    keys: tuple[bytes, ...] = ()
    measures: Measures = dataclasses.field(default_factory=Measures)
    draining: bool = False

    def __post_init__(self):
        slots = sum(one.engine.config.slots for one in self.models)
        self._most = slots + self.limits.queue
        self._inside = 0
        self._secret = secrets.token_bytes(16)
        self._preparing = concurrent.futures.ThreadPoolExecutor(_PREPARING, "preparing")

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts a request that is being read or answered.

        Raises:
            ApiError: as many as slots and queue hold are (429), or the server ends (503).
        """
        if self.draining:
            raise draining()
        if self._inside >= self._most:
            raise busy(f"{self._inside} requests are being answered or waiting already")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def drained(self) -> None:
        """Takes no more requests, and returns when those that were admitted have their answers."""
        self.draining = True
        while self._inside:
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Ends the engines, and with them whatever is being answered."""
        for one in self.models:
            one.engine.close()

    def talk(self, principal: str, cache_key: str) -> str:
        """The engine's name of a talk, whose slots are reused for its next turn; "" for none.

        A client names it by a key of its own choice; nobody else can name the same, as whose API
        key it came with is in the digest too. Without a key nothing is kept: what a prompt holds
        does not tell who sent it, and a prompt that is answered sooner since another client sent
        the same would tell of that.

        Args:
            principal: whom the API key belongs to.
            cache_key: `prompt_cache_key` of the request.
        """
        if not cache_key:
            return ""
        named = f"{len(principal)}:{principal}{cache_key}".encode()
        return hashlib.blake2b(named, key=self._secret, digest_size=16).hexdigest()

    async def prepared(self, work: Callable[[], T]) -> T:
        """What `work` gives, in a thread: decoding and log-mel would hold up all others."""
        return await asyncio.get_running_loop().run_in_executor(self._preparing, work)
