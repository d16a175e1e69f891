"""How metrics are read: names, units, which direction is better, and the table for a terminal."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from qwen_audio_jax.tasks import CONVERSATIONS

_NOTHING = 1e-12
"""COCO's tools add as little to each count, so that nothing is divided by 0."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How to read a metric.

    Attributes:
        name: for people.
        unit: "%" (the value is a fraction), "of 100" (so too, but it is written without a unit, as
            BLEU is), "ms", "nats" or "".
        best: the value of a perfect answer; None if the metric has no bound.
        lower_is_better: the direction.
    """

    name: str
    unit: str
    best: float | None
    lower_is_better: bool = False

    def text(self, value: float | None) -> str:
        """The value with its unit, or a dash where it is undefined."""
        if value is None:
            return "-"
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        if self.unit == "of 100":
            return f"{100 * value:.1f}"
        if self.unit == "nats":
            return f"{value:.3f} nats"
        if self.unit == "ms":
            return f"{value:,.0f} ms"
        return f"{value:,.4g}" if abs(value) > _NOTHING else "0"


SCALES = {
    "wer": Scale("WER", "%", 0.0, lower_is_better=True),
    "cer": Scale("CER", "%", 0.0, lower_is_better=True),
    "aas_ms": Scale("Boundary shift (AAS)", "ms", 0.0, lower_is_better=True),
    "bleu": Scale("BLEU", "", 100.0),
    "cider": Scale("CIDEr-D", "", 10.0),
    "coco_bleu_1": Scale("COCO's BLEU-1", "of 100", 1.0),
    "coco_bleu_2": Scale("COCO's BLEU-2", "of 100", 1.0),
    "coco_bleu_3": Scale("COCO's BLEU-3", "of 100", 1.0),
    "coco_bleu_4": Scale("COCO's BLEU-4", "of 100", 1.0),
    "rouge_l": Scale("ROUGE-L", "", 1.0),
    "meteor": Scale("METEOR", "", 1.0),
    "spice": Scale("SPICE", "", 1.0),
    "spider": Scale("SPIDEr", "", None),
    "accuracy": Scale("Accuracy", "%", 1.0),
    "same_choice": Scale("Same choice in another order", "%", 1.0),
    "velocity_accuracy": Scale("Accuracy, velocity", "%", 1.0),
    "instrument_accuracy": Scale("Accuracy, instrument", "%", 1.0),
    "hallucinations": Scale("Hallucinations", "%", 0.0, lower_is_better=True),
    "missed_sounds": Scale("Sounds missed", "%", 0.0, lower_is_better=True),
    "wrong_counts": Scale("Wrong counts", "%", 0.0, lower_is_better=True),
    "undecided": Scale("Neither denied nor affirmed", "%", 0.0, lower_is_better=True),
    "ranking_accuracy": Scale("Chosen answer likelier", "%", 1.0),
    "reward_accuracy": Scale("Chosen answer gained more", "%", 1.0),
    "refusals": Scale("Refusals", "%", None),
    "judged": Scale("Judged by", "", 10.0),
    "scored_elsewhere": Scale("Scored by another program", "", None),
    "token_f1": Scale("Words shared (F1)", "%", 1.0),
    "event_f1_onset": Scale("Event F1, onsets", "%", 1.0),
    "event_f1_onset_offset": Scale("Event F1, onsets and offsets", "%", 1.0),
    "entity_f1_exact": Scale("Entity F1, exact", "%", 1.0),
    "der": Scale("DER", "%", 0.0, lower_is_better=True),
    "iou": Scale("Overlap in time (IoU)", "%", 1.0),
    "loss": Scale("Loss per token", "nats", 0.0, lower_is_better=True),
}


def scale_of(metric: str) -> Scale:
    """The metric's scale; one that is not listed shows as a plain number, higher is better.

    One of a part, "wer/fr", "accuracy/voice_chat/silence", has that in its name.
    """
    known, *parts = metric.split("/")
    if known not in SCALES:
        return Scale(metric, "", None)
    scale = SCALES[known]
    if known == "judged":  # the judge's name may have strokes of its own
        return dataclasses.replace(scale, name=f"{scale.name} {'/'.join(parts)}")
    return dataclasses.replace(scale, name=", ".join([scale.name, *parts]))


def gain(row: dict[str, Any]) -> float | None:
    """The share of the way from the baseline (0) to perfect (1); negative below the baseline.

    None where value or baseline is undefined, or nothing is left to gain.
    """
    best = scale_of(row["metric"]).best
    value, baseline = row["value"], row["baseline"]
    if None in (best, value, baseline) or best == baseline:
        return None
    return (value - baseline) / (best - baseline)


def verdict(row: dict[str, Any]) -> str:
    """Against the baseline: "better", "worse", "equal" as far as both are written, or "" where it
    cannot be told.
    """
    value, baseline = row["value"], row["baseline"]
    if value is None or baseline is None:
        return ""
    scale = scale_of(row["metric"])
    if scale.text(value) == scale.text(baseline):
        return "equal"
    return "better" if (value < baseline) == scale.lower_is_better else "worse"


_MOST_ROWS = 40


def parted(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows to show first, the rest) of a long table: the rest are languages, losses of tasks, and
    of conversations all but the accuracies.
    """
    if len(rows) <= _MOST_ROWS:
        return list(rows), []
    tasks = {row["task"] for row in rows if row["metric"] != "loss"}

    def is_detail(task: str, metric: str) -> bool:
        known, *parts = metric.split("/")
        if task in CONVERSATIONS and known == "accuracy":
            return False
        return bool(parts) or (known == "loss" and task in tasks)

    rest = [is_detail(row["task"], row["metric"]) for row in rows]
    first = [row for row, later in zip(rows, rest, strict=True) if not later]
    return first, [row for row, later in zip(rows, rest, strict=True) if later]


def evaluation_table(rows: list[dict[str, Any]]) -> rich.table.Table:
    """The rows of `qwen_audio_jax.metrics.score`, for printing with rich; of many, the first."""
    rows, rest = parted(rows)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    if rest:
        table.caption = f"{len(rest)} more, losses and languages, in evaluation.json and the report"
    before = any("before" in row for row in rows)
    for name, justify in (
        ("task", "left"),
        ("metric", "left"),
        *([("before", "right")] if before else []),
        ("value", "right"),
        ("baseline", "right"),
        ("n", "right"),
    ):
        # On a narrow terminal words are parted, and no column is left out.
        words = name in ("task", "metric")
        least = 12 if words else None
        table.add_column(name, justify=justify, no_wrap=not words, overflow="fold", min_width=least)
    colours = {"better": "green", "worse": "red"}
    task = None
    for row in rows:
        scale = scale_of(row["metric"])
        arrow = "↓" if scale.lower_is_better else "↑"
        table.add_row(
            # Text, not str: rich would read square brackets as markup.
            rich.text.Text("" if row["task"] == task else row["task"]),
            rich.text.Text(f"{scale.name} {arrow}"),
            *([rich.text.Text(scale.text(row.get("before")), style="dim")] if before else []),
            rich.text.Text(scale.text(row["value"]), style=colours.get(verdict(row), "")),
            rich.text.Text(scale.text(row["baseline"]), style="dim"),
            f"{row['n']:,}",
        )
        task = row["task"]
    return table
