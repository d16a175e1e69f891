"""The page of an evaluation: scores, slices, health, and every answer, some to listen to."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.control_rows import metric_text
from qwen_audio_jax.evaluation.health import SIGNS, Given, signs
from qwen_audio_jax.evaluation.item_health import language_of
from qwen_audio_jax.evaluation.listening import clips_of, items_of
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Plan, Planned
from qwen_audio_jax.evaluation.score_table import (
    columns,
    interval_text,
    published_text,
    rows_and_parts,
    value_text,
    warnings,
)
from qwen_audio_jax.evaluation.scoring import is_right
from qwen_audio_jax.evaluation.selection import spread
from qwen_audio_jax.inference.answers import FAILED, LENGTH
from qwen_audio_jax.metrics.scales import scale_of, verdict
from qwen_audio_jax.metrics.text import scoring_units
from qwen_audio_jax.monitoring.html_page import Clip, write_page
from qwen_audio_jax.tasks import KINDS

RIGHT, WRONG = "right", "wrong"

Pieces = Sequence[tuple[str, str]]
"""(kind, words) of a reference with an answer's edits: "same", "missing" or "added"."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """An answer as the page shows it.

    Attributes:
        benchmark, id, task, prompt, reference, answer: texts.
        failed: why there is no answer, one sentence.
        verdict: "right" or "wrong", by the task's own metric; "" where it has no such thing.
        signs: what is the matter with the answer, see `health`; "failed" among it.
        pieces: of reference and answer; none where words are not compared.
        clips: to listen to.
    """

    benchmark: str
    id: str
    task: str
    prompt: str
    reference: str
    answer: str
    failed: str
    verdict: str
    signs: Sequence[str]
    pieces: Pieces
    clips: Sequence[Clip]


def write_evaluation_page(
    path: pathlib.Path,
    plan: Plan,
    answered: Mapping[str, Answered],
    rows: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
    options: Options,
) -> None:
    """Writes the page; the answers stream into it, so that many take no memory.

    Args:
        path: of the file.
        plan, answered: what was asked and answered.
        rows: of evaluation.json.
        told: summary.json.
        options: how many answers have players.

    Raises:
        OSError: it cannot be written.
    """
    shown = columns(rows)
    first, rest = (
        [_named(row) | {"cells": {name: cell(row) for name, cell in shown.items()}} for row in some]
        for some in rows_and_parts(rows)
    )
    write_page(
        path,
        "qwen_audio_jax.evaluation",
        "evaluation.html",
        title=f"Evaluation of {plan.model['name']}",
        facts=_facts(plan),
        notes=warnings(rows, told),
        contamination=_contamination(told.get("contamination")),
        reasons={one["name"]: one["reasons"] for one in told["benchmarks"] if one["reasons"]},
        columns=list(shown),
        scores=first,
        more_scores=rest,
        slices=[_named(row) | {"parts": _parts(row)} for row in rows if "slices" in row],
        benchmarks=[one.name for one in plan.benchmarks],
        tasks=sorted({item.task for item in plan.items}),
        signs=["failed", *SIGNS],
        total=len(plan.items),
        answers=_shown(plan, answered, options.examples),
    )


def _facts(plan: Plan) -> dict[str, Any]:
    known = {name.replace("_", " "): value for name, value in (plan.model | plan.decoding).items()}
    return known | {"most tokens": known.get("most tokens") or "each benchmark's own limit"}


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row is of, and how it is read."""
    scale = scale_of(row["metric"])
    return {
        "benchmark": row["benchmark"],
        "task": row["task"],
        "metric": metric_text(row),
        "lower_is_better": scale.lower_is_better,
        "control": "control" in row,
        "verdict": verdict(dict(row)),
        "about": row.get("not_available") or row.get("signature", ""),
    }


def _contamination(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What corpora hold of the benchmarks, the scores in words."""
    if not told:
        return None
    benchmarks = {
        name: one | {"scores": list(map(_without_contamination, one["scores"]))}
        for name, one in told["benchmarks"].items()
    }
    return {**told, "benchmarks": benchmarks}


def _without_contamination(row: Mapping[str, Any]) -> dict[str, Any]:
    scale = scale_of(row["metric"])
    each = row, row["without_audio"], row["without_any"]
    values = [(scale.text(one["value"]), one["n"]) for one in each]
    return {"task": row["task"], "metric": scale.name, "values": values}


def _parts(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The slices of a row, as texts."""
    parts = [part | {"metric": row["metric"]} for part in row["slices"]]
    return [
        {
            "field": part["slice"].partition("=")[0].replace("_", " "),
            "of": part["slice"].partition("=")[2],
            "value": value_text(part),
            "interval": interval_text(part),
            "published": published_text(part),
            "n": part["n"],
        }
        for part in parts
    ]


def _shown(plan: Plan, answered: Mapping[str, Answered], players: int) -> Iterator[Shown]:
    places = [(item.benchmark, item.id) for item in plan.items]
    heard = items_of(plan, set(spread(places, players) if players else ()))
    for place, item in zip(places, plan.items, strict=True):
        yield _one(item, answered.get(item.key), clips_of(heard.get(place)))


def _one(item: Planned, answered: Answered | None, clips: Sequence[Clip]) -> Shown:
    texts = item.benchmark, item.id, item.task, item.prompt, item.reference
    if answered is None or answered.finish == FAILED:
        why = item.failed or (answered.error if answered else "it has no answer yet")
        return Shown(*texts, "", why, "", ("failed",), (), clips)
    text, language = answered.text, language_of(item)
    given = Given(text, item.reference, language, answered.finish == LENGTH, None)
    right, pieces = is_right(item, text), edited_words(item, text)
    if pieces:
        right = all(kind == "same" for kind, _ in pieces)
    told = "" if right is None else RIGHT if right else WRONG
    return Shown(*texts, text, "", told, signs(given), pieces, clips)


def edited_words(item: Planned, answer: str) -> Pieces:
    """`edited`, where an item's words are what its score counts; else nothing."""
    if KINDS[item.task].metric != "wer":
        return ()
    return edited(str(item.annotation.get("text") or ""), answer, item.annotation.get("language"))


def edited(reference: str, answer: str, language: object) -> list[tuple[str, str]]:
    """The words of a reference with what an answer leaves out and adds, in order.

    Returns:
        (kind, words) of each stretch: "same", "missing" or "added".
    """
    wanted, said = (scoring_units(text, language) for text in (reference, answer))
    pieces: list[tuple[str, str]] = []
    for kind, *places in Levenshtein.opcodes(wanted, said):
        w0, w1, s0, s1 = places
        if kind == "equal":
            pieces.append(("same", " ".join(wanted[w0:w1])))
            continue
        if w1 > w0:
            pieces.append(("missing", " ".join(wanted[w0:w1])))
        if s1 > s0:
            pieces.append(("added", " ".join(said[s0:s1])))
    return pieces
