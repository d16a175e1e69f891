"""Published figures, and beside which scores they may stand: those of the same protocol alone.

`published_figures.csv` has them, as the makers' READMEs print them (QwenLM/Qwen-Audio, b50fb95;
QwenLM/Qwen2-Audio, 10cb8d8). "items" is how many a published split has, 0 where that is not
established. Fractions, but for BLEU and CIDEr, as this project's rows have them.
"""

import csv
import dataclasses
import functools
import importlib.resources
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from qwen_audio_jax.evaluation.benchmarks import originals
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned
from qwen_audio_jax.evaluation.scoring import Group
from qwen_audio_jax.metrics import part_of

OTHER_PROTOCOLS = {
    "air_chat": "its judge, gpt-4-0125-preview, was retired in March 2026, and scores of another "
    "judge do not compare with published ones",
    "air_foundation": "the published ones are means over tasks, and for some models GPT-3.5 read "
    "what names no letter",
    "mmau": "the prompts behind published scores are not part of it and are worth several points, "
    "and a quarter of its questions changed with version 05.15.25",
    "mmar": "the prompts behind published scores are not part of it",
    "mmsu": "published scores leave out what cannot be read",
    "voice_bench": "the published one is a mean over all of its sets, some of which need a judge",
}
"""By form: why no published figure stands beside its scores."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A published score.

    Attributes:
        model, table: whose, and where it is printed.
        protocol: "qwen_audio": that model's tags, its script's limits; "qwen2_audio": the prompts
            of the list.
        set, split: a key of `originals.SETS`, and what of it; "" is all.
        metric: as rows name it.
        value: of it.
        items: that were scored; 0 where that is not established.
    """

    model: str
    table: str
    protocol: str
    set: str
    split: str
    metric: str
    value: float
    items: int


@functools.cache
def figures() -> tuple[Figure, ...]:
    """All that are known."""
    file = importlib.resources.files(__package__).joinpath("published_figures.csv")
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(
        Figure(**row | {"value": float(row["value"]), "items": int(row["items"])}) for row in rows
    )


def with_published(plan: Plan, group: Group, row: dict[str, Any]) -> dict[str, Any]:
    """A row of evaluation.json with "published", the figures of the same protocol, if any; likewise
    its slices by source.
    """
    if not (known := _of_protocol(plan, group.benchmark, group.items)):
        return row
    metric, _, part = row["metric"].partition("/")
    parts = {part_of(group.task, item.annotation) for item in group.items}
    if part not in parts:  # then it is a protocol
        metric, part = row["metric"], parts.pop() if len(parts) == 1 else ""
    sources = {str(item.annotation.get("source", "")) for item in group.items}
    named = f"{group.benchmark.name} {pathlib.PurePath(group.benchmark.path).stem}"
    where = sources.pop() if len(sources) == 1 else ""
    found = row | _beside(known, metric, part, where or named, row["n"])
    if "slices" in row:
        found["slices"] = [
            one | _beside(known, metric, part, one["slice"], one["n"])
            if one["slice"].startswith("source=")
            else one
            for one in row["slices"]
        ]
    return found


def why_none(plan: Plan, benchmark: Asked, items: Iterable[Planned]) -> str:
    """Why no figure stands beside a benchmark's scores though some are published; "" where they do,
    or none are.
    """
    if benchmark.form in OTHER_PROTOCOLS:
        return OTHER_PROTOCOLS[benchmark.form]
    of_set = [one for one in figures() if one.set == _set_of(benchmark)]
    if not of_set or _of_protocol(plan, benchmark, items):
        return ""
    if benchmark.passed_over or plan.decoding.get("most_tokens"):
        return "a part of it was asked, or with another limit"
    *others, last = dict.fromkeys(one.model for one in of_set)
    models = f"{', '.join(others)} and {last}" if others else last
    return f"{models} were asked with their makers' prompts, and this was asked with others"


def _of_protocol(plan: Plan, benchmark: Asked, items: Iterable[Planned]) -> list[Figure]:
    """Those of the benchmark's set that were asked as it was here."""
    if benchmark.form != "originals" or benchmark.passed_over or plan.decoding.get("most_tokens"):
        return []
    own_words = {item.own_words for item in items if not item.failed}
    protocol = ""
    if own_words == {True}:
        protocol = "qwen2_audio"
    elif own_words == {False} and plan.model.get("conditioning") == "tags":
        protocol = "qwen_audio"
    name = _set_of(benchmark)
    return [one for one in figures() if (one.set, one.protocol) == (name, protocol)]


def _set_of(benchmark: Asked) -> str:
    if benchmark.form != "originals":
        return ""
    return originals.set_name(pathlib.Path(benchmark.path), benchmark.name)


def _beside(
    known: Iterable[Figure], metric: str, part: str, where: str, items: int
) -> Mapping[str, Any]:
    found = [
        {"model": one.model, "value": one.value, "table": one.table}
        for one in known
        if one.metric == metric and one.items == items
        if not one.split or one.split == part or _letters(one.split) in _letters(where)
    ]
    return {"published": found} if found else {}


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())
