"""The table of a run's answers to validation splits."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from qwen_audio_jax.evaluation.scoring import metric_rows
from qwen_audio_jax.evaluation.split_answers import Result
from qwen_audio_jax.evaluation.split_questions import CONTROLS


def score_rows(results: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """The table of answers by corpus: each task's scores, also by part, and by corpus if several
    have records of it; each row is followed by those of the controls.
    """
    by_task: dict[str, dict[str, list[Result]]] = {}
    for corpus, answers in results.items():
        for result in answers:
            of_task = by_task.setdefault(result.item.task, collections.defaultdict(list))
            of_task[corpus].append(result)
    return [row for task in sorted(by_task) for row in _task_rows(task, by_task[task])]


def _task_rows(task: str, by_corpus: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    every = list(itertools.chain.from_iterable(by_corpus.values()))
    rows = _rows(task, every)
    if len(by_corpus) > 1:
        rows += _corpus_rows(task, by_corpus, [row["metric"] for row in rows])
    followed = {
        control: {row["metric"]: row for row in _rows(task, [_with(one, control) for one in every])}
        for control in CONTROLS
        if any(control in one.controls for one in every)
    }
    table = []
    for row in rows:
        metric = row["metric"]
        controls = {control: of[metric] for control, of in followed.items() if metric in of}
        table.append(row)
        table += [one | {"metric": f"{metric}/{control}"} for control, one in controls.items()]
    return table


def _corpus_rows(
    task: str, by_corpus: Mapping[str, Sequence[Result]], known: Sequence[str]
) -> list[dict[str, Any]]:
    """Of each metric a row for each corpus."""
    scored = {
        name: {row["metric"]: row for row in _rows(task, by_corpus[name])}
        for name in sorted(by_corpus)
    }
    return [
        of[metric] | {"metric": named}
        for metric in known
        for name, of in scored.items()
        if "/" not in metric and (named := f"{metric}/{name}") not in known
    ]


def _rows(task: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    pairs = [(one.item, one.answered) for one in results if one.is_answered]
    return metric_rows(task, [one.item for one in results], pairs)


def _with(result: Result, control: str) -> Result:
    """With the answer to other sound; one that had none to be exchanged counts as it is."""
    return dataclasses.replace(result, answered=result.controls.get(control, result.answered))
