"""The first stage of an evaluation: everything is planned, then what has no answer yet is asked."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from qwen_audio_jax.evaluation.answer_files import AnswerFile, read_answers
from qwen_audio_jax.evaluation.asking import Asking, Question
from qwen_audio_jax.evaluation.benchmarks import Benchmark
from qwen_audio_jax.evaluation.engine_answers import answers
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned, write_plan
from qwen_audio_jax.evaluation.selection import spread
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.inference.engine import Engine, EngineConfig


def answer(
    folder: pathlib.Path,
    asking: Asking,
    benchmarks: Sequence[Benchmark],
    options: Options,
    process: tuple[int, int] = (0, 1),
) -> Plan:
    """Plans an evaluation, and answers what of it has no answer yet.

    Args:
        folder: of the evaluation; it may hold answers already.
        asking: how the model is asked.
        benchmarks: what is asked.
        options: see there.
        process: which of how many processes this is: each answers its share of the questions.

    Returns:
        The plan; all processes have the same.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan, questions = plan_of(asking, benchmarks, options.limit)
    if process[0] == 0:
        write_plan(folder, plan)
    known = read_answers(folder)
    mine = questions[process[0] :: process[1]]
    missing = [one for one in mine if one.key not in known or known[one.key].finish == FAILED]
    if missing:
        file = AnswerFile(folder, *process)
        try:
            _answer_all(file, asking, missing, len(mine), options)
        finally:
            file.close()
    return plan


def plan_of(
    asking: Asking, benchmarks: Sequence[Benchmark], limit: int
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
                    one = asking.question(item)
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
    return Plan(_model(asking), _decoding(asking), asked, items), list(questions.values())


def _model(asking: Asking) -> dict[str, Any]:
    loaded = asking.loaded
    return {
        "name": loaded.name,
        "weights": asking.weights,
        "family": loaded.family,
        "conditioning": loaded.preprocessor.conditioning,
        "tuned": loaded.tuned,
        "compute": str(loaded.model.compute.dtype),
    }


def _decoding(asking: Asking) -> dict[str, Any]:
    return {"search": "greedy", "repetition_penalty": 1.0, "most_tokens": asking.most}


def _answer_all(
    file: AnswerFile,
    asking: Asking,
    missing: Sequence[Question],
    all_of_them: int,
    options: Options,
) -> None:
    shorter = [length for length in EngineConfig.lengths if length < options.context]
    lengths = (*shorter, options.context)
    engine = Engine(asking.loaded, EngineConfig(options.slots, lengths, waiting=2 * options.slots))
    began = time.monotonic()
    try:
        with _bar("answering", all_of_them) as bar:
            bar.update(all_of_them - len(missing))
            for seconds, answered in answers(asking, engine, missing):
                file.put(answered)
                heard = seconds / (time.monotonic() - began)
                bar.set_postfix_str(f"{heard:.0f} audio-s/s", refresh=False)
                bar.update()
    finally:
        engine.close()


def _bar(told: str, total: int) -> tqdm:
    return tqdm(total=total, desc=told, unit="", leave=False, disable=None)
