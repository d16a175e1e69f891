"""Answers many requests at once, and reads of each prompt only what is new in its talk.

There are a few slots, rows of one cache. A request takes a free one, in which it may find the
beginning of its prompt: its talk's turns before. What follows is read in pieces, its new clips
pass through the encoder, and between two pieces all slots that have read theirs write some tokens
together. So rows come and go while others write, and each is computed as if it were alone.

In Qwen-Audio keys are rotated by an angle that depends on the length of the prompt where that is
beyond its trained length (`language_model.ntk_alpha`). A slot that was filled with another angle
is of no use, and its prompt is read from the start.
"""

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

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
from qwen_audio_jax.inference.compiled import STOPS, Rows
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.programs import PIECES, Programs, frames_for, piece_of
from qwen_audio_jax.inference.sampling import GREEDY
from qwen_audio_jax.inference.slots import Prompt, Slot, choose_slot
from qwen_audio_jax.models.language_model import ntk_alpha

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

LARGEST_GROUP = 64
"""Of steps: the smallest part of a cache has room for what is written in them."""


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How much an engine takes on.

    Attributes:
        slots: answers written at once. Each has a cache of the largest length.
        lengths: in tokens, ascending. A step reads of the caches what lies before the first of
            them that holds all that is being written. A prompt and its answer fit into the last.
        group: tokens that all slots write before the host looks at them.
        waiting: requests that may wait for a slot.
        read: tokens that are read of prompts, at least and if there are, before others write on.
            More let answers wait for one another, and leave fewer slots without one to write.
        greedy: whether every request takes the likeliest tokens; its programs compile faster.

    Raises:
        ValueError: a number is out of its range.
    """

    slots: int = 1
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)
    group: int = 8
    waiting: int = 64
    read: int = 512
    greedy: bool = False

    def __post_init__(self):
        for name, least in (("slots", 1), ("group", 1), ("waiting", 0), ("read", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is below {least}")
        if self.group > LARGEST_GROUP:
            raise ValueError(f"group: {self.group} is above {LARGEST_GROUP}")
        if list(self.lengths) != sorted({*self.lengths}) or not self.lengths or self.lengths[0] < 1:
            raise ValueError(f"lengths: {self.lengths} are not numbers above 0 that ascend")


class Engine:
    """Answers requests; owns one thread, and may be used from any."""

    def __init__(self, loaded: Loaded, config: EngineConfig = EngineConfig()):
        """Args:
        loaded: the model.
        config: see there.
        """
        self.loaded, self.config = loaded, config
        self._slots = [Slot(row) for row in range(config.slots)]
        self._rows = Rows.none(config.slots)
        self._waiting: collections.deque[tuple[Answer, Prompt]] = collections.deque()
        self._changed = threading.Condition()
        self._open, self._ending, self._running, self._ended = True, False, 0, 0
        self._statistics = Statistics(slots=config.slots)
        self._began = time.monotonic()
        with jax.set_mesh(loaded.mesh):
            self._programs = Programs(loaded, config.slots, config.lengths, config.greedy)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def warm_ups(self) -> list[Callable[[], object]]:
        """Calls that compile each program, before the first request; without them the first that
        needs a program waits for it.
        """
        return [self._on_mesh(one) for one in self._programs.warm_ups(self.config.group)]

    def _on_mesh(self, work: Callable[[], object]) -> Callable[[], object]:
        def run():
            with jax.set_mesh(self.loaded.mesh):
                work()

        return run

    def submit(self, request: Request) -> Answer:
        """Begins to answer.

        Raises:
            ValueError: no slot can hold it, or it cannot be answered; one sentence.
            QueueFull: as many as may are waiting.
            Closed: the engine was drained or closed.
        """
        self._check(request)
        answer, prompt = Answer(request), Prompt.of(request.example)
        with self._changed:
            if not self._open:
                raise Closed("the engine is closed and takes no more requests")
            free = self.config.slots - self._running
            if len(self._waiting) >= self.config.waiting + free:
                raise QueueFull(f"{len(self._waiting)} requests are waiting already; try again")
            self._waiting.append((answer, prompt))
            self._changed.notify_all()
        return answer

    def _check(self, request: Request) -> None:
        prompt, new, most = len(request.example.text.tokens), request.max_new_tokens, self.config
        if prompt < 1 or new < 1:
            raise ValueError(
                f"the prompt has {prompt} tokens and the answer may have {new}; one is the fewest"
            )
        if prompt + new > most.lengths[-1]:
            raise ValueError(
                f"the prompt has {prompt:,} tokens and the answer may have {new:,}; together "
                f"{most.lengths[-1]:,} are the most"
            )
        if not 1 <= len(request.stop) <= STOPS:
            raise ValueError(f"stop: {len(request.stop)} ids end the answer; 1 to {STOPS} may")
        if most.greedy and request.sampling != GREEDY:
            raise ValueError(f"sampling: {request.sampling} is not greedy, as this engine is")
        if not -(1 << 31) <= request.seed < 1 << 31:
            raise ValueError(f"seed: {request.seed} is no whole number of 32 bits")

    def statistics(self) -> Statistics:
        """What it has done so far."""
        with self._changed:
            return dataclasses.replace(
                self._statistics,
                running=self._running,
                waiting=len(self._waiting),
                seconds=time.monotonic() - self._began,
            )

    @property
    def compiled(self) -> dict[tuple[str, int], float]:
        """Seconds that compiling took, by program and shape: see `Programs`."""
        return dict(self._programs.compiled)

    def drain(self, seconds: float) -> bool:
        """Takes no more requests, and lets those that it has end; whether all have, in time."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting and not self._running, seconds)

    def close(self) -> None:
        """Ends at once: what is being answered, or waits for it, is cancelled."""
        with self._changed:
            self._open, self._ending = False, True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        with jax.set_mesh(self.loaded.mesh):
            while self._wait():
                began = time.monotonic()
                try:
                    self._round()
                except Exception as error:  # whatever JAX has: the thread must go on
                    self._fail(error)
                self._count(busy_seconds=time.monotonic() - began)

    def _wait(self) -> bool:
        """Waits for something to do; whether there may be more."""
        with self._changed:
            self._changed.wait_for(lambda: self._running or self._waiting or not self._open)
            return self._running > 0 or bool(self._waiting) or self._open

    def _round(self) -> None:
        """Ends what was cancelled, begins what can be, reads some pieces, writes a group."""
        self._end_cancelled()
        while begun := self._next():
            self._begin(*begun)
        left = self.config.read
        while left > 0 and (reading := [slot for slot in self._slots if slot.reading]):
            left -= self._read(min(reading, key=lambda slot: slot.answer.number))
        if self._rows.running.any():
            self._write()

    def _end_cancelled(self) -> None:
        for slot in self._slots:
            if slot.answer and (self._ending or slot.answer.cancelled):
                self._end(slot, [], CANCELLED)
        with self._changed:
            gone = [a for a, _ in self._waiting if self._ending or a.cancelled]
            self._waiting = collections.deque(p for p in self._waiting if p[0] not in gone)
        for answer in gone:
            self._note(answer, [], CANCELLED)

    def _next(self) -> tuple[Answer, Prompt, Slot] | None:
        """The request that has waited longest, and a slot for it."""
        with self._changed:
            if not self._waiting:
                return None
            slot = choose_slot(self._slots, self._waiting[0][0].request.talk)
            if slot is None:
                return None
            answer, prompt = self._waiting.popleft()
            slot.answer, slot.prompt = answer, prompt
            self._running += 1
        return answer, prompt, slot

    def _begin(self, answer: Answer, prompt: Prompt, slot: Slot) -> None:
        """Cuts a slot back to what a request finds in it."""
        request, rows, row = answer.request, self._rows, slot.row
        answer.number = self._ended = self._ended + 1
        if slot.talk != request.talk or not request.talk:
            slot.forget()
        rotation = self._rotation(len(prompt.tokens))
        reused = slot.reusable(prompt, rotation)
        slot.talk, slot.rotation = request.talk, rotation
        slot.content = slot.content[:reused]
        slot.heard = {
            digest: slot.heard[digest] for digest in prompt.digests if digest in slot.heard
        }
        answer.usage = dataclasses.replace(answer.usage, reused_tokens=reused)
        self._count(prompt_tokens=len(prompt.tokens), reused_tokens=reused)
        rows.positions[row], rows.lengths[row] = reused, len(prompt.tokens)
        rows.steps[row], rows.limits[row] = 0, request.max_new_tokens
        rows.stops[row] = -1
        rows.stops[row, : len(request.stop)] = request.stop
        rows.sampling.put(row, request.sampling, request.seed)
        self._programs.mark(row, prompt.tokens)

    def _rotation(self, length: int) -> float:
        decoder = self.loaded.model.decoder
        if not decoder.dynamic_ntk:
            return 1.0
        return float(ntk_alpha(jnp.int32(length), decoder.trained_length))

    def _read(self, slot: Slot) -> int:
        """Reads a piece of a prompt, or has clips encoded that it needs; how many tokens of it."""
        prompt, start = slot.prompt, len(slot.content)
        n = min(len(prompt.tokens) - start, PIECES[-1])
        needed = [
            clip
            for clip in prompt.clips_of(start, start + n)
            if prompt.digests[clip] not in slot.heard
        ]
        if needed:
            return self._encode(slot, needed)
        audio, D = prompt.audio[start : start + n], self.loaded.model.decoder.width
        heard = np.zeros((n, D), self._programs.audio_dtype)
        for clip in prompt.clips_of(start, start + n):
            first, end = prompt.first_audio[clip : clip + 2]
            here = (audio >= first) & (audio < end)
            heard[here] = slot.heard[prompt.digests[clip]][audio[here] - first]
        tokens, rows = prompt.tokens[start : start + n], self._rows
        token = self._programs.read(
            slot.row, start, tokens, heard, audio >= 0, len(prompt.tokens), rows.sampling
        )
        self._count(read_tokens=n, read_places=piece_of(n))
        slot.content += prompt.content[start : start + n].tolist()
        rows.positions[slot.row] = start + n
        if token is not None:
            rows.running[slot.row] = True
            self._take(slot, [token])
        return n

    def _encode(self, slot: Slot, clips: list[int]) -> int:
        """Has some clips encoded, each sound once; how many audio tokens come of them."""
        prompt, answer = slot.prompt, slot.answer
        new = {prompt.digests[clip]: prompt.clips[clip] for clip in clips}
        some = list(new.items())[: self._programs.together()]
        made = self._programs.encode([clip for _, clip in some])
        slot.heard |= {digest: tokens for (digest, _), tokens in zip(some, made, strict=True)}
        encoded = answer.usage.clips_encoded + len(some)
        answer.usage = dataclasses.replace(answer.usage, clips_encoded=encoded)
        frames = [len(mel) for _, (mel, _, _) in some]
        self._count(
            clips_encoded=len(some),
            frames=sum(frames),
            frame_places=self._programs.together() * frames_for(max(frames)),
        )
        return sum(map(len, made))

    def _write(self) -> None:
        """Some tokens of all answers that are being written."""
        written = self._programs.write(self._rows, self.config.group)
        for slot in self._slots:
            if not self._rows.running[slot.row]:
                continue
            ids = [token for token in written[slot.row].tolist() if token >= 0]
            slot.content += [slot.last, *ids[:-1]]
            self._rows.positions[slot.row] += len(ids)
            self._take(slot, ids)

    def _take(self, slot: Slot, ids: list[int]) -> None:
        """More tokens of an answer, of which the slot holds all but the last."""
        request, row = slot.answer.request, slot.row
        slot.last = ids[-1]
        self._rows.steps[row] += len(ids)
        if slot.last in request.stop:
            self._end(slot, ids[:-1], STOP)
        elif self._rows.steps[row] == request.max_new_tokens:
            self._end(slot, ids, LENGTH)
        else:
            slot.answer.put(ids)
            self._count(written=len(ids))

    def _end(self, slot: Slot, ids: list[int], finish: str, error: str = "") -> None:
        """Frees a slot, which keeps what it holds for its talk's next turn."""
        answer, row = slot.answer, slot.row
        self._rows.running[row] = False
        self._rows.sampling.temperature[row] = 0
        self._ended += 1
        slot.answer, slot.prompt, slot.used_at = None, None, self._ended
        if not slot.talk:
            slot.forget()
        with self._changed:
            self._running -= 1
        self._note(answer, ids, finish, error)

    def _note(self, answer: Answer, ids: list[int], finish: str, error: str = "") -> None:
        self._count(answers=1, written=len(ids))
        answer.put(ids, finish, error)
        with self._changed:
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        """Ends all that is being answered, as the arrays of all slots are lost."""
        told = " ".join(str(error).split())[:300] or type(error).__name__
        logging.warning("answers failed: %s", told)
        sentence = f"the answer could not be computed ({told})"
        for slot in self._slots:
            slot.forget()
            if slot.answer:
                self._end(slot, [], FAILED, sentence)
        try:
            self._programs.forget()
        except Exception:  # there is no room for a cache any more
            with self._changed:
                self._open, gone = False, [answer for answer, _ in self._waiting]
                self._waiting.clear()
            for answer in gone:
                self._note(answer, [], FAILED, sentence)

    def _count(self, **more: float) -> None:
        with self._changed:
            before = self._statistics
            added = {name: getattr(before, name) + value for name, value in more.items()}
            self._statistics = dataclasses.replace(before, **added)
