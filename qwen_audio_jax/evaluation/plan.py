"""What an evaluation asks, on disk: with the answers it is all that scoring needs."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

PLAN_FILE, ITEMS_FILE = "plan.json", "items.jsonl"


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of a recording that is asked on its own.

    Attributes:
        key: of its answer.
        samples: of it, at 16 kHz.
        row: id of the list's row that it is of; the item's, unless that is of several rows.
    """

    key: str
    samples: int
    row: str


@dataclasses.dataclass(frozen=True)
class Planned:
    """An item of a benchmark as the model is asked it.

    Attributes:
        benchmark, id, task, annotation: the item's.
        key: of its answer, see `asking.Question`; "" where it cannot be asked. Where it is asked in
            windows, that of all of them, see `recordings.with_whole_answers`.
        prompt: for people.
        reference: the right answer as the model would write it; as the benchmark has it where that
            asks in its own words.
        own_words: whether it does.
        audio: digests of its clips.
        choices, rule: of which one is the answer, and how the benchmark's scorer reads it.
        failed: why it cannot be asked, one sentence.
        windows: in order, of a recording that is longer than a model hears at once.
    """

    benchmark: str
    id: str
    task: str
    annotation: dict[str, Any]
    key: str = ""
    prompt: str = ""
    reference: str = ""
    own_words: bool = False
    audio: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    rule: str = ""
    failed: str = ""
    windows: tuple[Window, ...] = ()


@dataclasses.dataclass(frozen=True)
class Asked:
    """A benchmark that is asked.

    Attributes:
        name, form, digest: see `benchmarks.Benchmark`.
        path: where it was read from.
        items: how many are asked.
        passed_over: how many are not since fewer were wanted.
        left_out: rows that cannot be items: their number or id, and the reason.
    """

    name: str
    form: str
    digest: str
    path: str
    items: int
    passed_over: int
    left_out: tuple[tuple[int | str, str], ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """An evaluation.

    Attributes:
        model: what answers: "checkpoint", "weights", "family" ...
        decoding: how.
        benchmarks: what is asked.
        items: of all benchmarks, in their order.
    """

    model: dict[str, Any]
    decoding: dict[str, Any]
    benchmarks: Sequence[Asked]
    items: Sequence[Planned]


def write_plan(folder: pathlib.Path, plan: Plan) -> None:
    """Writes it, each file whole or not at all."""
    lines = (json.dumps(dataclasses.asdict(item)) + "\n" for item in plan.items)
    replace(folder / ITEMS_FILE, lines)
    told = {
        "model": plan.model,
        "decoding": plan.decoding,
        "benchmarks": [dataclasses.asdict(one) for one in plan.benchmarks],
    }
    replace(folder / PLAN_FILE, [json.dumps(told, indent=1) + "\n"])


def read_plan(folder: pathlib.Path) -> Plan:
    """Reads it.

    Raises:
        FileNotFoundError: the folder is no evaluation.
        ValueError: its files are damaged.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: is no evaluation, as it has no {PLAN_FILE}; give the --workdir of one"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        with (folder / ITEMS_FILE).open(encoding="utf-8") as file:
            items = [planned_of(json.loads(line)) for line in file]
        benchmarks = [Asked(**one) for one in told["benchmarks"]]
        if len(items) != (wanted := sum(one.items for one in benchmarks)):
            raise ValueError(f"{len(items):,} items of {wanted:,}")
        return Plan(told["model"], told["decoding"], benchmarks, items)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: {PLAN_FILE} or {ITEMS_FILE} is damaged ({error}); answer again, which asks "
            "for nothing that is answered"
        ) from None


def planned_of(fields: dict[str, Any]) -> Planned:
    """An item of its JSON fields. Raises KeyError, TypeError: they are not those of one."""
    texts = {name: tuple(fields[name]) for name in ("audio", "choices")}
    windows = tuple(Window(**window) for window in fields.get("windows", ()))
    # Items of before had no reference where they were asked so.
    own_words = fields.get("own_words", not fields["reference"])
    return Planned(**fields | texts | {"windows": windows, "own_words": own_words})


def right_text(annotation: dict[str, Any]) -> str:
    """What is right of an item that is asked in a benchmark's own words; "" where that is not
    written down.
    """
    text = annotation.get("text")
    return "\n".join(text) if isinstance(text, list) else str(text or "")


def replace(path: pathlib.Path, texts: Iterable[str]) -> None:
    """Writes a file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(texts)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
