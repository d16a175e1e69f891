"""What is found out on validation splits, when, and the files that tell of it."""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.records import Corpus
from qwen_audio_jax.evaluation.held_out_loss import ALL, HeldOutLoss, Losses, RecordLoss, loss_rows
from qwen_audio_jax.evaluation.held_out_pairs import PreferenceAccuracy
from qwen_audio_jax.evaluation.plan import replace
from qwen_audio_jax.evaluation.split_answers import Result, SplitAnswers
from qwen_audio_jax.evaluation.split_questions import SplitQuestions
from qwen_audio_jax.evaluation.split_scores import score_rows
from qwen_audio_jax.metrics import Answer, counts, part_of
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.monitoring import report
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.tasks import CHAT, CONVERSATIONS, PREFERENCE
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
        answers: what asks for the answers; None if nobody wants them.
        losses: by corpus, what measures the loss; none if nobody wants it.
        options: when.
        pairs: what measures the pairs of a run on pairs; None of another run.
    """

    answers: SplitAnswers | None
    losses: Mapping[str, HeldOutLoss]
    options: EvaluateConfig
    pairs: PreferenceAccuracy | None = None

    def whole(self, step: int) -> bool:
        """Whether an evaluation is due after a step that is not the last."""
        return _is_multiple(step, self.options.every)

    def due(self, step: int) -> bool:
        """Whether that, or the loss alone, is."""
        alone = bool(self.losses) and _is_multiple(step, self.options.loss_every)
        return alone or self.whole(step)

    def __call__(self, parameters: Any, *, whole: bool = True, start: bool = False) -> Evaluation:
        """Evaluates the splits.

        Args:
            parameters: the model's.
            whole: whether answers are asked for; else only the loss is measured.
            start: whether they are those that the run starts from. Otherwise conversations are
                answered with other sound too, if the options ask for that.
        """
        results: Mapping[str, list[Result]] = {}
        if whole and self.answers is not None:
            results = self.answers(parameters, controls=self.options.controls and not start)
        losses: dict[tuple[str, str], RecordLoss] = {}
        measured = []
        for name, measure in self.losses.items():
            for number, loss in measure(parameters).items():
                row = measure.row(number)
                losses[name, row.id] = loss
                measured.append((row, loss))
        rows = score_rows(results) + (loss_rows(measured) if self.losses else [])
        if whole and self.pairs is not None:
            rows += self.pairs(parameters, start=start)
        # A task's loss below its scores, and that of all records last.
        rows = sorted(rows, key=lambda row: (row["task"] == ALL, row["task"]))
        return Evaluation(rows, results, losses)


def make_validation(
    options: EvaluateConfig,
    splits: Mapping[str, tuple[Corpus, str]],
    preprocessor: Preprocessor,
    local_rows: Mapping[RowShape, slice],
    model: ModelConfig,
    losses: Losses,
    mesh: Mesh,
    workdir: pathlib.Path,
    group: Group,
    pairs: PreferenceAccuracy | None = None,
) -> Validation | None:
    """What the options ask for; None if that is nothing. The arguments are those of its parts."""
    answers = None
    if options.answers and splits:
        asked = [SplitQuestions(name, *of, preprocessor, options) for name, of in splits.items()]
        answers = SplitAnswers(workdir, asked, preprocessor, model, options, group)
    measures = {
        name: HeldOutLoss(*split, preprocessor, local_rows, losses, mesh, options.limit)
        for name, split in splits.items()
        if options.loss
    }
    return Validation(answers, measures, options, pairs) if answers or measures else None


def _is_multiple(step: int, of: int) -> bool:
    return of > 0 and step % of == 0


def shown_examples(results: Mapping[str, list[Result]], number: int) -> list[report.Example]:
    """A few records of each task, and each kind of conversation, in turn."""
    by_part = collections.defaultdict(dict)
    for corpus, some in results.items():
        for one in filter(lambda one: one.is_answered, some):
            task = one.item.task
            part = task, part_of(task, one.item.annotation) if task == CHAT else ""
            by_part[part].setdefault((corpus, one.record), []).append(one)
    turns = itertools.zip_longest(*(by_part[part].values() for part in sorted(by_part)))
    chosen = [answers for turn in turns for answers in turn if answers is not None][:number]
    return [_shown(answers) for answers in sorted(chosen, key=lambda some: some[0].item.task)]


def _shown(answers: Sequence[Result]) -> report.Example:
    """A record and the answers to it, of which a conversation may have several."""
    first, last = answers[0].item, answers[-1].item
    talk = first.task == CHAT
    said = {len(one.item.annotation["messages"]): one.answered.text for one in answers if talk}
    return report.Example(
        task=first.task,
        id=answers[0].record,
        prompt=first.prompt,
        clips=list(answers[0].clips()),
        reference=first.reference,
        hypothesis=answers[0].answered.text,
        messages=last.annotation["messages"] if talk else (),
        answers=said,
        rejected=last.annotation["rejected"] if first.task == PREFERENCE else "",
    )


def write_evaluation(workdir: pathlib.Path, step: int, evaluation: Evaluation) -> None:
    """Writes the table and the answers, each file whole or not at all."""
    write_table(workdir / TABLE_FILE, evaluation.rows)
    if evaluation.results:
        lines = (json.dumps(line) + "\n" for line in _lines(step, evaluation))
        replace(workdir / ANSWERS_FILE, lines)


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


def _lines(step: int, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Those of answers.jsonl."""
    for corpus, results in evaluation.results.items():
        last = {one.record: one.item.id for one in results}
        for one in filter(lambda one: one.is_answered, results):
            # Of a conversation it is that of all its answers, so it stands with the last of them.
            is_last = last[one.record] == one.item.id
            loss = evaluation.losses.get((corpus, one.record)) if is_last else None
            yield _line(step, corpus, one, loss)


def _line(step: int, corpus: str, result: Result, loss: RecordLoss | None) -> dict[str, Any]:
    """From the annotation and the answer it can be scored anew."""
    item, answer = result.item, result.answered.text
    part = part_of(item.task, item.annotation)
    line = {"id": result.record, "corpus": corpus, "task": item.task}
    if item.task == CHAT:
        line |= {"kind": part, "turn": answered(item.annotation["messages"])}
    else:
        line |= {"kind" if item.task in CONVERSATIONS else "language": part}
    line |= {
        "step": step,
        "prompt": item.prompt,
        "reference": item.reference,
        "answer": answer,
        **{f"answer_{name}": other.text for name, other in result.controls.items()},
        **counts(item.task, Answer(item.annotation, answer)),
    }
    if loss is not None:
        line |= {"tokens": loss.tokens, "loss": loss.loss / loss.tokens}
        if loss.other is not None:
            line["loss_another_clip"] = loss.other / loss.tokens
    return line | {"annotation": item.annotation}
