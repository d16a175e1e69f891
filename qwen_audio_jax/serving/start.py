"""From flags to a server: what they say is checked before a model is loaded."""

import argparse
import pathlib
import re
import socket

from qwen_audio_jax.inference.engine import Engine, EngineConfig
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.monitoring.progress_bar import bar
from qwen_audio_jax.serving.application import application
from qwen_audio_jax.serving.guard import digest, is_loopback
from qwen_audio_jax.serving.limits import Limits
from qwen_audio_jax.serving.served import Models, Served, sharing
from qwen_audio_jax.serving.server import serve
from qwen_audio_jax.serving.state import State
from qwen_audio_jax.training.start import use_compilation_cache

_NAME = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_SHORTEST_KEY = 8
_SHORTEST_CONTEXT = 64


def run(options: argparse.Namespace, key: str) -> None:
    """Loads and serves until a signal.

    Args:
        options: the flags of `serve`.
        key: the API key of the environment, or "".

    Raises:
        ValueError, OSError: one sentence on the flag, file or address, and the mend.
    """
    adapters = adapters_of(options.adapter)
    limits, config = limits_of(options), engine_of(options)
    keys = keys_of(options, key)
    if not keys and not is_loopback(options.host):
        raise ValueError(
            f"--host: {options.host} is reached from other machines, which needs an API key; set "
            "QWEN_AUDIO_API_KEY, or name a file that holds it with --api-key-file"
        )
    _check_address(options.host, options.port)
    use_compilation_cache("auto", pathlib.Path(), 1)
    print(f"loading {options.checkpoint}", flush=True)
    loaded = [load(options.checkpoint)]
    for folder in adapters.values():
        loaded.append(sharing(load(options.checkpoint, adapter=folder), loaded[0]))
    names = [loaded[0].name, *adapters]
    if names[0] in adapters:
        raise ValueError(f"--adapter: {names[0]!r} is the checkpoint's own name; take another")
    models = Models(
        [Served(name, one, Engine(one, config)) for name, one in zip(names, loaded, strict=True)]
    )
    programs = [one for served in models for one in served.engine.warm_ups()]
    for compile_program in bar(
        "compiling (kept for the next start)", len(programs), over=programs, stays=True
    ):
        compile_program()
    if not loaded[0].tuned and len(loaded) == 1:
        print(
            f"{names[0]} was not tuned on conversations: it transcribes, but its chat will ramble",
            flush=True,
        )
    state = State(models, limits, tuple(map(digest, keys)))
    app = application(state, options.host, options.allowed_host)
    print(f"models: {', '.join(names)}", flush=True)
    serve(app, state, options.host, options.port)


def adapters_of(given: list[str]) -> dict[str, pathlib.Path]:
    """Folders by name. Raises ValueError: a flag is not NAME=DIR, or a name comes twice."""
    found: dict[str, pathlib.Path] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        if not equals or not folder or not _NAME.fullmatch(name):
            raise ValueError(
                f"--adapter: {one!r} is not NAME=DIR, a name of letters, digits and . : _ -"
            )
        if name in found:
            raise ValueError(f"--adapter: {name!r} is given twice")
        if not pathlib.Path(folder).is_dir():
            raise ValueError(f"--adapter: {folder} is not a folder")
        found[name] = pathlib.Path(folder)
    return found


def keys_of(options: argparse.Namespace, key: str) -> list[str]:
    """All API keys, of flag, file and environment.

    Raises:
        ValueError: the file cannot be read or holds none, or a key is too short or has blanks in
            it.
    """
    keys = [one for one in (options.api_key, key.strip()) if one]
    if options.api_key_file:
        try:
            lines = options.api_key_file.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError:
            raise ValueError(f"--api-key-file: {options.api_key_file} is not text") from None
        except OSError as error:
            raise ValueError(
                f"--api-key-file: {options.api_key_file} cannot be read: {error.strerror}"
            ) from None
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise ValueError(f"--api-key-file: {options.api_key_file} holds no key")
        keys += found
    for one in keys:
        if len(one) < _SHORTEST_KEY or not one.isascii() or not one.isprintable() or " " in one:
            raise ValueError(
                f"an API key must have {_SHORTEST_KEY} ASCII characters at least and no blank; "
                "`openssl rand -hex 24` makes one"
            )
    return keys


def limits_of(options: argparse.Namespace) -> Limits:
    """Raises ValueError: one of them is out of its range."""
    _check("--queue", options.queue, 0, 100_000)
    _check("--max-tokens", options.max_tokens, 1, 1 << 20)
    _check("--max-audio-seconds", options.max_audio_seconds, 0.1, 3600)
    _check("--max-body-mb", options.max_body_mb, 0.001, 4096)
    _check("--max-answer-seconds", options.max_answer_seconds, 0.1, 86_400)
    return Limits(
        body_bytes=int(options.max_body_mb * 2**20),
        audio_seconds=options.max_audio_seconds,
        tokens=options.max_tokens,
        queue=options.queue,
        answer_seconds=options.max_answer_seconds,
    )


def engine_of(options: argparse.Namespace) -> EngineConfig:
    """Cache lengths double up to the context. Raises ValueError: a flag is out of its range."""
    _check("--slots", options.slots, 1, 1024)
    _check("--context", options.context, _SHORTEST_CONTEXT, 1 << 20)
    shorter = [n for n in EngineConfig().lengths if n < options.context]
    return EngineConfig(
        slots=options.slots, lengths=(*shorter, options.context), waiting=options.queue
    )


def _check(flag: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{flag}: must be from {least:,} to {most:,}, not {value}")


def _check_address(host: str, port: int) -> None:
    """Tells before the model is loaded what would be found out after it."""
    _check("--port", port, 0, 65_535)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise ValueError(
            f"--host, --port: {host}:{port} cannot be listened at ({error.strerror or error}); "
            "take another"
        ) from None
