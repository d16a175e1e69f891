"""POST /v1/audio/transcriptions: the pre-training tasks asr and word_timestamps."""

import contextlib
import math
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from data_pipelines.examples import Example
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.inference.answers import Answer
from qwen_audio_jax.metrics.text import CHARACTER_LANGUAGES, base_language
from qwen_audio_jax.rendering.languages import language_name
from qwen_audio_jax.serving import clips, form, transcription_arguments
from qwen_audio_jax.serving.connection import EventStream, while_connected
from qwen_audio_jax.serving.errors import wrong
from qwen_audio_jax.serving.form import Form
from qwen_audio_jax.serving.served import Served
from qwen_audio_jax.serving.state import State
from qwen_audio_jax.serving.transcription_arguments import TEXT, VERBOSE, TranscriptionArguments
from qwen_audio_jax.serving.writing import Writing
from qwen_audio_jax.tasks import TASKS

_TASKS = {False: "asr", True: "word_timestamps"}
"""What is asked, by whether words' times are wanted."""


async def create(request: Request) -> Response | EventStream:
    """Writes down what is said in a clip."""
    state: State = request.app.state.serving
    until = request.state.until
    work = _begin(state, await form.read(request, state.limits))
    arguments, served, example, seconds, answer = await while_connected(
        request.receive, work, until
    )
    one = _Transcription(state, arguments, served, example, seconds, answer)
    if arguments.stream:
        return EventStream(one.events(), until, one.close)
    try:
        text = await while_connected(request.receive, one.text(), until)
    finally:
        one.close()
    if arguments.format == TEXT:
        return PlainTextResponse(f"{text}\n")
    return JSONResponse(one.verbose(text) if arguments.format == VERBOSE else one.plain(text))


async def _begin(
    state: State, sent: Form
) -> tuple[TranscriptionArguments, Served, Example, float, Answer]:
    """Reads a request and hands it to the engine; the clip's seconds with it."""

    def prepare() -> tuple[TranscriptionArguments, Served, Example, float]:
        arguments = transcription_arguments.read(sent.fields, state.limits.tokens)
        served = state.models.find(arguments.model)
        encoded = clips.Encoded(sent.file, "file")
        (wave,) = clips.decoded([encoded], state.limits.audio_seconds)
        return arguments, served, _prompt(served, arguments, wave), len(wave) / SAMPLE_RATE

    arguments, served, example, seconds = await state.prepared(prepare)
    limits = arguments.max_tokens, state.limits.tokens
    (answer,) = served.submit(example, *limits, arguments.sampling, [0])
    return arguments, served, example, seconds, answer


def _prompt(served: Served, arguments: TranscriptionArguments, wave: np.ndarray) -> Example:
    preprocessor = served.loaded.preprocessor
    seconds = len(wave) / SAMPLE_RATE
    if seconds > preprocessor.max_seconds:
        raise wrong(
            "file",
            f"it lasts {seconds:.1f} s, and the model hears {preprocessor.max_seconds:g} s at most",
            "audio_too_long",
        )
    if preprocessor.conditioning == "none":
        raise wrong("model", f"{served.name} was trained without prompts, and cannot be asked to")
    annotation: dict[str, Any] = {"text": "", "words": []}
    if arguments.language:
        annotation["language"] = arguments.language
    return preprocessor.question(_TASKS[arguments.words], annotation, [wave])[0]


class _Transcription:
    """What is written down, as OpenAI's objects."""

    def __init__(
        self,
        state: State,
        arguments: TranscriptionArguments,
        served: Served,
        example: Example,
        seconds: float,
        answer: Answer,
    ):
        self._state, self._arguments, self._served = state, arguments, served
        self._example, self._seconds = example, seconds
        self._tokenizer = served.loaded.tokenizer
        self._writing = Writing(answer, self._tokenizer, tags=False)

    def close(self) -> None:
        """Ends it if it is still being written."""
        self._writing.answer.cancel()

    async def text(self) -> str:
        """The text when it is there."""
        text = ""
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                text += piece
        return text

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """The text piece by piece, then whole."""
        text = ""
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                text += piece
                yield {"type": "transcript.text.delta", "delta": piece}
        yield {"type": "transcript.text.done"} | self.plain(text)

    async def _pieces(self) -> AsyncGenerator[str]:
        """The text without blanks at its ends."""
        begun, held = False, ""
        async with contextlib.aclosing(self._writing.pieces()) as pieces:
            async for piece in pieces:
                text = held + piece if begun else piece.lstrip()
                shown = text.rstrip()
                held = text[len(shown) :]
                if shown:
                    begun = True
                    yield shown
        self._state.measures.answered(self._served.name, self._writing.answer)

    def plain(self, text: str) -> dict[str, Any]:
        """The object of response_format=json."""
        audio = int((self._example.text.audio >= 0).sum())
        prompt, written = len(self._example.text.tokens), len(self._writing.ids)
        return {
            "text": text,
            "usage": {
                "type": "tokens",
                "input_tokens": prompt,
                "input_token_details": {"audio_tokens": audio, "text_tokens": prompt - audio},
                "output_tokens": written,
                "total_tokens": prompt + written,
            },
        }

    def verbose(self, text: str) -> dict[str, Any]:
        """The object of response_format=verbose_json."""
        said = TASKS[_TASKS[self._arguments.words]].parse(self._tokenizer.decode(self._writing.ids))
        language = self._arguments.language or said.get("language", "unknown")
        found: dict[str, Any] = {
            "task": "transcribe",
            "language": language_name(language).lower(),
            "duration": round(self._seconds, 3),
            "text": text,
            "usage": {"type": "duration", "seconds": math.ceil(self._seconds)},
        }
        if not self._arguments.words:
            return found
        words = said["words"]
        if words:
            between = "" if base_language(language) in CHARACTER_LANGUAGES else " "
            found["text"] = between.join(word["word"] for word in words)
        return found | {"words": words}
