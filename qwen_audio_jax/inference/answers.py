"""What the engine is asked, and what it answers."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator

from data_pipelines.examples import Example
from qwen_audio_jax.inference.sampling import GREEDY, Sampling

STOP, LENGTH, CANCELLED, FAILED = "stop", "length", "cancelled", "failed"


class QueueFull(RuntimeError):
    """As many requests as may wait are waiting."""


class Closed(RuntimeError):
    """The engine takes no more requests."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        example: the whole prompt: tokens, and log-mel of its clips.
        stop: ids that end the answer, one at least.
        max_new_tokens: how many tokens are written at most.
        sampling: how each is chosen.
        seed: what its draws depend on, beside the number of the token.
        talk: what slots hold of the prompt is reused among requests of one talk alone; that of a
            request without one is forgotten at its end.
    """

    example: Example
    stop: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = GREEDY
    seed: int = 0
    talk: str = ""


@dataclasses.dataclass(frozen=True)
class Usage:
    """What an answer took.

    Attributes:
        prompt_tokens: of the whole prompt, audio tokens too.
        reused_tokens: those of them that the slot held already.
        clips_encoded: windows of up to 30 s that went through the encoder.
        first_token_seconds: from `submit` to the first token; 0 before it.
        seconds: from `submit` to the last; 0 before the end.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    clips_encoded: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0


class Answer:
    """An answer on its way: iterate over it for its ids as they come, from any thread.

    Attributes:
        ids: those so far, without the one that ended it.
        finish: None while it is on its way; then "stop" (an id of `stop`), "length" (the most that
            were asked for), "cancelled" or "failed".
        error: one sentence, where it failed.
        usage: see `Usage`.
        cancelled: whether somebody has ended it.
        number: of its turn among all that have got a slot.
    """

    def __init__(self, request: Request):
        self.request = request
        self.ids: list[int] = []
        self.finish: str | None = None
        self.error = ""
        self.usage = Usage(len(request.example.text.tokens))
        self.cancelled = False
        self.number = 0
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self._callback: Callable[[list[int], str | None], None] | None = None

    def cancel(self) -> None:
        """Ends it as it is, soon; nothing happens where it has ended."""
        self.cancelled = True

    def on_ids(self, callback: Callable[[list[int], str | None], None]) -> None:
        """Has `callback(new ids, finish)` called whenever there are some, and once with the finish.

        It is called in the engine's thread, which it must not keep waiting; the first time here, if
        there is something already.
        """
        with self._changed:
            self._callback = callback
            if self.ids or self.finish:
                callback(list(self.ids), self.finish)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end; whether it has come."""
        with self._changed:
            return self._changed.wait_for(lambda: self.finish is not None, timeout)

    def __iter__(self) -> Iterator[int]:
        """The ids, from the first one on.

        Raises:
            RuntimeError: it failed; the text is `error`.
        """
        given = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda given=given: len(self.ids) > given or self.finish)
                new, finish = self.ids[given:], self.finish
            yield from new
            given += len(new)
            if finish and given == len(self.ids):
                break
        if finish == FAILED:
            raise RuntimeError(self.error)

    def put(self, ids: list[int], finish: str | None = None, error: str = "") -> None:
        """More ids, or the end; called by the engine alone."""
        seconds = time.monotonic() - self._began
        with self._changed:
            if ids and not self.ids:
                self.usage = dataclasses.replace(self.usage, first_token_seconds=seconds)
            self.ids += ids
            if finish:
                self.finish, self.error = finish, error
                self.usage = dataclasses.replace(self.usage, seconds=seconds)
            self._changed.notify_all()
            if self._callback is not None and (ids or finish):
                try:
                    self._callback(ids, finish)
                except Exception as error:  # of whoever listens: other answers must go on
                    logging.warning("an answer is no longer listened to: %s", error)
                    self._callback = None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What an engine has done since it began, and is doing.

    Attributes:
        slots: how many there are.
        running: answers that are being written or whose prompt is being read.
        waiting: requests that no slot was free for.
        answers: ended, however they did.
        written: tokens.
        prompt_tokens, reused_tokens: see `Usage`; of all answers together.
        clips_encoded: likewise.
        read_tokens, read_places: of prompts that were read, and what programs had room for.
        frames, frame_places: of log-mel that was encoded, likewise.
        seconds: since it began.
        busy_seconds: of these, in which it had something to do.
    """

    slots: int = 0
    running: int = 0
    waiting: int = 0
    answers: int = 0
    written: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    clips_encoded: int = 0
    read_tokens: int = 0
    read_places: int = 0
    frames: int = 0
    frame_places: int = 0
    seconds: float = 0.0
    busy_seconds: float = 0.0
