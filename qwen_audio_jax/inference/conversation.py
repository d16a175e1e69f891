"""A conversation with a model: its history, and what is asked of the engine at each turn."""

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.examples import Example
from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames, windows
from qwen_audio_jax.inference.answers import CANCELLED, FAILED, Answer, Request, Usage
from qwen_audio_jax.inference.engine import Engine
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.prompt import check_clip, prompt_of, stop_ids
from qwen_audio_jax.inference.sampling import GREEDY, Sampling
from qwen_audio_jax.inference.text_stream import TextStream
from qwen_audio_jax.rendering import Tokens, chat
from qwen_audio_jax.rendering.chat import WINDOW, Message
from qwen_audio_jax.tasks.conversation import places
from qwen_audio_jax.text.control_tokens import IM_END

MAX_NEW_TOKENS = 512


@dataclasses.dataclass
class _Turn:
    """A user's message and its answer.

    Attributes:
        content: of the message: its parts.
        clips: of the message.
        ids: of the answer.
        text: of the answer.
    """

    content: list[dict[str, str]]
    clips: list[np.ndarray]
    ids: list[int] = dataclasses.field(default_factory=list)
    text: str = ""


def _turn_of(state: Mapping[str, Any], vocab_size: int) -> _Turn:
    """A turn as `Conversation.state` has it, without its clips."""
    content, ids, text = state["content"], state["ids"], state["text"]
    for part in content:
        if part["type"] not in ("text", "audio") or not isinstance(part.get("text", ""), str):
            raise ValueError(f"{str(part)[:60]} is neither text nor audio")
    if not isinstance(text, str) or not all(type(one) is int for one in ids):
        raise ValueError("'text' must be a text, and 'ids' whole numbers")
    if not all(0 <= one < vocab_size for one in ids):
        raise ValueError("its ids are of another vocabulary")
    return _Turn(content, [], ids, text)


class Reply:
    """An answer as text: iterate over it for pieces as they come.

    The history has the turn when it has ended, which is when the iteration has.

    Attributes:
        answer: its ids.
        text: so far.
        dropped: how many of the oldest turns the model no longer sees.
    """

    def __init__(
        self,
        answer: Answer,
        conversation: "Conversation",
        turn: _Turn,
        instead_of: _Turn | None,
        dropped: int,
    ):
        self.answer, self._conversation = answer, conversation
        self._turn, self._instead_of = turn, instead_of
        self.text, self.dropped = "", dropped
        self._pieces = self._stream()

    def __iter__(self) -> Iterator[str]:
        """Pieces of text. Raises RuntimeError, with a sentence, where the answer failed."""
        return self._pieces

    def _stream(self) -> Iterator[str]:
        stream = TextStream(self._conversation.loaded.tokenizer, tags=True)
        try:
            for token in self.answer:
                if piece := stream.push(token):
                    self.text += piece
                    yield piece
            if piece := stream.end():
                self.text += piece
                yield piece
        finally:
            if self.answer.finish is None:
                self.answer.cancel()
                self.answer.wait()
            self._conversation._ended(self.answer, self._turn, self._instead_of)

    def cancel(self) -> None:
        """Ends the answer; what came of it stays in the history."""
        self.answer.cancel()

    def read(self) -> str:
        """The whole text, once it is there."""
        for _ in self:
            pass
        return self.text

    @property
    def finish(self) -> str | None:
        """See `Answer`."""
        return self.answer.finish

    @property
    def usage(self) -> Usage:
        """See `Usage`."""
        return self.answer.usage


