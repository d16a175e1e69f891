"""What contamination does to the scores: with and without the items that a corpus holds."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qwen_audio_jax.evaluation.contamination import SAME_BYTES, Contamination
from qwen_audio_jax.evaluation.ngrams import COMMON, LONG, SHORT
from qwen_audio_jax.evaluation.plan import Asked, Plan
from qwen_audio_jax.metrics.scales import scale_of

RULE = (
    f"audio: the same samples at 16 kHz; text: any {LONG}-gram of words, {SHORT}-gram of texts of "
    f"fewer than {LONG}, that at most {COMMON} texts of the benchmark share; characters of scripts "
    "without spaces"
)

Rows = Sequence[Mapping[str, Any]]
RowsOf = Callable[[Plan], Rows]


def contamination_told(
    found: Contamination, plan: Plan, rows: Rows, rows_of: RowsOf
) -> dict[str, Any]:
    """The field "contamination" of summary.json.

    "against" has the corpora and their records; "benchmarks" of each, by name, how many items have
    their "audio" there, how many of them as "same_bytes", and how many of those with "text" to look
    for; the "items"; and the "scores": of all, "without_audio" that is there, and "without_any".

    Args:
        found: what the corpora hold.
        plan: of the evaluation.
        rows: of evaluation.json.
        rows_of: scores a part of the plan.
    """
    return {
        "rule": RULE,
        "against": dict(found.sources),
        "benchmarks": {
            one.name: _benchmark(one, found, plan, rows, rows_of) for one in plan.benchmarks
        },
    }


def _benchmark(
    benchmark: Asked, found: Contamination, plan: Plan, rows: Rows, rows_of: RowsOf
) -> dict[str, Any]:
    overlaps = {id_: one for (name, id_), one in found.overlaps.items() if name == benchmark.name}
    heard = {id_: one for id_, one in overlaps.items() if one.audio}
    any_ = {id_: one for id_, one in overlaps.items() if one.audio or one.text}
    told = {
        "asked": len(overlaps),
        "audio": len(heard),
        "same_bytes": sum(one.audio == SAME_BYTES for one in heard.values()),
        "text": sum(bool(one.text) for one in overlaps.values()),
        "with_text": sum(one.text is not None for one in overlaps.values()),
        "any": len(any_),
        "unread": found.unread.get(benchmark.name, 0),
        "items": [{"id": id_} | dataclasses.asdict(one) for id_, one in any_.items()],
    }
    if not any_:
        return told | {"scores": []}
    rest = []
    for out in (heard, any_):
        items = [one for one in plan.items if one.benchmark == benchmark.name and one.id not in out]
        part = rows_of(Plan(plan.model, plan.decoding, [benchmark], items))
        rest.append({(row["task"], row["metric"]): row for row in part})
    scores = [
        _picked(row)
        | {
            name: _picked(of.get((row["task"], row["metric"])))
            for name, of in zip(("without_audio", "without_any"), rest, strict=True)
        }
        | {"task": row["task"], "metric": row["metric"]}
        for row in rows
        if row["benchmark"] == benchmark.name and "control" not in row
    ]
    return told | {"scores": scores}


def _picked(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """A score; of no items it is None."""
    known = row or {"value": None, "n": 0}
    return {name: known[name] for name in ("value", "low", "high", "n") if name in known}


def contamination_notes(told: Mapping[str, Any]) -> Iterator[str]:
    """A sentence on what is held of each benchmark, and on each score that it touches.

    Args:
        told: summary.json.
    """
    contamination = told.get("contamination")
    if not contamination:
        return
    where = " and ".join(contamination["against"])
    for name, one in contamination["benchmarks"].items():
        unread = f"; {one['unread']:,} could not be decoded" if one["unread"] else ""
        text = (
            f", and of the {one['with_text']:,} that have texts of {SHORT} words or more those of "
            f"{one['text']:,}"
            if one["with_text"]
            else ""
        )
        yield (
            f"{name}: in {where} is the audio of {one['audio']:,} of {one['asked']:,} items{unread}"
            f"{text}"
        )
        for row in one["scores"]:
            untouched = row["without_any"]["n"] == row["n"]
            if "/" in row["metric"] or row["value"] is None or untouched:
                continue
            scale = scale_of(row["metric"])
            yield (
                f"{name}, {row['task']}: {scale.name} is {scale.text(row['value'])}, without items "
                f"whose audio is there {scale.text(row['without_audio']['value'])}, without those "
                f"of which anything is {scale.text(row['without_any']['value'])}"
            )
