"""The stages of an evaluation, each upon the files that the one before has left."""

import dataclasses
import functools
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table

from qwen_audio_jax.evaluation import answer_stage, judge_stage
from qwen_audio_jax.evaluation.answer_files import Answered, read_answers
from qwen_audio_jax.evaluation.asking import Asking
from qwen_audio_jax.evaluation.benchmarks import JUDGED, Benchmark, open_benchmark
from qwen_audio_jax.evaluation.contamination import Source, find
from qwen_audio_jax.evaluation.contamination_scores import contamination_told
from qwen_audio_jax.evaluation.control_rows import with_controls
from qwen_audio_jax.evaluation.controls import read_controls
from qwen_audio_jax.evaluation.endpoint import Endpoint
from qwen_audio_jax.evaluation.engine_answers import engine_answers
from qwen_audio_jax.evaluation.judge_calls import read_judges
from qwen_audio_jax.evaluation.judge_stage import Judge
from qwen_audio_jax.evaluation.official_files import official_files
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.page import write_evaluation_page
from qwen_audio_jax.evaluation.plan import Plan, read_plan, replace
from qwen_audio_jax.evaluation.published import why_none, with_published
from qwen_audio_jax.evaluation.recordings import read_evaluation, with_whole_answers
from qwen_audio_jax.evaluation.score_table import score_table
from qwen_audio_jax.evaluation.scoring import (
    score_rows,
    scored_groups,
    summary,
)
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.metrics.protocols import check
from qwen_audio_jax.monitoring.progress_bar import bar
from qwen_audio_jax.tasks import KINDS

TABLE_FILE, SUMMARY_FILE, PAGE_FILE = "evaluation.json", "summary.json", "report.html"
OFFICIAL_FOLDER = "official"


@dataclasses.dataclass(frozen=True)
class Who:
    """What answers.

    Attributes:
        checkpoint, adapter: see `inference.loading.load`; "" where it is behind an endpoint.
        endpoint, model: see `endpoint.Endpoint`.
    """

    checkpoint: str = ""
    adapter: str = ""
    endpoint: str = ""
    model: str = ""


def answer(
    folder: pathlib.Path,
    who: Who,
    named: Sequence[tuple[str, pathlib.Path]],
    options: Options,
    share: tuple[int, int] = (0, 1),
    *,
    controls: bool = False,
    to_be_judged: bool = False,
) -> None:
    """Has a model answer benchmarks.

    Args:
        folder: of the evaluation.
        who: the model.
        named: benchmarks by name and path.
        options: see there.
        share: which of how many shares of the questions.
        controls: whether the questions are asked under controls too, see `controls`.
        to_be_judged: whether a judge is to be asked about the answers.

    Raises:
        ValueError, OSError: one sentence that names the file, the flag or the key, and the mend.
    """
    names = [name for name, _ in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"--benchmark: {twice!r} is given twice; give each a name of its own")
    benchmarks = [open_benchmark(*one) for one in named]
    if to_be_judged and not any(item.rule == JUDGED for one in benchmarks for item in one.items):
        raise ValueError("--judge: no benchmark has answers for a judge; AIR-Bench chat is such")
    _check_protocols(options, benchmarks)
    if who.endpoint:
        asker = Endpoint.of(who.endpoint, who.model, options.max_new_tokens)
        answers = functools.partial(asker.answers, at_once=options.slots)
    else:
        asker = Asking.of(load(who.checkpoint, adapter=who.adapter), options.max_new_tokens)
        answers = functools.partial(
            engine_answers, asker, slots=options.slots, context=options.context
        )
    _check_model(folder, asker.told)
    control_limit = options.control_limit if controls else None
    answer_stage.answer(folder, asker, benchmarks, answers, options.limit, share, control_limit)


