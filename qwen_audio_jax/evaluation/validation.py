"""What is found out on a validation split, when, and the files that tell of it."""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.records import Corpus
from qwen_audio_jax.evaluation.answering import Evaluator, Result
from qwen_audio_jax.evaluation.held_out_loss import ALL, HeldOutLoss, Losses, RecordLoss
from qwen_audio_jax.metrics import Answer, counts, language_of
from qwen_audio_jax.monitoring import report
from qwen_audio_jax.run_config import EvaluateConfig

ANSWERS_FILE = "answers.jsonl"
TABLE_FILE = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found out.

    Attributes:
        rows: of the table: task, metric, value, baseline, n.
        results: the answers; none where the loss alone was measured.
        losses: by record id; none where answers alone were asked for.
    """

    rows: list[dict[str, Any]]
    results: list[Result]
    losses: Mapping[str, RecordLoss]

    @property
    def metrics(self) -> dict[str, float]:
        """What metrics.jsonl has of it."""
        of_all = next((row for row in self.rows if row["task"] == ALL), {})
        named = {
            "validation_loss": of_all.get("value"),
            "validation_loss_another_clip": of_all.get("baseline"),
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Validation:
    """Evaluates a split: answers and their scores, the held-out loss, or both.

    Attributes:
        answers: asks for the answers; None if nobody wants them.
        loss: measures the loss; None likewise.
        options: when.
    """

    answers: Evaluator | None
    loss: HeldOutLoss | None
    options: EvaluateConfig

    def whole(self, step: int) -> bool:
        """Whether an evaluation is due after a step that is not the last."""
        return _is_multiple(step, self.options.every)

    def due(self, step: int) -> bool:
        """Whether that, or the loss alone, is."""
        alone = self.loss is not None and _is_multiple(step, self.options.loss_every)
        return alone or self.whole(step)

    def __call__(self, parameters: Any, *, whole: bool) -> Evaluation:
        """Evaluates the split; only the loss is measured unless it is whole."""
        rows, results = self.answers(parameters) if whole and self.answers else ([], [])
        losses: dict[str, RecordLoss] = {}
        if self.loss is not None:
            found = self.loss(parameters)
            rows = rows + self.loss.rows(found)
            index = self.loss.corpus.index(self.loss.split)
            losses = {index[number].id: loss for number, loss in found.items()}
        # A task's loss below its scores, and that of all records last.
        rows = sorted(rows, key=lambda row: (row["task"] == ALL, row["task"]))
        return Evaluation(rows, results, losses)


def make_validation(
    options: EvaluateConfig,
    corpus: Corpus,
    split: str,
    preprocessor: Preprocessor,
    local_rows: Mapping[RowShape, slice],
    graph: nnx.GraphDef,
    losses: Losses,
    mesh: Mesh,
) -> Validation | None:
    """What the options ask for; None if that is nothing. The arguments are those of its parts."""
    answers = Evaluator(corpus, split, preprocessor, graph, mesh, options)
    loss = HeldOutLoss(corpus, split, preprocessor, local_rows, losses, mesh, options.limit)
    if not (options.answers or options.loss):
        return None
    return Validation(answers if options.answers else None, loss if options.loss else None, options)


def _is_multiple(step: int, of: int) -> bool:
    return of > 0 and step % of == 0


def shown_examples(results: list[Result], number: int) -> list[report.Example]:
    """A few results of each task in turn."""
    by_task = collections.defaultdict(list)
    for result in results:
        by_task[result.record.task].append(result)
    turns = itertools.zip_longest(*(by_task[task] for task in sorted(by_task)))
    chosen = [result for turn in turns for result in turn if result is not None][:number]
    return [
        report.Example(
            task=result.record.task,
            id=result.record.id,
            prompt=result.prompt,
            clips=list(result.record.audio),
            reference=result.reference,
            hypothesis=result.hypothesis,
        )
        for result in sorted(chosen, key=lambda result: result.record.task)
    ]


def write_evaluation(workdir: pathlib.Path, step: int, evaluation: Evaluation) -> None:
    """Writes the table and the answers, each file whole or not at all."""
    _replace(workdir / TABLE_FILE, json.dumps(evaluation.rows, indent=1) + "\n")
    if evaluation.results:
        lines = (json.dumps(_line(step, one, evaluation.losses)) for one in evaluation.results)
        _replace(workdir / ANSWERS_FILE, "".join(line + "\n" for line in lines))


def _line(step: int, result: Result, losses: Mapping[str, RecordLoss]) -> dict[str, Any]:
    """A line of answers.jsonl; from the annotation and the answer it can be scored anew."""
    record = result.record
    line = {
        "id": record.id,
        "task": record.task,
        "language": language_of(record.task, record.annotation),
        "step": step,
        "prompt": result.prompt,
        "reference": result.reference,
        "answer": result.hypothesis,
        **counts(record.task, Answer(record.annotation, result.hypothesis)),
    }
    if record.id in losses:
        loss = losses[record.id]
        line |= {"tokens": loss.tokens, "loss": loss.loss / loss.tokens}
        if loss.other is not None:
            line["loss_another_clip"] = loss.other / loss.tokens
    return line | {"annotation": record.annotation}


def _replace(path: pathlib.Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
