"""A model in training answers validation splits, as a finished one answers benchmarks."""

import collections
import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.examples import Preprocessor
from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, path_of, read_answers
from qwen_audio_jax.evaluation.answer_stage import answer_missing, plan_of
from qwen_audio_jax.evaluation.asking import Asking, Question
from qwen_audio_jax.evaluation.benchmarks.corpus import record_of
from qwen_audio_jax.evaluation.engine_answers import engine_answers
from qwen_audio_jax.evaluation.plan import Plan, Planned, write_plan
from qwen_audio_jax.evaluation.progress import Progress
from qwen_audio_jax.evaluation.recordings import with_whole_answers
from qwen_audio_jax.evaluation.split_questions import CONTROLS, SplitQuestions
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.inference.in_training import loaded_here
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.parallel.sharding import row_shards
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.tasks import CHAT

FOLDER = "evaluation"
"""Of the last evaluation, in the run folder."""

_SHORTEST, _PLENTY = 256, 1024
"""Tokens of prompt and answer: the least room that is made, and what so many rows are meant for."""

_SHARE_SECONDS = 7 * 24 * 3600.0
"""A share may take longer than another, and one that ends before its time is heard of at once."""

_SEEN_SECONDS = 120.0
"""How long what other processes have written may take to be seen in a folder on a network."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a question was answered.

    Attributes:
        item: the question.
        answered: what came of it.
        clips: reads the encoded clips of its record.
        controls: what came of it with other sound, by CONTROLS.
    """

    item: Planned
    answered: Answered
    clips: Callable[[], tuple[bytes, ...]]
    controls: Mapping[str, Answered] = dataclasses.field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        """Whether it has an answer, be it a bad one."""
        return self.answered.finish != FAILED

    @property
    def record(self) -> str:
        """Id of its record."""
        return record_of(self.item.id, self.item.task)


