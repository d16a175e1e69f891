"""Evaluations that are finished: plans and answers by hand, without a model."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from qwen_audio_jax.evaluation import options
from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, path_of
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned, write_plan

VALUES = {
    "limit": 0,
    "control_limit": 0,
    "slots": 4,
    "context": 512,
    "max_new_tokens": 0,
    "protocols": ("plain",),
    "examples": 4,
    "draws": 50,
    "confidence": 0.95,
    "seed": 0,
}
OPTIONS = options.from_mapping(VALUES)
DECODING = {"search": "greedy", "repetition_penalty": 1.0, "most_tokens": 0}


def item(number: int, text: str, task: str = "asr", benchmark: str = "mine", **fields: Any):
    """An item; its key is its number, `choices`, `rule`, `failed`, `own_words` are its own."""
    own = {
        name: fields.pop(name)
        for name in ("choices", "rule", "failed", "own_words")
        if name in fields
    }
    annotation = {"text": text, "language": "en"} | fields
    key = "" if "failed" in own else f"{benchmark}-{number}"
    shown = {"prompt": "Write it down.", "reference": str(text)} | own
    return Planned(benchmark, f"{number:04}", task, annotation, key, **shown)


def plan_of(
    items: Sequence[Planned],
    form: str = "manifest",
    path: str = "/gone/list.jsonl",
    left_out: Sequence[tuple[int, str]] = (),
    passed_over: int = 0,
    model: Sequence[tuple[str, str]] = (("name", "tiny"), ("conditioning", "tags")),
) -> Plan:
    """A plan of items, a benchmark for each of their benchmarks' names."""
    asked = []
    for name in dict.fromkeys(one.benchmark for one in items):
        count = sum(one.benchmark == name for one in items)
        asked.append(Asked(name, form, "d1", path, count, passed_over, tuple(left_out)))
    return Plan(dict(model), DECODING, asked, list(items))


def answers_of(items: Sequence[Planned], texts: Sequence[str | None], seconds: float = 3.0):
    """By key; None is one that failed."""
    return {
        one.key: Answered(one.key, "", "failed", error="the server is on fire")
        if text is None
        else Answered(one.key, text, "stop", 3, seconds=seconds)
        for one, text in zip(items, texts, strict=True)
        if one.key
    }


def write(folder: pathlib.Path, plan: Plan, answered: dict[str, Answered]) -> pathlib.Path:
    """The folder of such an evaluation."""
    folder.mkdir(parents=True)
    write_plan(folder, plan)
    file = AnswerFile(path_of(folder))
    for one in answered.values():
        file.put(one)
    file.close()
    return folder


def read(folder: pathlib.Path, name: str) -> Any:
    """One of its JSON files."""
    return json.loads((folder / name).read_text())
