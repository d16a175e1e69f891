"""The first stage of an evaluation: everything is planned, then what has no answer yet is asked."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, path_of, read_answers
from qwen_audio_jax.evaluation.asking import Question, digest
from qwen_audio_jax.evaluation.benchmarks import Benchmark, Item
from qwen_audio_jax.evaluation.controls import Control, controls_of, write_controls
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned, Window, right_text, write_plan
from qwen_audio_jax.evaluation.progress import Progress, answering
from qwen_audio_jax.evaluation.recordings import parts_of
from qwen_audio_jax.evaluation.selection import spread
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.monitoring.progress_bar import bar

Answers = Callable[[Sequence[Question]], Iterator[tuple[Progress, Answered]]]
"""Questions to (what has been done so far, an answer), in any order."""


class Asker(Protocol):
    """How a model is asked: `asking.Asking`, or `endpoint.Endpoint`."""

    most: int

    @property
    def told(self) -> dict[str, Any]:
        """What is told of the model."""

    def question(self, item: Item) -> Question:
        """The question of an item. Raises ValueError: it has none."""

    def is_message(self, item: Item) -> bool:
        """Whether an item is asked as a conversation, which may do without clips."""


def answer(
    folder: pathlib.Path,
    asker: Asker,
    benchmarks: Sequence[Benchmark],
    answers: Answers,
    limit: int = 0,
    process: tuple[int, int] = (0, 1),
    control_limit: int | None = None,
) -> Plan:
    """Plans an evaluation, and has answered what of it has no answer yet.

    Args:
        folder: of the evaluation; it may hold answers already.
        asker: how the model is asked.
        benchmarks: what is asked.
        answers: gives the answers; called if any is missing.
        limit: items of a benchmark at most, spread evenly over it; 0 is all.
        process: which of how many processes this is: each answers its share of the questions.
        control_limit: items of a benchmark at most that are asked under controls too, see
            `controls`; 0 is all, None asks none.

    Returns:
        The plan; all processes have the same.

    Raises:
        OSError: the folder cannot be written, or another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan, questions = plan_of(asker, benchmarks, limit)
    controls, more = [], []
    if control_limit is not None:
        controls, more = _planned_controls(asker, benchmarks, plan, control_limit)
    # The controls come last, so that their answers are all that an evaluation may still lack.
    each = list({one.key: one for one in [*questions, *more]}.values())
    # Opened first: the plan is not changed under another process that is still answering it.
    with contextlib.closing(AnswerFile(path_of(folder, *process))) as file:
        if process[0] == 0:
            write_plan(folder, plan)
            write_controls(folder, controls)
        answer_missing(folder, file, each, answers, process)
    return plan


def answer_missing(
    folder: pathlib.Path,
    file: AnswerFile,
    questions: Sequence[Question],
    answers: Answers,
    process: tuple[int, int] = (0, 1),
    *,
    quiet: bool = False,
) -> None:
    """Has those questions answered that have no answer yet.

    Args:
        folder: of the evaluation.
        file: where this process writes.
        questions: all of its plan.
        answers: gives the answers; called if any is missing.
        process: which of how many processes this is: each answers its share of the questions.
        quiet: whether no progress is shown.

    Raises:
        OSError: the folder cannot be written.
    """
    known = read_answers(folder)
    mine = questions[process[0] :: process[1]]
    missing = [one for one in mine if one.key not in known or known[one.key].finish == FAILED]
    if missing:
        for answered in answering(answers(missing), len(mine), len(missing), quiet=quiet):
            file.put(answered)


def plan_of(
    asker: Asker, benchmarks: Sequence[Benchmark], limit: int, *, quiet: bool = False
) -> tuple[Plan, list[Question]]:
    """The plan, and its questions, each once."""
    asked, items, questions = [], [], {}
    chosen = [spread(range(len(one.items)), limit) for one in benchmarks]
    with bar("reading what is asked", sum(map(len, chosen)), quiet=quiet) as shown:
        for benchmark, numbers in zip(benchmarks, chosen, strict=True):
            for number in numbers:
                planned, some = _planned(asker, benchmark.name, benchmark.items[number])
                items.append(planned)
                for one in some:
                    questions.setdefault(one.key, one)
                shown.update()
            asked.append(
                Asked(
                    benchmark.name,
                    benchmark.form,
                    benchmark.digest,
                    str(benchmark.path),
                    len(numbers),
                    len(benchmark.items) - len(numbers),
                    tuple((one.row, one.reason) for one in benchmark.left_out),
                )
            )
    decoding = {"search": "greedy", "repetition_penalty": 1.0, "most_tokens": asker.most}
    return Plan(asker.told, decoding, asked, items), list(questions.values())


def _planned(asker: Asker, benchmark: str, item: Item) -> tuple[Planned, list[Question]]:
    """An item as it is asked, and its questions: one, or one of each window."""
    planned = Planned(
        benchmark, item.id, item.task, item.annotation, choices=item.choices, rule=item.rule
    )
    try:
        parts = parts_of(item)
        questions = [asker.question(one) for one in ([part.item for part in parts] or [item])]
        audio = tuple(map(digest, item.clips())) if parts else questions[0].audio
    except (ValueError, OSError) as error:
        return dataclasses.replace(planned, failed=str(error)), []
    one, windows = questions[0], []
    key = one.key
    if parts:
        key = digest(json.dumps([question.key for question in questions]).encode())
        windows = [
            Window(question.key, part.samples, part.row)
            for question, part in zip(questions, parts, strict=True)
        ]
    told = {"key": key, "prompt": one.prompt, "audio": audio, "windows": tuple(windows)}
    right = one.reference or right_text(item.annotation)
    return dataclasses.replace(
        planned, reference=right, own_words=not one.reference, **told
    ), questions


def _planned_controls(
    asker: Asker, benchmarks: Sequence[Benchmark], plan: Plan, limit: int
) -> tuple[list[Control], list[Question]]:
    """The controls of a plan, and their questions."""
    made = []
    for benchmark in benchmarks:
        planned = {item.id: item for item in plan.items if item.benchmark == benchmark.name}
        pairs = [(item, planned[item.id]) for item in benchmark.items if item.id in planned]
        made += controls_of(benchmark, pairs, asker.is_message, limit)
    of, questions = plan_of(asker, [changed for *_, changed in made], 0)
    kinds = [(name, places) for name, places, changed in made for _ in changed.items]
    each = zip(kinds, of.items, strict=True)
    return [Control(name, places, item) for (name, places), item in each], questions
