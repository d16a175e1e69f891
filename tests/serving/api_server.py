"""A server on a free port, its clients, and what they send."""

import base64
import contextlib
import io
import threading
from collections.abc import Iterator

import numpy as np
import openai
import soundfile

from qwen_audio_jax.inference.engine import Engine, EngineConfig
from qwen_audio_jax.serving.application import application
from qwen_audio_jax.serving.guard import digest
from qwen_audio_jax.serving.limits import Limits
from qwen_audio_jax.serving.served import Models
from qwen_audio_jax.serving.server import Server
from qwen_audio_jax.serving.state import State

LIMITS = Limits(body_bytes=1 << 20, body_seconds=5.0, audio_seconds=35.0, tokens=2048, queue=40)
CONFIG = EngineConfig(slots=3, lengths=(512, 4096), waiting=LIMITS.queue)
TINY, ENDLESS = "tiny", "endless"


class Running:
    """A server that listens, and its clients.

    Attributes:
        state: its state.
        port: where it is on this machine.
        address: the same as a URL.
    """

    def __init__(self, state: State, port: int):
        self.state, self.port = state, port
        self.address = f"http://127.0.0.1:{port}"

    def client(self, key: str = "none") -> openai.OpenAI:
        """OpenAI's client, which tries nothing twice."""
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key=key, max_retries=0, timeout=60)

    def engine(self, name: str = TINY) -> Engine:
        return self.state.models.find(name).engine


@contextlib.contextmanager
def running(state: State, **options) -> Iterator[Running]:
    """Serves until the block ends; the engines go on."""
    app = application(state, "127.0.0.1", **options)
    server = Server(app, state, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield Running(state, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.force_exit = server.should_exit = True
        thread.join()


def state_of(models: Models, limits: Limits = LIMITS, keys: tuple[str, ...] = ()) -> State:
    """A state of its own over engines that others use too."""
    return State(models, limits, tuple(map(digest, keys)))


def wave(seconds: float = 0.5, seed: int = 0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """Noise, float32 [n, channels]."""
    random = np.random.default_rng(seed)
    return (0.2 * random.standard_normal((round(seconds * rate), channels))).astype(np.float32)


def encoded(sound: np.ndarray, kind: str = "wav", rate: int = 16_000) -> bytes:
    """A waveform as a file."""
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=kind)
    return file.getvalue()


def audio_part(data: bytes, kind: str = "wav") -> dict:
    """A clip as a part of a message."""
    return {
        "type": "input_audio",
        "input_audio": {"data": base64.b64encode(data).decode(), "format": kind},
    }


def text_part(text: str) -> dict:
    return {"type": "text", "text": text}


def asked(*parts: dict | str) -> list[dict]:
    """A user's message of these parts."""
    return [{"role": "user", "content": [text_part(p) if isinstance(p, str) else p for p in parts]}]
