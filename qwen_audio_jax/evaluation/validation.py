"""What is found out on validation splits, when, and the files that tell of it."""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from data_pipelines.examples import Preprocessor, asked
from data_pipelines.packing import RowShape
from data_pipelines.records import Corpus
from qwen_audio_jax.evaluation.answering import CONTROLS, Evaluator, Result
from qwen_audio_jax.evaluation.held_out_loss import ALL, HeldOutLoss, Losses, RecordLoss, loss_rows
from qwen_audio_jax.evaluation.plan import replace
from qwen_audio_jax.metrics import Answer, counts, part_of, score_by_part
from qwen_audio_jax.monitoring import report
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.tasks import CHAT, CONVERSATIONS
from qwen_audio_jax.tasks.conversation import answered

ANSWERS_FILE = "answers.jsonl"
TABLE_FILE = "evaluation.json"
BEFORE_FILE = "evaluation_before.json"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found out.

    Attributes:
        rows: of the table: task, metric, value, baseline, n.
        results: the answers by corpus; none where the loss alone was measured.
        losses: by corpus and record id; none where answers alone were asked for.
    """

    rows: list[dict[str, Any]]
    results: Mapping[str, list[Result]]
    losses: Mapping[tuple[str, str], RecordLoss]

    @property
    def metrics(self) -> dict[str, float]:
        """What metrics.jsonl has of it."""
        of_all = next((row for row in self.rows if row["task"] == ALL), {})
        named = {
            "validation_loss": of_all.get("value"),
            "validation_loss_another_clip": of_all.get("baseline"),
        }
        return {name: value for name, value in named.items() if value is not None}


NOTHING = Evaluation([], {}, {})


@dataclasses.dataclass(frozen=True)
class Validation:
    """Evaluates validation splits: answers and their scores, the held-out loss, or both.

    Attributes:
        answers: by corpus, what asks for the answers; none if nobody wants them.
        losses: by corpus, what measures the loss; likewise.
        options: when.
    """

    answers: Mapping[str, Evaluator]
    losses: Mapping[str, HeldOutLoss]
    options: EvaluateConfig

    def whole(self, step: int) -> bool:
        """Whether an evaluation is due after a step that is not the last."""
        return _is_multiple(step, self.options.every)

    def due(self, step: int) -> bool:
        """Whether that, or the loss alone, is."""
        alone = bool(self.losses) and _is_multiple(step, self.options.loss_every)
        return alone or self.whole(step)

    def __call__(self, parameters: Any, *, whole: bool = True, controls: bool = True) -> Evaluation:
        """Evaluates the splits.

        Args:
            parameters: the model's.
            whole: whether answers are asked for; else only the loss is measured.
            controls: whether conversations are answered with other sound too, if the options ask
                for that.
        """
        results = {
            name: evaluator(parameters, controls=controls and self.options.controls)
            for name, evaluator in self.answers.items()
            if whole
        }
        losses: dict[tuple[str, str], RecordLoss] = {}
        measured = []
        for name, measure in self.losses.items():
            for number, loss in measure(parameters).items():
                row = measure.row(number)
                losses[name, row.id] = loss
                measured.append((row, loss))
        rows = score_rows(results) + (loss_rows(measured) if self.losses else [])
        # A task's loss below its scores, and that of all records last.
        rows = sorted(rows, key=lambda row: (row["task"] == ALL, row["task"]))
        return Evaluation(rows, results, losses)


def make_validation(
    options: EvaluateConfig,
    splits: Mapping[str, tuple[Corpus, str]],
    preprocessor: Preprocessor,
    local_rows: Mapping[RowShape, slice],
    graph: nnx.GraphDef,
    losses: Losses,
    mesh: Mesh,
) -> Validation | None:
    """What the options ask for; None if that is nothing. The arguments are those of its parts."""
    answers = {
        name: Evaluator(*split, preprocessor, graph, mesh, options)
        for name, split in splits.items()
        if options.answers
    }
    measures = {
        name: HeldOutLoss(*split, preprocessor, local_rows, losses, mesh, options.limit)
        for name, split in splits.items()
        if options.loss
    }
    return Validation(answers, measures, options) if answers or measures else None


def score_rows(results: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """The table of answers by corpus: each task's scores, also by part, and by corpus if several
    have records of it; each row is followed by those of the controls.
    """
    by_task = collections.defaultdict(list)
    for corpus, answers in results.items():
        for result in answers:
            by_task[result.record.task].append((corpus, result))
    rows = []
    for task in sorted(by_task):
        corpora, some = zip(*by_task[task], strict=True)
        given = [Answer(one.annotation, one.hypothesis) for one in some]
        scored = score_by_part(task, given)
        known = {row["metric"] for row in scored}
        scored += [r for r in score_by_part(task, given, corpora) if r["metric"] not in known]
        followed = {
            control: score_by_part(task, [_with(one, control) for one in some])
            for control in CONTROLS
            if any(control in one.controls for one in some)
        }
        for place, row in enumerate(scored):
            rows.append(row)
            for control, other in followed.items():
                if place < len(other):
                    rows.append(other[place] | {"metric": f"{row['metric']}/{control}"})
    return rows


def _with(result: Result, control: str) -> Answer:
    """The answer with other sound; one that had none to be exchanged counts as it is."""
    return Answer(result.annotation, result.controls.get(control, result.hypothesis))


def _is_multiple(step: int, of: int) -> bool:
    return of > 0 and step % of == 0


def shown_examples(results: Mapping[str, list[Result]], number: int) -> list[report.Example]:
    """A few records of each task, and each kind of conversation, in turn."""
    by_part = collections.defaultdict(dict)
    for corpus, some in results.items():
        for one in some:
            task = one.record.task
            part = task, part_of(task, one.annotation) if task == CHAT else ""
            by_part[part].setdefault((corpus, one.record.id), []).append(one)
    turns = itertools.zip_longest(*(by_part[part].values() for part in sorted(by_part)))
    chosen = [answers for turn in turns for answers in turn if answers is not None][:number]
    return [_shown(answers) for answers in sorted(chosen, key=lambda some: some[0].record.task)]


def _shown(answers: Sequence[Result]) -> report.Example:
    """A record and the answers to it, of which a conversation may have several."""
    first = answers[0]
    return report.Example(
        task=first.record.task,
        id=first.record.id,
        prompt=first.prompt,
        clips=list(first.record.audio),
        reference=first.reference,
        hypothesis=first.hypothesis,
        messages=first.record.annotation["messages"] if first.record.task == CHAT else (),
        answers={len(one.annotation["messages"]): one.hypothesis for one in answers}
        if first.record.task == CHAT
        else {},
    )


def write_evaluation(workdir: pathlib.Path, step: int, evaluation: Evaluation) -> None:
    """Writes the table and the answers, each file whole or not at all."""
    write_table(workdir / TABLE_FILE, evaluation.rows)
    if evaluation.results:
        lines = [
            json.dumps(_line(step, corpus, one, evaluation.losses))
            for corpus, results in evaluation.results.items()
            for one in results
        ]
        replace(workdir / ANSWERS_FILE, (line + "\n" for line in lines))


def write_table(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows of a table."""
    replace(path, [json.dumps(rows, indent=1) + "\n"])