@dataclasses.dataclass(frozen=True)
class SplitAnswers:
    """Asks splits, and keeps the answers in a folder as the command `evaluate` does.

    Attributes:
        workdir: the run folder, which all processes share.
        splits: what is asked.
        preprocessor: how records become prompts.
        model: its configuration.
        options: how many answers at once, and tokens of each.
        group: the processes.
    """

    workdir: pathlib.Path
    splits: Sequence[SplitQuestions]
    preprocessor: Preprocessor
    model: ModelConfig
    options: EvaluateConfig
    group: Group

    def __call__(self, parameters: Any, *, controls: bool = False) -> dict[str, list[Result]]:
        """The results by corpus, on every process. What is answered already is not asked again.

        Args:
            parameters: the model's.
            controls: whether conversations are answered again with other sound.
        """
        group, folder = self.group, self.workdir / FOLDER
        loaded = self._loaded(parameters)
        asking, quiet = Asking.of(loaded, self.options.max_new_tokens), group.index > 0
        benchmarks = [one for split in self.splits for one in split.benchmarks(controls)]
        plan, questions = plan_of(asking, benchmarks, 0, quiet=quiet)
        if group.index == 0:
            begin(folder, plan, questions)
        group.barrier("an evaluation")

        def answers(missing: Sequence[Question]) -> Iterator[tuple[Progress, Answered]]:
            progress = Progress(0.0)
            for slots, context, some in rooms(questions, self._slots(loaded)):
                keys, before = {one.key for one in some}, progress
                here = [one for one in missing if one.key in keys]
                for of_room, answered in engine_answers(asking, here, slots, context):
                    progress = of_room.after(before)
                    yield progress, answered

        process = group.index, group.count
        with contextlib.closing(AnswerFile(path_of(folder, *process))) as file:
            answer_missing(folder, file, questions, answers, process, quiet=quiet)
        group.barrier("the end of an evaluation", timeout=_SHARE_SECONDS)
        answered = with_whole_answers(plan.items, answers_to(folder, questions))
        results = results_of(self.splits, plan, answered)
        if not quiet:
            _tell_of_dropped(self.splits, results)
        return results

    def _loaded(self, parameters: Any) -> Loaded:
        tuned = any(item.task == CHAT for split in self.splits for item in split.own.items)
        name = self.workdir.resolve().name
        return loaded_here(name, self.model, parameters, self.preprocessor, tuned=tuned)

    def _slots(self, loaded: Loaded) -> int:
        """How many of the rows are this process's, as its mesh divides them."""
        shards = row_shards(loaded.mesh)
        return -(-self.options.rows // (self.group.count * shards)) * shards


def begin(folder: pathlib.Path, plan: Plan, questions: Sequence[Question]) -> None:
    """Writes a plan; takes away the answers of an earlier evaluation, none of which it asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    known = read_answers(folder)
    if not any(one.key in known for one in questions):
        for path in folder.glob("answers-*.jsonl"):
            path.unlink()
    write_plan(folder, plan)


def rooms(questions: Sequence[Question], rows: int) -> list[tuple[int, int, list[Question]]]:
    """(slots, tokens that a slot holds, the questions that are answered there, short ones first).

    Few kinds of room, as each compiles programs of its own, and of long prompts so few slots that
    these take no more memory than `rows` of 1,024 tokens.

    Args:
        questions: their prompts' lengths are known.
        rows: answers at once, where prompts are no longer than that.
    """
    by_room: dict[int, list[Question]] = {}
    for question in sorted(questions, key=lambda one: one.tokens):
        room = _SHORTEST
        while room < question.tokens + question.limit:
            room *= 2
        by_room.setdefault(max(room, _PLENTY), []).append(question)
    made = []
    for room, some in sorted(by_room.items()):
        longest = max(one.tokens + one.limit for one in some)
        context = room if room > _PLENTY else _SHORTEST * -(-longest // _SHORTEST)
        slots = max(1, rows * _PLENTY // room)
        made.append((min(slots, len(some)), context, some))
    return made


def answers_to(folder: pathlib.Path, questions: Sequence[Question]) -> dict[str, Answered]:
    """All answers, once they can be seen.

    Raises:
        OSError: some that another process has given cannot be.
    """
    until = time.monotonic() + _SEEN_SECONDS
    while True:
        answered = read_answers(folder)
        missing = sum(one.key not in answered for one in questions)
        if not missing:
            return answered
        if time.monotonic() > until:
            raise OSError(
                f"{folder}: {missing:,} answers of other processes cannot be seen there; put the "
                "--workdir on a disk that all processes share"
            )
        time.sleep(1)


def results_of(
    splits: Sequence[SplitQuestions], plan: Plan, answered: Mapping[str, Answered]
) -> dict[str, list[Result]]:
    """The results by corpus, in the order of the split."""
    came: dict[str, dict[str, tuple[Planned, Answered]]] = collections.defaultdict(dict)
    for item in plan.items:
        failed = Answered("", "", FAILED, error=item.failed)
        came[item.benchmark][item.id] = item, answered[item.key] if item.key else failed
    results = {}
    for split in splits:
        clips = {item.id: item.clips for item in split.own.items}
        otherwise = {control: came[f"{split.name}/{control}"] for control in CONTROLS}
        results[split.name] = [
            Result(
                item,
                one,
                clips[item.id],
                {name: of[item.id][1] for name, of in otherwise.items() if item.id in of},
            )
            for item, one in came[split.name].values()
        ]
    return results


def _tell_of_dropped(
    splits: Sequence[SplitQuestions], results: Mapping[str, Sequence[Result]]
) -> None:
    """Names the records that are not asked, or have no answer, each once."""
    reasons: dict[tuple[str, int | str], str] = {}
    for split in splits:
        for one in split.own.left_out:
            reasons.setdefault((split.name, one.row), one.reason)
        for result in results[split.name]:
            if not result.is_answered:
                reasons.setdefault((split.name, result.record), result.answered.error)
    for (_, record), reason in reasons.items():
        logging.warning("record %s is dropped: %s", record, reason)