class Conversation:
    """A talk with a model, turn by turn.

    The prompt of a turn is, id for id, that of the turn before, its answer's ids, `<|im_end|>`, a
    newline and the new message; so what the engine's slot holds of it is not computed again.
    """

    def __init__(
        self, loaded: Loaded, engine: Engine, *, system: str | None = None, window: int = WINDOW
    ):
        """Args:
        loaded: the model.
        engine: that answers.
        system: the system message; the originals' if None.
        window: tokens of past turns that are kept, see `chat.recent`.
        """
        self.loaded, self._engine, self._window = loaded, engine, window
        self._system, self._turns = system, []
        self._talk = uuid.uuid4().hex
        self._open: Reply | None = None

    @property
    def system(self) -> str | None:
        """The system message; None for the originals'."""
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        if self._turns:
            raise ValueError("the system message stands before all turns; reset the conversation")
        self._system = text

    @property
    def messages(self) -> list[Message]:
        """All messages, those that the model no longer sees too."""
        return self._messages(self._turns)

    @property
    def clips(self) -> list[np.ndarray]:
        """Their clips, in order."""
        return [clip for turn in self._turns for clip in turn.clips]

    def say(
        self,
        parts: Sequence[str | np.ndarray],
        *,
        sampling: Sampling = GREEDY,
        seed: int = 0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> Reply:
        """Says something, and begins to answer it.

        Args:
            parts: text, and clips: float32 [samples] at 16 kHz.
            sampling, seed, max_new_tokens: see `Request`.

        Raises:
            ValueError: there is nothing in it, a clip cannot be heard, or it is too long.
            QueueFull, Closed: see `Engine.submit`.
        """
        content, clips = [], []
        for part in parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            else:
                clips.append(check_clip(part, self.loaded.preprocessor.max_seconds))
                content.append({"type": "audio"})
        if not clips and not any(part["text"].strip() for part in content):
            raise ValueError("there is nothing in the message; write something, or add a clip")
        return self._ask(_Turn(content, clips), sampling, seed, max_new_tokens)

    def again(
        self,
        *,
        sampling: Sampling = GREEDY,
        seed: int = 0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> Reply:
        """Answers the last message anew, in the place of its answer.

        Raises:
            ValueError: there is none.
        """
        self._finish()
        if not self._turns:
            raise ValueError("nothing was said yet")
        last = self._turns[-1]
        turn = _Turn(last.content, last.clips)
        return self._ask(turn, sampling, seed, max_new_tokens, instead_of=last)

    def undo(self) -> None:
        """Takes the last turn back. Raises ValueError if there is none."""
        self._finish()
        if not self._turns:
            raise ValueError("nothing was said yet")
        self._turns.pop()

    def reset(self) -> None:
        """Forgets all turns; the system message stays."""
        self._finish()
        self._turns = []
        self._talk = uuid.uuid4().hex

    def state(self) -> dict[str, Any]:
        """What `restored` needs beside the clips, as JSON types."""
        turns = [
            {"content": turn.content, "ids": turn.ids, "text": turn.text} for turn in self._turns
        ]
        return {"system": self._system, "turns": turns}

    @classmethod
    def restored(
        cls,
        state: Mapping[str, Any],
        clips: Sequence[np.ndarray],
        loaded: Loaded,
        engine: Engine,
        *,
        window: int = WINDOW,
    ) -> "Conversation":
        """A conversation as `state` and `clips` of another one were.

        Raises:
            ValueError: the state is not what `state` gives, or is of another vocabulary.
        """
        made = cls(loaded, engine, system=state.get("system"), window=window)
        turns = state.get("turns")
        if not isinstance(turns, list):
            raise ValueError("the conversation's 'turns' must be a list")
        for number, turn in enumerate(turns, start=1):
            try:
                made._turns.append(_turn_of(turn, loaded.tokenizer.vocab_size))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"turn {number}: is not one of a conversation ({error})") from None
        wanted = [places(made._messages([turn])[-2:]) for turn in made._turns]
        if sum(wanted) != len(clips):
            raise ValueError(
                f"{sum(wanted)} place{'s' * (sum(wanted) != 1)} for audio in the conversation, and "
                f"{len(clips)} clip{'s' * (len(clips) != 1)}"
            )
        most, left = loaded.preprocessor.max_seconds, list(clips)
        for turn, n in zip(made._turns, wanted, strict=True):
            turn.clips, left = [check_clip(clip, most) for clip in left[:n]], left[n:]
        return made

    def _messages(self, turns: Sequence[_Turn]) -> list[Message]:
        messages: list[Message] = []
        if self._system is not None:
            messages.append({"role": "system", "content": self._system})
        for turn in turns:
            messages += [
                {"role": "user", "content": turn.content},
                {"role": "assistant", "content": turn.text},
            ]
        return messages

    def _finish(self) -> None:
        """Ends an answer that nobody has read to its end."""
        if self._open is not None:
            self._open.cancel()
            with contextlib.suppress(RuntimeError):  # it failed, which nobody wanted to know
                self._open.read()

    def _ask(
        self,
        turn: _Turn,
        sampling: Sampling,
        seed: int,
        new: int,
        instead_of: _Turn | None = None,
    ) -> Reply:
        self._finish()
        before = self._turns if instead_of is None else self._turns[:-1]
        kept, dropped = self._recent([*before, turn])
        prompt = self._prompt(kept)
        # The window does not count the last message, and may be larger than a slot.
        while len(kept) > 1 and len(prompt.text.tokens) + new > self._engine.config.lengths[-1]:
            kept, dropped = kept[1:], dropped + 1
            prompt = self._prompt(kept)
        request = Request(prompt, stop_ids(self.loaded), new, sampling, seed, self._talk)
        answer = self._engine.submit(request)
        self._turns = [*before]
        self._open = Reply(answer, self, turn, instead_of, dropped)
        return self._open

    def _recent(self, turns: list[_Turn]) -> tuple[list[_Turn], int]:
        """(the turns that the model sees, how many it no longer does)."""
        preprocessor = self.loaded.preprocessor
        tokens = [
            sum(audio_tokens(mel_frames(n, preprocessor.frame_rounding)) for n in windows(len(c)))
            for turn in turns
            for c in turn.clips
        ]
        messages = self._messages(turns)[:-1]
        kept, _ = chat.recent(
            messages, self.loaded.tokenizer, self.loaded.family, tokens, self._window
        )
        dropped = (len(messages) - len(kept)) // 2
        return turns[dropped:], dropped

    def _prompt(self, turns: Sequence[_Turn]) -> Example:
        """The prompt, with the ids of answers as they were written."""
        messages = self._messages(turns)[:-1]
        empty = [m | {"content": ""} if m["role"] == "assistant" else m for m in messages]
        clips = [clip for turn in turns for clip in turn.clips]
        example = prompt_of(self.loaded, empty, clips)
        # Nothing but the structure has these ids. The first end is the system message's.
        ends = np.flatnonzero(example.text.tokens == self.loaded.tokenizer.special(IM_END))
        places_of_answers = ends[2::2]
        text = example.text
        for turn, place in reversed(list(zip(turns[:-1], places_of_answers, strict=True))):
            text = Tokens(
                np.insert(text.tokens, place, turn.ids),
                np.insert(text.loss_weights, place, np.zeros(len(turn.ids))),
                np.insert(text.audio, place, np.full(len(turn.ids), -1)),
            )
        return dataclasses.replace(example, text=text)

    def _ended(self, answer: Answer, turn: _Turn, instead_of: _Turn | None) -> None:
        """Takes a turn into the history; where no token came, what it was to replace stays."""
        self._open = None
        if answer.finish in (CANCELLED, FAILED) and not answer.ids:
            self._turns += [instead_of] if instead_of else []
            return
        stream = TextStream(self.loaded.tokenizer, tags=True)
        turn.ids = list(answer.ids)
        turn.text = "".join(map(stream.push, turn.ids)) + stream.end()
        self._turns.append(turn)
