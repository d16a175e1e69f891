"""One person's talk with a model: what is said to it, and what waits to be."""

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qwen_audio_jax.inference.answers import CANCELLED, LENGTH, Closed, QueueFull, Usage
from qwen_audio_jax.inference.conversation import Conversation
from qwen_audio_jax.inference.conversation import Reply as TalkReply
from qwen_audio_jax.inference.engine import Engine
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.inference.weights import weights_of
from qwen_audio_jax.terminal import talk_files
from qwen_audio_jax.terminal.clips import Clip
from qwen_audio_jax.terminal.interrupts import on_ctrl_c, without_echo
from qwen_audio_jax.terminal.questions import Questions
from qwen_audio_jax.terminal.questions import Reply as QuestionReply
from qwen_audio_jax.terminal.screen import Screen

if TYPE_CHECKING:  # it takes the extra [chat], and nobody types in a pipe
    from qwen_audio_jax.terminal.keyboard import Keyboard

_SEEDS = 1 << 31

Reply = TalkReply | QuestionReply


@dataclasses.dataclass(frozen=True)
class Settings:
    """How answers are written.

    Attributes:
        sampling: how each token is chosen.
        seed: of the first answer; each further one takes the next.
        max_new_tokens: of an answer.
    """

    sampling: Sampling
    seed: int
    max_new_tokens: int


