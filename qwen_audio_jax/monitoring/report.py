"""`report.html`: a run's facts, curves, scores and held-out answers in one file to look at."""

import dataclasses
import html
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from qwen_audio_jax.metrics.classification import is_correct
from qwen_audio_jax.metrics.table import gain, scale_of, verdict
from qwen_audio_jax.monitoring.html_page import (
    RAW,
    SMOOTH,
    chart,
    clip_figure,
    facts,
    section,
    with_tags,
    write_page,
)
from qwen_audio_jax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Example:
    """A held-out record and the model's answer to it.

    Attributes:
        task: a key of `qwen_audio_jax.tasks.TASKS`.
        id: the record's.
        prompt: what the model was asked, as text.
        clips: encoded audio, as stored (FLAC, Ogg, WAV, MP3).
        reference: the right answer.
        hypothesis: the model's.
    """

    task: str
    id: str
    prompt: str
    clips: Sequence[bytes]
    reference: str
    hypothesis: str


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
        examples: held-out examples, in the order to show.
    """
    sections = (
        facts(run_info),
        section("Training", _curves(metrics)),
        section("Evaluation", _evaluation(evaluation)),
        section("Held-out examples", "".join(_card(e) for e in examples), "cards"),
    )
    write_page(path, title, sections)


# Curves -------------------------------------------------------------------------------------------


def _curves(metrics: list[dict[str, Any]]) -> str:
    # A resumed run logs some steps twice; the later line is the run that went on.
    rows = {row["step"]: row for row in metrics if "step" in row}
    panels = []
    for field, label, wide in (
        ("loss", "training loss", True),
        ("tokens_per_second", "tokens per second", False),
    ):
        points = [
            (step, float(row[field]))
            for step, row in sorted(rows.items())
            if isinstance(row.get(field), int | float) and np.isfinite(row[field])
        ]
        if points:
            steps, values = np.array(points).T
            panels.append(_curve(steps, values, label, wide))
    return f"<div class=curves>{''.join(panels)}</div>" if panels else ""


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred Gaussian average over about a thirtieth of the run, so that it does not lag."""
    sigma = len(values) / 60
    reach = min(int(3 * sigma), (len(values) - 1) // 2)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1.0)) ** 2)
    # Towards the ends fewer points lie within reach; the weights are those that do.
    weights = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / weights


def _curve(steps: np.ndarray, values: np.ndarray, label: str, wide: bool) -> str:
    smooth = _smoothed(values)

    def draw(axes: Axes) -> None:
        axes.plot(steps, values, color=RAW, linewidth=0.8, marker="." if len(steps) == 1 else "")
        axes.plot(steps, smooth, color=SMOOTH, linewidth=1.8)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6 if wide else 4)
        if label == "tokens per second":
            axes.set_ylim(bottom=0)

    said = (
        f"{label}: {values[0]:,.4g} at step {steps[0]:,.0f}, "
        f"{smooth[-1]:,.4g} (smoothed) at step {steps[-1]:,.0f}"
    )
    return chart(draw, label, said, wide=wide)


# Evaluation ---------------------------------------------------------------------------------------


def _evaluation(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    body, task = [], None
    for row in rows:
        scale, judged = scale_of(row["metric"]), verdict(row)
        arrow = "lower is better" if scale.lower_is_better else "higher is better"
        name = "" if row["task"] == task else html.escape(row["task"].replace("_", " "))
        task = row["task"]
        body.append(
            f"<tr><th scope=row>{name}</th>"
            f"<td>{html.escape(scale.name)} <span class=dim title='{arrow}' aria-label='{arrow}'>"
            f"{'↓' if scale.lower_is_better else '↑'}</span></td>"
            f"<td class='num value {judged}'>{html.escape(scale.text(row['value']))}</td>"
            f"<td class='num dim'>{html.escape(scale.text(row['baseline']))}</td>"
            f"<td>{_bar(row)}</td><td class='num dim'>{row['n']:,}</td></tr>"
        )
    return (
        "<div class=scroll tabindex=0><table><thead><tr>"
        "<th scope=col>Task</th><th scope=col>Metric</th>"
        "<th scope=col class=num>Value</th><th scope=col class=num>Baseline</th>"
        "<th scope=col>Against baseline</th><th scope=col class=num>n</th></tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
        "<p class=dim>The baseline is what one gets without listening: the commonest answer, an "
        "empty one, or evenly spread times. The bar is the share of the way from there to a "
        "perfect score; to the left, it is worse than not listening.</p>"
    )


def _bar(row: dict[str, Any]) -> str:
    share, judged = gain(row), verdict(row)
    if share is None:
        return f"<span class='{judged}'>{judged or '-'}</span>"
    length = 50 * min(1.0, abs(share))
    left = 50 if share >= 0 else 50 - length
    return (
        f"<span class=bar role=img aria-label='{judged}, {share:+.0%}'>"
        f"<span class='fill {judged}' style='left:{left:.1f}%;width:{length:.1f}%'></span></span>"
        f"<span class='share {judged}'>{share:+.0%}</span>"
    )


# Examples -----------------------------------------------------------------------------------------


def _card(example: Example) -> str:
    mark = ""
    if example.task in TASKS and TASKS[example.task].metric == "accuracy":
        right = is_correct(example.reference, example.hypothesis)
        mark = "<span class=right>✓ right</span>" if right else "<span class=wrong>✗ wrong</span>"
    texts = "".join(
        f"<dt>{name}</dt><dd dir=auto>{with_tags(text)}</dd>"
        for name, text in (
            ("Prompt", example.prompt),
            ("Reference", example.reference),
            ("Answer", example.hypothesis),
        )
    )
    clips = "".join(
        clip_figure(clip, f"{example.task} {example.id}, clip {i}")
        for i, clip in enumerate(example.clips, start=1)
    )
    return (
        f"<article><header><h3>{html.escape(example.task.replace('_', ' '))}</h3>{mark}"
        f"<span class=id>{html.escape(example.id)}</span></header>"
        f"{clips}<dl class=texts>{texts}</dl></article>"
    )