def _check_protocols(options: Options, benchmarks: Sequence[Benchmark]) -> None:
    """Refuses, before anything is answered, what could not be scored."""
    first: dict[object, str] = {}
    for one in benchmarks:
        for item in one.items:
            if KINDS[item.task].metric == "wer":
                where = f"benchmark {one.name!r}, row {item.id!r}: "
                first.setdefault(item.annotation.get("language"), where)
    for protocol in options.protocols:
        where = ""
        try:
            check(protocol, ())
            for language in first:
                where = first[language]
                check(protocol, [language])
        except ValueError as error:
            raise ValueError(f"--config.protocols: {where}{error}") from None


def _check_model(folder: pathlib.Path, told: Mapping[str, Any]) -> None:
    """Refuses a folder that holds answers of another model: its plan would be written over."""
    try:
        known = read_plan(folder).model
    except (ValueError, OSError):  # there is none, or it is damaged: it is written anew
        return
    fields = ("weights",) if "weights" in known and "weights" in told else ("endpoint", "name")
    if all(known.get(field) == told.get(field) for field in fields):
        return
    if any(one.finish != FAILED for one in read_answers(folder).values()):
        raise ValueError(
            f"{folder}: holds the answers of {_called(known)}, and now {_called(told)} is to "
            "answer; give another --workdir"
        )


def _called(told: Mapping[str, Any]) -> str:
    """A model and how it is told from others of its name."""
    what = f"weights {told['weights']}" if "weights" in told else f"at {told.get('endpoint')}"
    return f"{told.get('name')} ({what})"


def judge(folder: pathlib.Path, by: Judge, options: Options) -> judge_stage.Held:
    """Has a judge asked about answers; see `judge_stage.judge`, and what it raises."""
    return judge_stage.judge(folder, by, options.slots)


def score(
    folder: pathlib.Path, options: Options, sources: Sequence[Source] = ()
) -> rich.table.Table:
    """Scores an evaluation; writes the table, what is told beside it, and the page.

    Args:
        folder: of the evaluation.
        options: see there.
        sources: corpora that are looked through for the benchmarks' items.

    Raises:
        ValueError, OSError: there is none, or it is not whole; one sentence.
    """
    plan, answered = read_evaluation(folder)
    judges, controls = read_judges(folder), read_controls(folder)
    groups, rows = [], []
    with bar("scoring", len(plan.items)) as shown:
        for group in scored_groups(plan, answered, options, judges):
            rows += [with_published(plan, group, row) for row in score_rows(group, options)]
            groups.append(group)
            shown.update(0 if group.part else len(group.items))
    told = summary(plan, answered, groups)
    for one, benchmark in zip(told["benchmarks"], plan.benchmarks, strict=True):
        items = [item for item in plan.items if item.benchmark == benchmark.name]
        one["published"] = why_none(plan, benchmark, items)
    of_controls = with_whole_answers([one.item for one in controls], answered)
    rows = with_controls(rows, plan, controls, of_controls, options)
    if sources:

        def rows_of(part: Plan) -> list[dict[str, Any]]:
            known = scored_groups(part, answered, options, judges)
            return [row for group in known for row in score_rows(group, options)]

        told["contamination"] = contamination_told(find(plan, sources), plan, rows, rows_of)
    for name, content in ((TABLE_FILE, rows), (SUMMARY_FILE, told)):
        replace(folder / name, [json.dumps(content, indent=1, ensure_ascii=False) + "\n"])
    _write_official(folder / OFFICIAL_FOLDER, plan, answered)
    write_evaluation_page(folder / PAGE_FILE, plan, answered, rows, told, options)
    return score_table(rows, told)


def _write_official(folder: pathlib.Path, plan: Plan, answered: dict[str, Answered]) -> None:
    """The files that the benchmarks' own scorers read, where their lists are still there."""
    try:
        for name, texts in official_files(plan, answered):
            folder.mkdir(exist_ok=True)
            replace(folder / name, texts)
    except (ValueError, OSError) as error:
        logging.warning("no files for other scorers: %s", error)
