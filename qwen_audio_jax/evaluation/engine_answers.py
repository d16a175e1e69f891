"""Has the engine answer questions: prompts are prepared ahead, rows join and leave as they end."""

import collections
import concurrent.futures
import queue
from collections.abc import Callable, Iterator, Sequence

from data_pipelines.examples import Example
from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE
from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.asking import Asking, Question
from qwen_audio_jax.evaluation.progress import Progress
from qwen_audio_jax.inference.answers import FAILED, LENGTH, Answer, Request
from qwen_audio_jax.inference.engine import Engine, EngineConfig

_PREPARING = 2
"""Threads that decode clips."""

READ = 1 << 30
"""All slots have read their prompts before any writes on: nobody waits for one answer alone."""

_Ended = tuple[Question, Answer | None, str]
"""A question with its answer, or why there is none."""


def engine_answers(
    asking: Asking, questions: Sequence[Question], slots: int, context: int
) -> Iterator[tuple[Progress, Answered]]:
    """`answers` of an engine of its own.

    Args:
        asking: how the model is asked.
        questions: in the order in which they are begun.
        slots: answers at once.
        context: tokens of a prompt and its answer together. Where that leaves less room than a
            question's limit, an answer that has not ended by then has failed.
    """
    shorter = [length for length in EngineConfig.lengths if length < context]
    lengths = (*shorter, context)
    config = EngineConfig(slots, lengths, waiting=2 * slots, read=READ, greedy=True)
    engine = Engine(asking.loaded, config)
    try:
        yield from answers(asking, engine, questions)
    finally:
        engine.close()


def answers(
    asking: Asking, engine: Engine, questions: Sequence[Question]
) -> Iterator[tuple[Progress, Answered]]:
    """(what was done so far, an answer), each as soon as it is there.

    What a question is answered does not depend on the others: see `inference.engine`.

    Args:
        asking: how the model is asked.
        engine: of the same model, with room for as many requests to wait as it has slots.
        questions: in the order in which they are begun.
    """
    ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
    most, running, heard = 2 * engine.config.slots, 0, 0.0

    def next_one() -> tuple[Progress, Answered]:
        nonlocal heard
        question, answer, error = ended.get()
        if answer is not None:
            heard += _seconds(answer)
        return _progress(engine, heard), _answered(asking, question, answer, error)

    with concurrent.futures.ThreadPoolExecutor(_PREPARING, "preparing") as pool:
        for question, prepared in _ahead(pool, asking.example, questions, most):
            if running == most:
                yield next_one()
                running -= 1
            _submit(asking, engine, question, prepared, ended)
            running += 1
        for _ in range(running):
            yield next_one()


def _progress(engine: Engine, heard: float) -> Progress:
    of, compiled = engine.statistics(), engine.compiled
    shares = (
        ("the prompts' tokens", of.read_tokens, of.read_places),
        ("the clips' frames", of.frames, of.frame_places),
    )
    padding = tuple((what, 1 - used / given) for what, used, given in shares if given)
    return Progress(heard, len(compiled), sum(compiled.values()), padding)


def _ahead(
    pool: concurrent.futures.Executor,
    work: Callable[[Question], Example],
    questions: Sequence[Question],
    most: int,
) -> Iterator[tuple[Question, concurrent.futures.Future[Example]]]:
    waiting: collections.deque = collections.deque()
    for question in questions:
        waiting.append((question, pool.submit(work, question)))
        if len(waiting) > most:
            yield waiting.popleft()
    yield from waiting


def _submit(
    asking: Asking,
    engine: Engine,
    question: Question,
    prepared: concurrent.futures.Future[Example],
    ended: "queue.SimpleQueue[_Ended]",
) -> None:
    try:
        example = prepared.result()
        room = engine.config.lengths[-1] - len(example.text.tokens)
        limit = max(1, min(question.limit, room))
        answer = engine.submit(Request(example, asking.stop, limit))
    except ValueError as error:  # of a clip, or a prompt that no slot holds
        ended.put((question, None, str(error)))
        return
    answer.on_ids(lambda _, finish: finish and ended.put((question, answer, "")))


def _answered(asking: Asking, question: Question, answer: Answer | None, error: str) -> Answered:
    if answer is None:
        return Answered(question.key, "", FAILED, error=error)
    if answer.finish == FAILED:
        return Answered(question.key, "", FAILED, error=answer.error)
    if answer.finish == LENGTH and len(answer.ids) < question.limit:
        room, prompt = len(answer.ids), len(answer.request.example.text.tokens)
        error = (
            f"the prompt has {prompt:,} tokens, which leaves room for {room:,} of the "
            f"{question.limit:,} that the answer may have, and it did not end within these; raise "
            "config.context"
        )
        return Answered(question.key, "", FAILED, error=error)
    text = asking.loaded.tokenizer.decode(answer.ids)
    said = str(answer.finish), len(answer.ids)
    return Answered(question.key, text, *said, seconds=round(_seconds(answer), 2))


def _seconds(answer: Answer) -> float:
    """Of audio that was heard."""
    return sum(answer.request.example.clip_frames) * HOP / SAMPLE_RATE