class Session:
    """A talk, or questions of one task.

    Attributes:
        conversation: the talk.
        questions: what is asked instead of talking; None if nothing is.
        added: clips that go with the next message.
        screen: where all is shown.
        keyboard: None where nobody types.
    """

    def __init__(
        self,
        loaded: Loaded,
        engine: Engine,
        settings: Settings,
        screen: Screen,
        *,
        questions: Questions | None = None,
        keyboard: "Keyboard | None" = None,
    ):
        """Args: see the attributes, and `Settings`."""
        self.questions, self.screen, self.keyboard = questions, screen, keyboard
        self.conversation = Conversation(loaded, engine)
        self.added: list[Clip] = []
        self._loaded, self._engine, self._settings = loaded, engine, settings
        self._answers, self._file = 0, ""
        self._asked: tuple[Sequence[Clip], str] | None = None

    def add(self, clips: Sequence[Clip]) -> None:
        """Has clips go with the next message; where a task is asked without words, asks it."""
        self.added += clips
        for clip in clips:
            if clip.suspicion:
                self.screen.note(f"{clip.name}: {clip.suspicion}")
        if self.questions and not self.questions.words:
            if len(self.added) % self.questions.clips == 0:
                self.send("")
        elif self.keyboard:
            names = ", ".join(f"{clip.name} ({clip.seconds:.1f} s)" for clip in clips)
            self.screen.note(f"added {names}")

    def send(self, text: str) -> None:
        """Says something: the clips that were added, and the text.

        Raises:
            ValueError: it cannot be answered.
        """
        if self.questions:
            self._ask_all(text)
            return
        parts: list[str | np.ndarray] = [clip.wave for clip in self.added]
        parts += [text] if text else []
        before = len(self.conversation.messages)
        self._answer(lambda **how: self.conversation.say(parts, **how))
        if len(self.conversation.messages) > before:
            self.added = []

    def again(self) -> None:
        """Answers the last message, or question, anew.

        Raises:
            ValueError: there is none.
        """
        if self.questions and not self._asked:
            raise ValueError("nothing was asked yet")
        if self._settings.sampling.temperature == 0 and (self._asked or self.conversation.messages):
            self.screen.note(
                "the most likely words are the same each time; --temperature=0.7 draws among them"
            )
        if self.questions:
            self._ask(*self._asked)
        else:
            self._answer(lambda **how: self.conversation.again(**how))

    def undo(self) -> str:
        """Takes back the clip that was added last, or else the last turn; says which.

        Raises:
            ValueError: there is neither.
        """
        if self.added:
            return f"{self.added.pop().name} taken back"
        if self.questions:
            raise ValueError("no clip waits for its question; each question stands for itself")
        self.conversation.undo()
        return "the last turn is taken back"

    def reset(self) -> str:
        """Begins a new talk; says what went."""
        turns = sum(message["role"] == "user" for message in self.conversation.messages)
        self.added = []
        self.conversation.reset()
        self._file = ""
        forgotten = f"; {turns} turn{'s' * (turns != 1)} forgotten" if turns else ""
        return f"a new talk{forgotten}"

    def save(self, path: str) -> None:
        """Writes the talk to a file, in the place of the one that it was in before.

        Raises:
            TalkFileError: it cannot be written.
        """
        with self.screen.waiting("saving"):
            talk_files.save(
                path,
                self.conversation.state(),
                self.conversation.clips,
                self._model,
                replace=os.path.realpath(path) == self._file,
            )
        self._file = os.path.realpath(path)

    def load(self, path: str) -> None:
        """Goes on with the talk of a file.

        Raises:
            ValueError: it is none, is damaged, or is one with another model.
        """
        with self.screen.waiting("opening"):
            state, clips = talk_files.load(path, self._model)
            try:
                if not isinstance(state.get("system"), str | None):
                    raise ValueError("its system message is no text")
                restored = Conversation.restored(state, clips, self._loaded, self._engine)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}: is damaged ({error}); load another file") from None
        self.conversation, self.added = restored, []
        self._file = os.path.realpath(path)

    @functools.cached_property
    def _model(self) -> talk_files.Model:
        return talk_files.Model(self._loaded.name, weights_of(self._loaded))

    def _ask_all(self, words: str) -> None:
        """Asks a question of each clip, or of as many together as a question takes."""
        if not self.added:
            self.questions.example([], words)  # which says what is missing
        while self.added:
            clips = self.added[: self.questions.clips]
            if len(self.added) > len(clips):
                self.screen.note(", ".join(clip.name for clip in clips))
            reply = self._ask(clips, words)
            self.added = self.added[len(clips) :]
            if reply.finish == CANCELLED:
                break

    def _ask(self, clips: Sequence[Clip], words: str) -> Reply:
        waves = [clip.wave for clip in clips]
        reply = self._answer(lambda **how: self.questions.ask(waves, words, **how))
        self._asked = (clips, words)
        return reply

    def _answer(self, ask: Callable[..., Reply]) -> Reply:
        """Asks, and shows the answer as it comes.

        Args:
            ask: takes sampling, seed and max_new_tokens.
        """
        how = dataclasses.asdict(self._settings) | {
            "sampling": self._settings.sampling,
            "seed": (self._settings.seed + self._answers) % _SEEDS,
        }
        waiting = "listening" if self.added else "reading"
        if not self._answers:
            waiting += " (the first answer waits for programs to be compiled or read)"
        replies: list[Reply] = []
        stopped = threading.Event()

        def stop():
            stopped.set()
            for reply in replies:
                reply.cancel()

        with contextlib.ExitStack() as stack:
            if self.keyboard:
                stack.enter_context(without_echo())
                stack.enter_context(on_ctrl_c(stop))
            try:
                replies.append(ask(**how))
                if stopped.is_set():  # before there was anything to cancel
                    replies[0].cancel()
                self.screen.pieces(iter(replies[0]), waiting)
            except (QueueFull, Closed, RuntimeError) as error:
                raise ValueError(str(error)) from None
        self._answers += 1
        self._tell(replies[0])
        return replies[0]

    def _tell(self, reply: Reply) -> None:
        """Speed, and whatever else is to be known of an answer."""
        told = [speed(reply.usage, len(reply.answer.ids))]
        if reply.finish == CANCELLED:
            told.append("stopped" if reply.answer.ids else "stopped before a word came: not kept")
        if reply.finish == LENGTH:
            told.append(f"cut at --max_new_tokens={self._settings.max_new_tokens}")
        if dropped := getattr(reply, "dropped", 0):
            turns = "turn" if dropped == 1 else f"{dropped} turns"
            told.append(f"the model no longer sees the first {turns}")
        self.screen.note(" · ".join(filter(None, told)))


def speed(usage: Usage, tokens: int) -> str:
    """Time to the first token, and tokens per second from there on."""
    if not tokens:
        return ""
    told = f"first token after {usage.first_token_seconds:.2f} s · {tokens} token"
    told += "s" * (tokens != 1)
    if tokens > 1 and usage.seconds > usage.first_token_seconds:
        rate = (tokens - 1) / (usage.seconds - usage.first_token_seconds)
        told += f" · {rate:.1f} tokens/s"
    return told
