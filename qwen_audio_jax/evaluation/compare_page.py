"""The page of two evaluations compared: the differences, and the items that changed most."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from qwen_audio_jax.evaluation.compare import Comparison, Difference, direction, not_told
from qwen_audio_jax.evaluation.listening import clips_of, items_of
from qwen_audio_jax.evaluation.page import Pieces, edited_words
from qwen_audio_jax.evaluation.plan import Plan, Planned
from qwen_audio_jax.evaluation.score_table import interval_text
from qwen_audio_jax.metrics.scales import scale_of
from qwen_audio_jax.monitoring.html_page import Clip, write_page


@dataclasses.dataclass(frozen=True)
class ShownChange:
    """An item that changed, as the page shows it.

    Attributes:
        task, metric, key: of what score which item.
        change: what it adds to the difference, as text.
        verdict: "right" where B is better, "wrong" where it is worse.
        prompt, reference: what was asked, and what is right.
        answers: of A and B, each with the words that it has otherwise, if words are compared.
        clips: to listen to.
    """

    task: str
    metric: str
    key: str
    change: str
    verdict: str
    prompt: str
    reference: str
    answers: Sequence[tuple[str, str, Pieces]]
    clips: Sequence[Clip]


def write_comparison_page(
    path: pathlib.Path, found: Comparison, plans: Sequence[Plan], players: int
) -> None:
    """Writes the page.

    Args:
        path: of the file.
        found: the differences.
        plans: A's and B's.
        players: how many items have players at most.

    Raises:
        OSError: it cannot be written.
    """
    write_page(
        path,
        "qwen_audio_jax.evaluation",
        "comparison.html",
        title=f"{found.names[0]} (A) and {found.names[1]} (B)",
        facts={
            f"{side}, {name}": value
            for side, plan in zip("AB", plans, strict=True)
            for name, value in plan.model.items()
        },
        notes=not_told(found),
        differences=[_difference(one) for one in found.differences],
        total=sum(len(one.changed) for one in found.differences),
        changed=_changed(found, plans[0], players),
    )


def _difference(one: Difference) -> dict[str, Any]:
    scale, of = scale_of(one.metric), one.paired
    ends = {"metric": one.metric, "low": of.low, "high": of.high}
    return {
        "task": one.task,
        "metric": scale.name,
        "lower_is_better": scale.lower_is_better,
        "slice": one.slice,
        "verdict": direction(one),
        "cells": {
            "A": scale.text(one.a),
            "B": scale.text(one.b),
            "B - A": scale.text(of.difference),
            "interval": interval_text(ends),
            "p": "" if of.p is None else f"{of.p:.3f}",
            "better": f"{of.wins:,}",
            "worse": f"{of.losses:,}",
            "same": f"{of.ties:,}",
            "n": f"{one.n:,}",
        },
    }


def _changed(found: Comparison, plan: Plan, players: int) -> Iterator[ShownChange]:
    by_key = {f"{item.benchmark}/{item.id}": item for item in plan.items}
    # Of each score the first, then of each the second: so that every one has some to listen to.
    ranked = sorted(
        (place, one.key)
        for difference in found.differences
        for place, one in enumerate(difference.changed)
    )
    chosen = list(dict.fromkeys(key for _, key in ranked))[:players]
    heard = items_of(plan, {(by_key[key].benchmark, by_key[key].id) for key in chosen})
    for difference in found.differences:
        scale = scale_of(difference.metric)
        for one in difference.changed:
            item = by_key[one.key]
            yield ShownChange(
                difference.task,
                scale.name,
                one.key,
                f"{'+' if one.contribution > 0 else ''}{scale.text(one.contribution)}",
                "right" if (one.contribution < 0) == scale.lower_is_better else "wrong",
                item.prompt,
                one.reference,
                [_answer("A", item, one.answer_a), _answer("B", item, one.answer_b)],
                clips_of(heard.get((item.benchmark, item.id))),
            )


def _answer(side: str, item: Planned, text: str) -> tuple[str, str, Pieces]:
    pieces = edited_words(item, text)
    return side, text, pieces if any(kind != "same" for kind, _ in pieces) else ()
