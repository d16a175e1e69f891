"""Two finished evaluations compared: from their folders to a table, a list and a page."""

import dataclasses
import json
import pathlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import rich.table

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.compare import Evaluated, Outcome, compare, comparison_table
from qwen_audio_jax.evaluation.compare_page import write_comparison_page
from qwen_audio_jax.evaluation.judge_calls import Replies, judged_counts, read_judges
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Plan, Planned, replace
from qwen_audio_jax.evaluation.recordings import read_evaluation
from qwen_audio_jax.evaluation.scoring import cluster_of, fields_of, scored_groups
from qwen_audio_jax.inference.answers import FAILED, STOP
from qwen_audio_jax.metrics.protocols import PROTOCOLS

LIST_FILE, PAGE_FILE = "comparison.json", "comparison.html"

Answers = Mapping[str, Answered]


def comparison(
    a: pathlib.Path, b: pathlib.Path, folder: pathlib.Path, options: Options
) -> rich.table.Table:
    """How two models differ that were asked the same; needs neither of them.

    Args:
        a, b: folders of the evaluations.
        folder: where the list and the page go.
        options: draws, protocols, and how many items have players.

    Raises:
        ValueError, OSError: a folder is no evaluation, or they are not of the same data.
    """
    plans, answers = zip(*map(_read, (a, b)), strict=True)
    shared = set.intersection(*({_key(one) for one in plan.items if one.key} for plan in plans))
    sides = [
        _evaluated(path, plan, answered, shared, options)
        for path, plan, answered in zip((a, b), plans, answers, strict=True)
    ]
    found = compare(*sides, draws=options.draws or 1000, seed=options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(found), indent=1, ensure_ascii=False)
    replace(folder / LIST_FILE, [text + "\n"])
    write_comparison_page(folder / PAGE_FILE, found, plans, options.examples)
    return comparison_table(found)


def _read(folder: pathlib.Path) -> tuple[Plan, Answers]:
    plan, answered = read_evaluation(folder)
    if missing := sum(bool(one.key) and one.key not in answered for one in plan.items):
        raise ValueError(
            f"{folder}: {missing:,} of {len(plan.items):,} questions have no answer yet; "
            "finish it first"
        )
    return plan, answered


def _key(item: Planned) -> str:
    return f"{item.benchmark}/{item.id}"


def _evaluated(
    folder: pathlib.Path, plan: Plan, answered: Answers, shared: Collection[str], options: Options
) -> Evaluated:
    """One of the two, with what each answer counts where both were asked.

    Counts may depend on the set, as n-grams of captions weigh by how rare they are. So they are of
    all that both were asked, failed answers as empty ones, which then do not count.
    """
    whole = {
        key: dataclasses.replace(one, text="", finish=STOP) if one.finish == FAILED else one
        for key, one in answered.items()
    }
    items = [item for item in plan.items if _key(item) in shared]
    counts: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
    uncompared = []
    for group in scored_groups(dataclasses.replace(plan, items=items), whole, options):
        for row, columns in group.scored:
            if row["metric"].partition("/")[2] in {*group.parts} - {""}:
                continue  # languages are slices here
            if columns is None and row["value"] is not None:
                uncompared.append((_task(group.pairs[0][0]), row["metric"]))
            for (item, _), of_item in zip(group.pairs, columns or [], strict=columns is not None):
                counts[_key(item)][row["metric"]] = of_item
    judges = read_judges(folder)
    outcomes = [
        _outcome(item, answered.get(item.key), counts[_key(item)], judges) for item in plan.items
    ]
    data = ", ".join(f"{one.name} {one.digest}" for one in plan.benchmarks)
    protocol = f"{json.dumps(plan.decoding)}, {PROTOCOLS['v1'].signature}"
    return Evaluated(str(folder), data, protocol, outcomes, uncompared)


def _outcome(
    item: Planned,
    answered: Answered | None,
    counts: dict[str, tuple[float, ...]],
    judges: Sequence[Replies],
) -> Outcome:
    key, task, cluster = _key(item), _task(item), cluster_of(item.annotation)
    if answered is None or answered.finish == FAILED:
        return Outcome(key, task, {}, "", _truth(item), cluster, item.annotation)
    fields = fields_of(item, answered)
    counts = counts | judged_counts(item, answered.text, judges)
    return Outcome(key, task, counts, answered.text, _truth(item), cluster, fields)


def _task(item: Planned) -> str:
    return f"{item.benchmark}: {item.task}"


def _truth(item: Planned) -> str:
    """What is right, whatever form the model was to write it in."""
    text = item.annotation.get("text")
    return text if isinstance(text, str) else json.dumps(item.annotation, sort_keys=True)
