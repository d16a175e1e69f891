"""POST /v1/chat/completions."""

import asyncio
import contextlib
import dataclasses
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from data_pipelines.examples import Example
from qwen_audio_jax.inference.answers import Answer
from qwen_audio_jax.inference.conversation import prompt_of
from qwen_audio_jax.serving import body, chat_arguments, clips
from qwen_audio_jax.serving.chat_arguments import SEEDS, ChatArguments
from qwen_audio_jax.serving.connection import EventStream, while_connected
from qwen_audio_jax.serving.errors import wrong
from qwen_audio_jax.serving.served import Served
from qwen_audio_jax.serving.state import State
from qwen_audio_jax.serving.writing import Writing
from qwen_audio_jax.text.control_tokens import IM_END, IM_START


async def create(request: Request) -> Response | EventStream:
    """Answers a conversation."""
    state: State = request.app.state.serving
    until = request.state.until
    work = _begin(state, await body.whole(request, state.limits), request.state.principal)
    arguments, served, example, answers = await while_connected(request.receive, work, until)
    completion = _Completion(state, arguments, served, example, answers)
    if arguments.stream:
        return EventStream(completion.chunks(), until, completion.close, end="[DONE]")
    try:
        return JSONResponse(await while_connected(request.receive, completion.whole(), until))
    finally:
        completion.close()


async def _begin(
    state: State, data: bytes, principal: str
) -> tuple[ChatArguments, Served, Example, list[Answer]]:
    """Reads a request and hands it to the engine."""

    def prepare() -> tuple[ChatArguments, Served, Example]:
        arguments = chat_arguments.read(body.parse_object(data), state.limits)
        served = state.models.find(arguments.model)
        waves = clips.decoded(arguments.clips, state.limits.audio_seconds)
        example = _prompt(served, arguments, waves)
        # The files are not kept while the answer waits and is written.
        return dataclasses.replace(arguments, messages=[], clips=[]), served, example

    arguments, served, example = await state.prepared(prepare)
    answers = served.submit(
        example,
        arguments.max_tokens,
        state.limits.tokens,
        arguments.sampling,
        [(arguments.seed + n) % SEEDS for n in range(arguments.choices)],
        state.talk(principal, arguments.cache_key),
    )
    return arguments, served, example, answers


def _prompt(served: Served, arguments: ChatArguments, waves: Sequence[np.ndarray]) -> Example:
    known = served.loaded.tokenizer.control_ids
    if not {IM_START, IM_END} <= set(known):
        raise wrong(
            "model",
            f"{served.name} has no tokens for conversations; tune it on some (configs/sft.py), or "
            "ask it through /v1/audio/transcriptions",
        )
    try:
        return prompt_of(served.loaded, arguments.messages, waves)
    except ValueError as error:
        raise wrong("messages", str(error)) from None


class _Completion:
    """The answers to one request, as OpenAI's objects."""

    def __init__(
        self,
        state: State,
        arguments: ChatArguments,
        served: Served,
        example: Example,
        answers: Sequence[Answer],
    ):
        self._state, self._arguments, self._served = state, arguments, served
        self._example = example
        tokenizer = served.loaded.tokenizer
        self._writings = [Writing(answer, tokenizer, arguments.stops) for answer in answers]
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())

    def close(self) -> None:
        """Ends what is still being written."""
        for writing in self._writings:
            writing.answer.cancel()

    async def whole(self) -> dict[str, Any]:
        """The answers when they are there."""
        texts = [""] * len(self._writings)
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for number, piece in pieces:
                texts[number] += piece
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": writing.finish,
            }
            for number, (text, writing) in enumerate(zip(texts, self._writings, strict=True))
        ]
        return self._object("chat.completion", choices) | {"usage": self._usage()}

    async def chunks(self) -> AsyncGenerator[dict[str, Any]]:
        """The answers piece by piece."""
        for number in range(len(self._writings)):
            yield self._chunk(number, {"role": "assistant", "content": "", "refusal": None})
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for number, piece in pieces:
                if piece:
                    yield self._chunk(number, {"content": piece})
                else:
                    yield self._chunk(number, {}, self._writings[number].finish)
        if self._arguments.include_usage:
            yield self._object("chat.completion.chunk", []) | {"usage": self._usage()}

    async def _pieces(self) -> AsyncGenerator[tuple[int, str]]:
        """(number of the answer, piece of its text) as they come; its last piece is ""."""
        queue: asyncio.Queue[tuple[int, str, BaseException | None]] = asyncio.Queue()

        async def read(number: int, writing: Writing) -> None:
            fault = None
            try:
                async with contextlib.aclosing(writing.pieces()) as pieces:
                    async for piece in pieces:
                        queue.put_nowait((number, piece, None))
            except Exception as error:
                fault = error
            self._state.measures.answered(self._served.name, writing.answer)
            queue.put_nowait((number, "", fault))

        tasks = [asyncio.ensure_future(read(*one)) for one in enumerate(self._writings)]
        try:
            left = len(tasks)
            while left:
                number, piece, fault = await queue.get()
                if fault:
                    raise fault
                left -= not piece
                yield number, piece
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._served.name,
            "choices": choices,
        }

    def _chunk(
        self, number: int, delta: dict[str, Any], finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._arguments.include_usage else {}
        return self._object("chat.completion.chunk", [choice]) | usage

    def _usage(self) -> dict[str, Any]:
        prompt = len(self._example.text.tokens)
        written = sum(len(writing.ids) for writing in self._writings)
        reused = self._writings[0].answer.usage.reused_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {
                "cached_tokens": reused,
                "audio_tokens": int((self._example.text.audio >= 0).sum()),
            },
        }
