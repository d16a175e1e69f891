"""Has a model behind OpenAI's HTTP API answer, whoever serves it."""

import base64
import dataclasses
import io
import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import soundfile

from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.asking import Question, digest
from qwen_audio_jax.evaluation.benchmarks import Item
from qwen_audio_jax.evaluation.openai_server import ILL_REPLY, Server, each_at_once, in_words
from qwen_audio_jax.evaluation.progress import Progress
from qwen_audio_jax.evaluation.recordings import with_limit
from qwen_audio_jax.inference.answers import FAILED, STOP
from qwen_audio_jax.rendering import render
from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.rendering.spans import Span
from qwen_audio_jax.tasks import CHAT

KEY_VARIABLE = "QWEN_AUDIO_API_KEY"
_PATIENCE = 600.0
_LIMITING = ("qwen-audio-jax", "vllm")
"""Owners of models, as servers name them, whose transcripts may be limited; others refuse to."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A model behind an address.

    Attributes:
        address: as "http://127.0.0.1:8000/v1".
        model: its name there.
        most: tokens of an answer at most, whatever a benchmark says; 0 is no limit.
        limits_transcripts: whether the server takes a limit of transcripts too.
    """

    address: str
    model: str
    most: int = 0
    limits_transcripts: bool = False

    @classmethod
    def of(cls, address: str, model: str = "", most: int = 0) -> "Endpoint":
        """Asks the server what it serves; takes the first model if none is named.

        Raises:
            ValueError: there is no such server or model; one sentence.
        """
        endpoint = cls(address.rstrip("/"), model, most)
        model, owner = endpoint.server.chosen(model, "--model")
        return dataclasses.replace(endpoint, model=model, limits_transcripts=owner in _LIMITING)

    @property
    def server(self) -> Server:
        """Who is asked."""
        return Server(self.address, "--endpoint", KEY_VARIABLE, _PATIENCE)

    @property
    def told(self) -> dict[str, Any]:
        """What is told of the model."""
        return {"name": self.model, "endpoint": self.address}

    def question(self, item: Item) -> Question:
        """As `Asking.question`; what is served under the name is not told by the key.

        Raises:
            ValueError: a clip cannot be read, or the item cannot be put in words.
        """
        spans, reference = self._prompt(item)
        clips = item.clips()
        heard = 1 + max((span.clip for span in spans), default=-1)
        if len(clips) < heard:
            raise ValueError(f"has {len(clips)} clips for {heard} places of its prompt")
        audio = tuple(map(digest, clips[:heard]))
        limit = with_limit(item).limit
        limit = min(limit, self.most or limit)
        written_down = item.task == "asr" and not _in_words(item)
        language = str(item.annotation.get("language") or "") if written_down else None
        asked = [self.address, self.model, _parts(spans, [""] * heard), audio, limit, language]
        key = digest(json.dumps(asked).encode())
        return Question(key, tuple(spans), item.clips, audio, reference, limit, language=language)

    def is_message(self, item: Item) -> bool:
        """Whether an item is asked in words of its own, and not in those of a task."""
        return item.task == CHAT or bool(item.messages)

    def _prompt(self, item: Item) -> tuple[Sequence[Span], str]:
        if item.messages:
            return [span for span in item.spans if span.text or span.clip >= 0], ""
        if item.task == CHAT:
            return self._single_turn(item.annotation["messages"])
        if _in_words(item):
            return item.spans, ""
        prompt, label = render(item.task, item.annotation, "prompts")
        spans = [span for span in prompt if span.text or span.clip >= 0]
        return spans, "".join(span.text for span in label)

    def _single_turn(self, messages: Sequence[Message]) -> tuple[Sequence[Span], str]:
        *before, said, answer = messages
        if before or said["role"] != "user":
            raise ValueError("a conversation of several turns is not asked over an endpoint")
        parts = said["content"]
        if isinstance(parts, str):
            parts = [{"type": "text", "text": parts}]
        numbers = itertools.count()
        spans = [
            Span(clip=next(numbers)) if part["type"] == "audio" else Span(text=part["text"])
            for part in parts
        ]
        return spans, str(answer["content"])

    def answers(
        self, questions: Sequence[Question], at_once: int
    ) -> Iterator[tuple[Progress, Answered]]:
        """(what was heard so far, an answer), each as soon as it is there.

        Raises:
            ConnectionError: the server does not answer any more; what is answered stays.
        """
        heard = 0.0
        for seconds, answered in each_at_once(self._answered, questions, at_once):
            heard += seconds
            yield Progress(heard), answered

    def _answered(self, question: Question) -> tuple[float, Answered]:
        try:
            waves = [decode(clip) for clip in question.clips()[: len(question.audio)]]
            seconds = sum(map(len, waves)) / SAMPLE_RATE
            text, finish, tokens = self._asked(question, list(map(_wav, waves)))
        except ConnectionError:
            raise
        except ILL_REPLY as error:
            return 0.0, Answered(question.key, "", FAILED, error=in_words(error))
        return seconds, Answered(question.key, text, finish, tokens, seconds=round(seconds, 2))

    def _asked(self, question: Question, clips: Sequence[bytes]) -> tuple[str, str, int]:
        if question.language is not None:
            fields = {"model": self.model, "response_format": "json", "temperature": "0"}
            if question.language:
                fields["language"] = question.language
            if self.limits_transcripts:
                fields["max_completion_tokens"] = str(question.limit)
            return json.loads(self._posted_form(fields, clips[0]))["text"], STOP, 0
        encoded = [base64.b64encode(clip).decode() for clip in clips]
        content = _parts(question.spans, encoded)
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": question.limit,
        }
        return self.server.completion(body)

    def _posted_form(self, fields: dict[str, str], clip: bytes) -> bytes:
        boundary = uuid.uuid4().hex
        named = [(name, "", value.encode()) for name, value in fields.items()]
        lines = b""
        for name, file, value in [*named, ("file", '; filename="clip.wav"', clip)]:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
            lines += head.encode() + value + b"\r\n"
        lines += f"--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return self.server.posted("/audio/transcriptions", lines, kind)


def _in_words(item: Item) -> bool:
    """Whether its list writes out its prompt, and that without control tokens."""
    return bool(item.spans) and not any(span.tag for span in item.spans)


def _wav(wave: np.ndarray) -> bytes:
    """A clip as a WAV file that is the same to the bit: of 16 bits where they suffice."""
    file = io.BytesIO()
    whole = np.array_equal(np.round(wave * 32768), wave * 32768) and np.abs(wave).max() < 1
    subtype = "PCM_16" if whole else "FLOAT"
    soundfile.write(file, wave, SAMPLE_RATE, format="WAV", subtype=subtype)
    return file.getvalue()


def _parts(spans: Sequence[Span], clips: Sequence[str]) -> list[dict[str, Any]]:
    """A message's parts, clips as WAV in base64."""
    return [
        {"type": "input_audio", "input_audio": {"data": clips[span.clip], "format": "wav"}}
        if span.clip >= 0
        else {"type": "text", "text": span.text}
        for span in spans
    ]
