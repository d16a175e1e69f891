"""From flags to the first line: streams, model, engine."""

import argparse
import contextlib
import functools
import pathlib
import sys
import threading

import numpy as np

from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.inference.answers import Request
from qwen_audio_jax.inference.engine import Engine, EngineConfig
from qwen_audio_jax.inference.loading import Loaded, load
from qwen_audio_jax.inference.prompt import prompt_of, stop_ids
from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.terminal import loops
from qwen_audio_jax.terminal.commands import COMMANDS
from qwen_audio_jax.terminal.questions import LANGUAGES, Questions
from qwen_audio_jax.terminal.screen import Screen
from qwen_audio_jax.terminal.session import Session, Settings
from qwen_audio_jax.text.control_tokens import IM_END, IM_START
from qwen_audio_jax.training.start import use_compilation_cache

_SEEDS = 1 << 31


def run(options: argparse.Namespace, screen: Screen) -> int:
    """Talks until the end of the lines.

    Args:
        options: of `chat`.
        screen: where all is shown.

    Returns:
        Exit status: 0, or 1 where a line of a file or a pipe could not be done.

    Raises:
        ValueError, OSError: it cannot begin; one sentence.
    """
    settings = _settings(options)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    use_compilation_cache("auto", pathlib.Path(), 1)
    with screen.waiting(f"reading the weights of {options.checkpoint}"):
        loaded = load(options.checkpoint, adapter=options.adapter)
    check_talks(loaded, options)
    config = EngineConfig(slots=1)
    if options.max_new_tokens >= config.lengths[-1]:
        raise ValueError(
            f"--max_new_tokens: {options.max_new_tokens:,} leaves no room for a question; prompt "
            f"and answer together have {config.lengths[-1]:,} tokens at most"
        )
    engine = Engine(loaded, config)
    try:
        questions = None
        if options.task:
            languages = {field: getattr(options, field) for field in LANGUAGES}
            questions = Questions(loaded, engine, options.task, languages)
        keyboard = None
        if screen.interactive:
            from qwen_audio_jax.terminal.keyboard import Keyboard

            keyboard = Keyboard({name: command.files for name, command in COMMANDS.items()})
        session = Session(loaded, engine, settings, screen, questions=questions, keyboard=keyboard)
        _greet(screen, loaded, questions)
        if screen.interactive:
            warm_up = functools.partial(_warm_up, loaded, engine, questions, settings)
            threading.Thread(target=warm_up, daemon=True).start()
            loops.talk(session)
            return 0
        return int(loops.answer_lines(session, sys.stdin.buffer) > 0)
    finally:
        with screen.waiting("ending"):
            engine.close()


def _warm_up(
    loaded: Loaded, engine: Engine, questions: Questions | None, settings: Settings
) -> None:
    """Has the programs of an answer compiled, or read, while the first line is being typed."""
    silence = np.zeros(SAMPLE_RATE, np.float32)
    # It fails where all answers will, which tell of it.
    with contextlib.suppress(ValueError, RuntimeError):
        if questions:
            words = "?" if questions.words else ""
            example = questions.example([silence] * questions.clips, words)
        else:
            message = {"role": "user", "content": [{"type": "audio"}]}
            example = prompt_of(loaded, [message], [silence])
        engine.submit(Request(example, stop_ids(loaded), 2, settings.sampling))


def _settings(options: argparse.Namespace) -> Settings:
    """How answers are written. Raises ValueError: a flag has no value that it may have."""
    try:
        sampling = Sampling(
            options.temperature, options.top_k, options.top_p, options.repetition_penalty
        )
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    if not 0 <= options.seed < _SEEDS:
        raise ValueError(f"--seed: {options.seed} is not a whole number from 0 up to {_SEEDS - 1}")
    if options.max_new_tokens < 1:
        raise ValueError(f"--max_new_tokens: {options.max_new_tokens} is not a number from 1 up")
    for field in LANGUAGES:
        if getattr(options, field) and not options.task:
            raise ValueError(f"--{field}: is told to a --task, and none is given; add --task=asr")
    return Settings(sampling, options.seed, options.max_new_tokens)


def check_talks(loaded: Loaded, options: argparse.Namespace) -> None:
    """Refuses a talk in a vocabulary without the tokens of one."""
    if not options.task and not {IM_START, IM_END} <= set(loaded.tokenizer.control_ids):
        raise ValueError(
            f"{options.checkpoint}: its vocabulary has no tokens for conversations, so "
            "it can only be asked what it was trained on; add --task, as --task=asr --language=en"
        )


def _greet(screen: Screen, loaded: Loaded, questions: Questions | None) -> None:
    if questions:
        clips = "clip" if questions.clips == 1 else f"{questions.clips} clips"
        typed = f" and the {questions.words}, typed" if questions.words else ""
        screen.note(f"{loaded.name}: {questions.task}; each question is a {clips}{typed}")
        return
    screen.note(f"{loaded.name}: {loaded.family}")
    if not loaded.tuned:
        screen.note(
            "This model was pre-trained and not tuned on conversations, so its answers may make "
            "little sense. Ask it a task, as --task=asr --language=en, or tune it first "
            "(configs/sft.py)."
        )