def write_before(workdir: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Keeps the table of what the run starts from."""
    write_table(workdir / BEFORE_FILE, rows)


def with_before(workdir: pathlib.Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the value that each had at the start, as "before"; as they are if it was not
    evaluated.
    """
    path = workdir / BEFORE_FILE
    if not path.is_file():
        return rows
    before = json.loads(path.read_text())
    known = {(row["task"], row["metric"]): row["value"] for row in before}
    return [row | {"before": known.get((row["task"], row["metric"]))} for row in rows]


def _line(
    step: int, corpus: str, result: Result, losses: Mapping[tuple[str, str], RecordLoss]
) -> dict[str, Any]:
    """A line of answers.jsonl; from the annotation and the answer it can be scored anew."""
    record, annotation = result.record, result.annotation
    part = part_of(record.task, annotation)
    line = {"id": record.id, "corpus": corpus, "task": record.task}
    if record.task == CHAT:
        line |= {"kind": part, "turn": answered(annotation["messages"])}
    else:
        line |= {"kind" if record.task in CONVERSATIONS else "language": part}
    line |= {
        "step": step,
        "prompt": result.prompt,
        "reference": result.reference,
        "answer": result.hypothesis,
        **{f"answer_{name}": text for name, text in result.controls.items()},
        **counts(record.task, Answer(annotation, result.hypothesis)),
    }
    loss = losses.get((corpus, record.id))
    # Of a conversation it is that of all its answers, so it stands with the last of them.
    if loss and asked(record.task, record.annotation)[-1] == annotation:
        line |= {"tokens": loss.tokens, "loss": loss.loss / loss.tokens}
        if loss.other is not None:
            line["loss_another_clip"] = loss.other / loss.tokens
    return line | {"annotation": annotation}
