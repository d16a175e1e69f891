"""The table of an evaluation, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from qwen_audio_jax.evaluation.health import (
    EMPTY,
    LOOPING,
    PREAMBLE,
    TRUNCATED,
    WRONG_LANGUAGE,
)
from qwen_audio_jax.evaluation.judged_scores import judge_notes
from qwen_audio_jax.metrics.scales import scale_of, verdict

_COLOURS = {"better": "green", "worse": "red"}


_SIGNS = {
    EMPTY: "are empty",
    TRUNCATED: "were cut by their limit",
    LOOPING: "end in a loop",
    PREAMBLE: "begin with a preamble",
    WRONG_LANGUAGE: "are in letters of another language",
}


def score_table(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> rich.table.Table:
    """Scores with their intervals, and below them what is not in them.

    Args:
        rows: of evaluation.json.
        told: summary.json.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, caption=_caption(rows, told))
    for name in ("benchmark", "task", "metric"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in ("value", "interval", "baseline", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None, None
    for row in rows:
        scale = scale_of(row["metric"])
        arrow = "↓" if scale.lower_is_better else "↑"
        here = row["benchmark"], row["task"]
        table.add_row(
            # Text, not str: rich would read square brackets as markup.
            rich.text.Text("" if here[0] == before[0] else here[0]),
            rich.text.Text("" if here == before else here[1]),
            rich.text.Text(f"{scale.name} {arrow}"),
            rich.text.Text(scale.text(row["value"]), style=_COLOURS.get(verdict(dict(row)), "")),
            rich.text.Text(interval_text(row), style="dim"),
            rich.text.Text(scale.text(row["baseline"]), style="dim"),
            f"{row['n']:,}",
        )
        before = here
    return table


def interval_text(row: Mapping[str, Any]) -> str:
    """As "4.1 % to 5.3 %"; "" where the metric has none."""
    if row.get("low") is None:
        return ""
    scale = scale_of(row["metric"])
    return f"{scale.text(row['low'])} to {scale.text(row['high'])}"


def warnings(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> list[str]:
    """A sentence on each thing of a benchmark that its scores do not tell.

    Args:
        rows: of evaluation.json.
        told: summary.json.
    """
    lines = judge_notes(rows)
    for one in told["benchmarks"]:
        counts = ", ".join(
            f"{one[name]:,} {name.replace('_', ' ')}"
            for name in ("failed", "left_out", "passed_over")
            if one[name]
        )
        lines.append(f"{one['name']}: {one['asked']:,} asked" + (f", {counts}" if counts else ""))
        ill = [
            f"{share['count']:,} of {share['of']:,} {_SIGNS[name]}"
            for name, share in one["health"].items()
            if name in _SIGNS and share["count"]
        ]
        if ill:
            lines.append(f"{one['name']}: of the answers {', '.join(ill)}")
        if windows := one.get("windows"):
            ill = [
                f"{windows[name]:,} {told}"
                for name, told in ({"failed": "failed"} | _SIGNS).items()
                if windows.get(name)
            ]
            lines.append(
                f"{one['name']}: long recordings, {windows['recordings']:,} of them, were asked in "
                f"{windows['windows']:,} windows" + (f", of which {', '.join(ill)}" if ill else "")
            )
        commonest = one["health"].get("commonest_answer")
        if commonest and commonest["suspicious"]:
            lines.append(
                f"{one['name']}: {commonest['count']:,} of {commonest['of']:,} clips get the same "
                f"answer, {commonest['text'][:60]!r}: does the model hear them?"
            )
    return lines


def _caption(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> rich.text.Text:
    return rich.text.Text("\n".join(warnings(rows, told)), justify="left")
