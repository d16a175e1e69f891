"""Answers many requests at once."""

import collections
import dataclasses
import functools
import threading
import time

import jax
import numpy as np

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.inference.answers import (
    CANCELLED,
    FAILED,
    LENGTH,
    STOP,
    Answer,
    Closed,
    QueueFull,
    Request,
    Statistics,
    Usage,
)
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.parallel.sharding import place_rows, row_shards

__all__ = [
    "Answer",
    "Closed",
    "Engine",
    "EngineConfig",
    "QueueFull",
    "Request",
    "Statistics",
    "Usage",
]


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How much an engine takes on.

    Attributes:
        slots: answers written at once.
        lengths: cache lengths in tokens, ascending; a prompt and its answer fit into the last one.
        group: tokens that all slots write before the host looks at them.
        waiting: requests that may wait for a slot.
    """

    slots: int = 1
    lengths: tuple[int, ...] = (1024, 2048, 4096, 8192)
    group: int = 8
    waiting: int = 64


class Engine:
    """Answers requests; owns one thread, and may be used from any."""

    def __init__(self, loaded: Loaded, config: EngineConfig = EngineConfig()):
        self.loaded, self.config = loaded, config
        self._waiting: collections.deque[Answer] = collections.deque()
        self._changed = threading.Condition()
        self._open, self._running = True, 0
        self._statistics = Statistics(slots=config.slots)
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Answer:
        """Begins to answer.

        Raises:
            ValueError: no slot can hold it; one sentence.
            QueueFull: too many are waiting.
            Closed: it was drained or closed.
        """
        needed = len(request.example.text.tokens) + request.max_new_tokens
        if needed > self.config.lengths[-1]:
            raise ValueError(
                f"the prompt has {needed - request.max_new_tokens:,} tokens and the answer may have "
                f"{request.max_new_tokens:,}; together {self.config.lengths[-1]:,} are the most"
            )
        answer = Answer(request)
        with self._changed:
            if not self._open:
                raise Closed("no more requests are taken")
            if len(self._waiting) >= self.config.waiting + self.config.slots:
                raise QueueFull(f"{len(self._waiting)} requests are waiting already")
            self._waiting.append(answer)
            self._changed.notify_all()
        return answer

    def statistics(self) -> Statistics:
        """What it has done so far."""
        with self._changed:
            return dataclasses.replace(
                self._statistics,
                running=self._running,
                waiting=len(self._waiting),
                seconds=time.monotonic() - self._began,
            )

    def drain(self, seconds: float) -> bool:
        """Takes no more requests, and lets those that it has end; whether all have, in time."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting and not self._running, seconds)

    def close(self) -> None:
        """Ends at once: what is being answered is cancelled."""
        with self._changed:
            self._open = False
            for answer in self._waiting:
                answer.cancel()
            self._changed.notify_all()
        self._thread.join()

    def _work(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                if not self._waiting:
                    return
                answer = self._waiting.popleft()
                self._running = 1
            began = time.monotonic()
            try:
                self._answer(answer)
            except Exception as error:
                answer.put([], FAILED, f"the answer failed: {error}")
            with self._changed:
                s, u = self._statistics, answer.usage
                self._running = 0
                self._statistics = dataclasses.replace(
                    s,
                    answers=s.answers + 1,
                    written=s.written + len(answer.ids),
                    prompt_tokens=s.prompt_tokens + u.prompt_tokens,
                    clips_encoded=s.clips_encoded + u.clips_encoded,
                    busy_seconds=s.busy_seconds + time.monotonic() - began,
                )
                self._changed.notify_all()

    def _answer(self, answer: Answer):
        request = answer.request
        if answer.cancelled:
            answer.put([], CANCELLED)
            return
        example = request.example
        answer.usage = dataclasses.replace(answer.usage, clips_encoded=len(example.clips))
        tokens = -(-len(example.text.tokens) // 64) * 64
        frames = max(256, -(-sum(map(len, example.clips)) // 256) * 256)
        batch = empty_batch(
            row_shards(self.loaded.mesh), tokens, frames, self.loaded.preprocessor.mel_bins
        )
        fill_row(batch, 0, [example])
        with jax.set_mesh(self.loaded.mesh):
            placed = place_rows(batch, self.loaded.mesh)
            program = self._program(request.stop, request.max_new_tokens, request.sampling)
            seeds = np.full(len(batch["tokens"]), request.seed, np.int32)
            ids = np.asarray(program(self.loaded.parameters, placed, seeds=seeds))[0].tolist()
        for n, token in enumerate(ids):
            if answer.cancelled:
                answer.put([], CANCELLED)
                return
            if token in request.stop:
                answer.put([], STOP)
                return
            last = n + 1 == request.max_new_tokens
            answer.put([token], LENGTH if last else None)

    @functools.cache
    def _program(self, stop, new, sampling):
        return jax.jit(
            functools.partial(
                generate, self.loaded.graph, stop=stop, max_new_tokens=new, sampling=sampling
            )
        )
