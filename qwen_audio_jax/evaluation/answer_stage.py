"""The first stage of an evaluation: everything is planned, then what has no answer yet is asked."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from tqdm import tqdm

from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, path_of, read_answers
from qwen_audio_jax.evaluation.asking import Question
from qwen_audio_jax.evaluation.benchmarks import Benchmark, Item
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned, write_plan
from qwen_audio_jax.evaluation.selection import spread
from qwen_audio_jax.inference.answers import FAILED

Answers = Callable[[Sequence[Question]], Iterator[tuple[float, Answered]]]
"""Questions to (seconds that were heard so far, an answer), in any order."""


class Asker(Protocol):
    """How a model is asked: `asking.Asking`, or `endpoint.Endpoint`."""

    most: int

    @property
    def told(self) -> dict[str, Any]:
        """What is told of the model."""

    def question(self, item: Item) -> Question:
        """The question of an item. Raises ValueError: it has none."""


def answer(
    folder: pathlib.Path,
    asker: Asker,
    benchmarks: Sequence[Benchmark],
    answers: Answers,
    limit: int = 0,
    process: tuple[int, int] = (0, 1),
) -> Plan:
    """Plans an evaluation, and has answered what of it has no answer yet.

    Args:
        folder: of the evaluation; it may hold answers already.
        asker: how the model is asked.
        benchmarks: what is asked.
        answers: gives the answers; called if any is missing.
        limit: items of a benchmark at most, spread evenly over it; 0 is all.
        process: which of how many processes this is: each answers its share of the questions.

    Returns:
        The plan; all processes have the same.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan, questions = plan_of(asker, benchmarks, limit)
    if process[0] == 0:
        write_plan(folder, plan)
    known = read_answers(folder)
    mine = questions[process[0] :: process[1]]
    missing = [one for one in mine if one.key not in known or known[one.key].finish == FAILED]
    if missing:
        file, began = AnswerFile(path_of(folder, *process)), time.monotonic()
        try:
            with _bar("answering", len(mine)) as bar:
                bar.update(len(mine) - len(missing))
                for seconds, answered in answers(missing):
                    file.put(answered)
                    heard = seconds / (time.monotonic() - began)
                    bar.set_postfix_str(f"{heard:.0f} audio-s/s", refresh=False)
                    bar.update()
        finally:
            file.close()
    return plan


def plan_of(
    asker: Asker, benchmarks: Sequence[Benchmark], limit: int
) -> tuple[Plan, list[Question]]:
    """The plan, and its questions, each once."""
    asked, items, questions = [], [], {}
    chosen = [spread(range(len(one.items)), limit) for one in benchmarks]
    with _bar("reading what is asked", sum(map(len, chosen))) as bar:
        for benchmark, numbers in zip(benchmarks, chosen, strict=True):
            for number in numbers:
                item = benchmark.items[number]
                planned = Planned(
                    benchmark.name,
                    item.id,
                    item.task,
                    item.annotation,
                    choices=item.choices,
                    rule=item.rule,
                )
                try:
                    one = asker.question(item)
                except (ValueError, OSError) as error:
                    items.append(dataclasses.replace(planned, failed=str(error)))
                else:
                    questions.setdefault(one.key, one)
                    told = {"key": one.key, "prompt": one.prompt, "reference": one.reference}
                    items.append(dataclasses.replace(planned, **told, audio=one.audio))
                bar.update()
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


def _bar(told: str, total: int) -> tqdm:
    return tqdm(total=total, desc=told, unit="", leave=False, disable=None)
