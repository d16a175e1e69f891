"""The page of an evaluation: scores, health, and every answer, some of them to listen to."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.benchmarks import Item, open_benchmark
from qwen_audio_jax.evaluation.health import Given, signs
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Plan, Planned
from qwen_audio_jax.evaluation.score_table import interval_text, warnings
from qwen_audio_jax.evaluation.scoring import item_counts, language_of
from qwen_audio_jax.evaluation.selection import spread
from qwen_audio_jax.inference.answers import FAILED, LENGTH
from qwen_audio_jax.metrics.scales import scale_of, verdict
from qwen_audio_jax.metrics.text import scoring_units
from qwen_audio_jax.monitoring.html_page import Clip, clip_of, write_page
from qwen_audio_jax.tasks import KINDS

RIGHT, WRONG = "right", "wrong"


@dataclasses.dataclass(frozen=True)
class Shown:
    """An answer as the page shows it.

    Attributes:
        benchmark, id, task, prompt, reference, answer: texts.
        verdict: "right" or "wrong", by the task's own metric; "" where it has no such thing.
        signs: what is the matter with the answer, see `health`; "failed" among it.
        pieces: (kind, text) of the reference with the answer's edits: "same", "missing" or "added";
            none where words are not compared.
        clips: to listen to.
    """

    benchmark: str
    id: str
    task: str
    prompt: str
    reference: str
    answer: str
    verdict: str
    signs: Sequence[str]
    pieces: Sequence[tuple[str, str]]
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
    write_page(
        path,
        "qwen_audio_jax.evaluation",
        "evaluation.html",
        title=f"Evaluation of {plan.model['name']}",
        facts={
            name.replace("_", " "): value for name, value in (plan.model | plan.decoding).items()
        },
        notes=warnings(rows, told),
        reasons={one["name"]: one["reasons"] for one in told["benchmarks"] if one["reasons"]},
        scores=list(map(_score, rows)),
        total=len(plan.items),
        answers=_shown(plan, answered, options.examples),
    )


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    scale = scale_of(row["metric"])
    return {
        **row,
        "metric": scale.name,
        "lower_is_better": scale.lower_is_better,
        "value": scale.text(row["value"]),
        "interval": interval_text(row),
        "baseline": scale.text(row["baseline"]),
        "verdict": verdict(dict(row)),
        "signature": row.get("signature", ""),
    }


def _shown(plan: Plan, answered: Mapping[str, Answered], players: int) -> Iterator[Shown]:
    heard = _items(plan, set(spread(range(len(plan.items)), players) if players else ()))
    for number, item in enumerate(plan.items):
        yield _one(item, answered.get(item.key), _clips(heard.get(number)))


def _items(plan: Plan, numbers: set[int]) -> dict[int, Item]:
    """The items to listen to; none of a benchmark that has gone."""
    found: dict[int, Item] = {}
    for benchmark in plan.benchmarks:
        wanted = {plan.items[n].id: n for n in numbers if plan.items[n].benchmark == benchmark.name}
        try:
            items = open_benchmark(benchmark.name, pathlib.Path(benchmark.path)).items
        except (ValueError, OSError):
            continue
        found |= {wanted[item.id]: item for item in items if item.id in wanted}
    return found


def _clips(item: Item | None) -> list[Clip]:
    if item is None:
        return []
    try:
        clips = item.clips()
    except (ValueError, OSError):
        return []
    return [clip_of(clip, f"{item.id}, clip {n}") for n, clip in enumerate(clips, start=1)]


def _one(item: Planned, answered: Answered | None, clips: Sequence[Clip]) -> Shown:
    texts = item.benchmark, item.id, item.task.replace("_", " "), item.prompt, item.reference
    if answered is None or answered.finish == FAILED:
        why = item.failed or (answered.error if answered else "it has no answer yet")
        return Shown(*texts, why, "", ("failed",), (), clips)
    language = item.annotation.get("language")
    given = Given(answered.text, item.reference, language_of(item), answered.finish == LENGTH, None)
    counts = item_counts(item, answered.text).get("accuracy")
    right = "" if counts is None else RIGHT if counts[0] else WRONG
    pieces: Sequence[tuple[str, str]] = ()
    if KINDS[item.task].metric == "wer":
        pieces = edited(item.reference, answered.text, language)
        right = RIGHT if all(kind == "same" for kind, _ in pieces) else WRONG
    return Shown(*texts, answered.text, right, signs(given), pieces, clips)


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
