"""`report.html`: a run's facts, curves, scores and answers in one file to look at."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from qwen_audio_jax.metrics.classification import is_correct
from qwen_audio_jax.metrics.conversation import is_said
from qwen_audio_jax.metrics.scales import gain, parted, scale_of, verdict
from qwen_audio_jax.monitoring.html_page import (
    INK,
    RAW,
    SMOOTH,
    Chart,
    Clip,
    chart,
    clip_of,
    write_page,
)
from qwen_audio_jax.tasks import KINDS


@dataclasses.dataclass(frozen=True)
class Example:
    """A record of a validation split and the model's answer to it.

    Attributes:
        task: a key of `qwen_audio_jax.tasks.KINDS`.
        id: the record's.
        prompt: what the model was asked, as text.
        clips: encoded audio, as stored (FLAC, Ogg, WAV, MP3).
        reference: the right answer.
        hypothesis: the model's.
        messages: of a conversation, which has more than the three texts.
        answers: by the number of a message, from 1, what the model said in its place.
        rejected: of a pair of answers the worse one, to which the reference is preferred.
    """

    task: str
    id: str
    prompt: str
    clips: Sequence[bytes]
    reference: str
    hypothesis: str
    messages: Sequence[dict[str, Any]] = ()
    answers: Mapping[int, str] = dataclasses.field(default_factory=dict)
    rejected: str = ""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    run_info: dict[str, Any],
    metrics: list[dict[str, Any]],
    evaluation: list[dict[str, Any]],
    examples: list[Example],
) -> None:
    """Writes the report; a reader sees either the old file or the new one, never half of one.

    Args:
        path: of the HTML file; its folder must exist.
        title: heading of the page.
        run_info: facts of the run by name, in the order to show: model, parameters, corpus ...
        metrics: the rows of `metrics.jsonl`.
        evaluation: the rows of `evaluation.json`.
        examples: examples, in the order to show.
    """
    first, rest = parted(evaluation)
    write_page(
        path,
        "qwen_audio_jax.monitoring",
        "report.html",
        title=title,
        run_info=run_info,
        charts=_charts(metrics),
        has_before=any("before" in row for row in evaluation),
        scores=[_score(row) for row in first],
        more_scores=[_score(row) for row in rest],
        examples=[_shown(example) for example in examples],
    )


# Curves -------------------------------------------------------------------------------------------


def _charts(metrics: list[dict[str, Any]]) -> list[Chart]:
    # A resumed run logs some steps twice; the later line is the run that went on.
    rows = {row["step"]: row for row in metrics if "step" in row}
    marks = [(text, _points(rows, field), filled) for text, field, filled in _HELD_OUT]
    marks = [mark for mark in marks if len(mark[1])]
    charts = []
    for field, label, wide in _CURVES:
        points = _points(rows, field)
        if len(points):
            steps, values = points.T
            charts.append(_curve(steps, values, label, wide, marks if field == "loss" else []))
    return charts


_CURVES = (
    ("loss", "training loss", True),
    ("tokens_per_second", "tokens per second", False),
    # Of pairs; a chosen answer that becomes less likely is the first sign of trouble.
    ("margin", "margin of rewards", True),
    ("accuracy", "share of pairs preferred rightly", False),
    ("log_probability_chosen", "log-probability of chosen answers", True),
    ("log_probability_rejected", "log-probability of rejected answers", False),
)
"""Of each curve its field, what it is called, whether it is a main one."""

_HELD_OUT = (
    ("held-out loss, another clip", "validation_loss_another_clip", False),
    ("held-out loss", "validation_loss", True),
)
"""Of the marks on the loss curve: what they are called, their field, whether they are filled."""


def _points(rows: dict[int, dict[str, Any]], field: str) -> np.ndarray:
    """Steps and values, [n, 2], of the rows that have one that is a number."""
    return np.array(
        [
            (step, float(row[field]))
            for step, row in sorted(rows.items())
            if isinstance(row.get(field), int | float) and np.isfinite(row[field])
        ]
    )


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred Gaussian average over about a thirtieth of the run, so that it does not lag."""
    sigma = len(values) / 60
    reach = min(int(3 * sigma), (len(values) - 1) // 2)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1.0)) ** 2)
    # Towards the ends fewer points lie within reach; the weights are those that do.
    weights = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / weights


def _curve(
    steps: np.ndarray,
    values: np.ndarray,
    label: str,
    wide: bool,
    marks: list[tuple[str, np.ndarray, bool]],
) -> Chart:
    """Args: marks: further points (what they are called, [n, 2], whether they are filled)."""
    smooth = _smoothed(values)

    def draw(axes: Axes) -> None:
        axes.plot(steps, values, color=RAW, linewidth=0.8, marker="." if len(steps) == 1 else "")
        axes.plot(steps, smooth, color=SMOOTH, linewidth=1.8, label=label)
        for name, points, filled in marks:
            axes.plot(
                *points.T,
                color=INK,
                linewidth=0.9,
                linestyle="-" if filled else "--",
                marker="o",
                markersize=4 if filled else 7,  # around the other, where they are one
                fillstyle="full" if filled else "none",
                label=name,
            )
        if marks:
            axes.legend(frameon=False, labelcolor=INK, fontsize=9)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6 if wide else 4)
        if label == "tokens per second":
            axes.set_ylim(bottom=0)

    said = (
        f"{label}: {values[0]:,.4g} at step {steps[0]:,.0f}, "
        f"{smooth[-1]:,.4g} (smoothed) at step {steps[-1]:,.0f}"
    )
    for name, points, _ in reversed(marks):
        least, last = points[points[:, 1].argmin()], points[-1]
        said += f"; {name}: {last[1]:,.4g} at step {last[0]:,.0f}"
        if least[0] != last[0]:
            said += f", {least[1]:,.4g} at step {least[0]:,.0f}, where it was lowest"
    return chart(draw, label, said, wide=wide)


