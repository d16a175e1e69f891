"""An answer of the engine as text in asyncio: piece by piece, up to a stop string."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from qwen_audio_jax.inference.answers import FAILED, LENGTH, STOP, Answer
from qwen_audio_jax.inference.text_stream import TextStream
from qwen_audio_jax.serving.errors import ApiError, draining
from qwen_audio_jax.serving.stops import Stops
from qwen_audio_jax.text.tokenizer import Tokenizer


class Writing:
    """One answer while it is written.

    Attributes:
        answer: the engine's.
        ids: those that the text is of; the engine may have written some more behind a stop string.
        finish: "stop" or "length" at its end.
    """

    def __init__(
        self,
        answer: Answer,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        *,
        tags: bool = True,
    ):
        """Args:
        answer: on its way.
        tokenizer: the vocabulary.
        stops: strings that end it.
        tags: whether times and other tags are part of the text, see `TextStream`.
        """
        self.answer = answer
        self.ids: list[int] = []
        self.finish = ""
        self._text, self._stops = TextStream(tokenizer, tags=tags), Stops(stops)

    async def pieces(self) -> AsyncGenerator[str]:
        """The text, once; whoever stops iterating, or is cancelled, ends the answer.

        Raises:
            ApiError: it failed, or the server ended.
        """
        queue: asyncio.Queue[tuple[list[int], str | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(ids: list[int], finish: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody reads
                loop.call_soon_threadsafe(queue.put_nowait, (ids, finish))

        try:
            self.answer.on_ids(put)
            end = None
            while not end:
                ids, end = await queue.get()
                piece = self._push(ids, last=end is not None)
                if piece:
                    yield piece
                if self._stops.found:
                    self.finish = STOP
                    return
            self.finish = self._finish(end)
        finally:
            self.answer.cancel()

    def _push(self, ids: Sequence[int], *, last: bool) -> str:
        """What is new of the text with some more ids."""
        text = ""
        for token in ids:
            self.ids.append(token)
            text += self._stops.push(self._text.push(token))
            if self._stops.found:
                return text
        if last:
            text += self._stops.push(self._text.end()) + self._stops.end()
        return text

    def _finish(self, end: str) -> str:
        if end == FAILED:
            raise ApiError(500, self.answer.error)
        if end not in (STOP, LENGTH):
            raise draining()
        return end