# Evaluation ---------------------------------------------------------------------------------------


def _score(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the table; `left` and `width` are those of its bar, in percent of the track."""
    scale, share = scale_of(row["metric"]), gain(row)
    width = 50 * min(1.0, abs(share or 0.0))
    return {
        "task": row["task"],
        "metric": scale.name,
        "lower_is_better": scale.lower_is_better,
        "before": scale.text(row.get("before")),
        "value": scale.text(row["value"]),
        "baseline": scale.text(row["baseline"]),
        "verdict": verdict(row),
        "gain": "" if share is None else f"{share or 0.0:+.0%}",
        "left": 50 - width if share is not None and share < 0 else 50,
        "width": width,
        "n": row["n"],
    }


# Examples -----------------------------------------------------------------------------------------


def _shown(example: Example) -> dict[str, Any]:
    """What a card shows; `right` is None where answers are not simply right or wrong."""
    clips = [
        clip_of(clip, f"{example.task} {example.id}, clip {number}")
        for number, clip in enumerate(example.clips, start=1)
    ]
    shown = {"task": example.task, "id": example.id, "right": None, "turns": [], "texts": {}}
    if example.messages:
        return shown | {"clips": [], "turns": _turns(example, clips)}
    if example.task in KINDS and KINDS[example.task].metric == "accuracy":
        shown["right"] = is_correct(example.reference, example.hypothesis)
    texts = {"Prompt": example.prompt, "Reference": example.reference}
    if example.rejected:
        texts["Rejected"] = example.rejected
    texts["Answer"] = example.hypothesis
    return shown | {"clips": clips, "texts": texts}


def _turns(example: Example, clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """The messages of a conversation: who speaks, what is heard and written, what was answered."""
    left, turns = iter(clips), []
    for number, message in enumerate(example.messages, start=1):
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else content
        written = "".join(part.get("text", "") for part in parts)
        answer = example.answers.get(number)
        turns.append(
            {
                "role": message["role"],
                # A clip where the message has it, else a text.
                "parts": [
                    next(left) if part.get("type") == "audio" else part["text"] for part in parts
                ],
                "answer": answer,
                "right": answer is not None and is_said(written, answer),
            }
        )
    return turns
