"""The table of an evaluation, for a terminal."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from qwen_audio_jax.evaluation.contamination_scores import contamination_notes
from qwen_audio_jax.evaluation.control_rows import control_notes, metric_text
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
    """Scores with their intervals, and below them what became of all that was asked, and what else
    is not in the scores.

    Args:
        rows: of evaluation.json.
        told: summary.json.
    """
    notes = warnings(rows, told)
    rows, parts = rows_and_parts(rows)
    if parts:
        notes.insert(0, f"{len(parts):,} more rows, by language or kind, are on the page")
    caption = rich.text.Text("\n".join(notes), justify="left")
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, caption=caption)
    for name in ("benchmark", "task", "metric"):
        table.add_column(name, overflow="fold", min_width=8)
    # As the page's, but for the counts, which would leave no room on a terminal.
    shown = {name: text for name, text in columns(rows).items() if name not in _COUNTS}
    shown["scored"] = _scored_text
    for name in shown:
        table.add_column(name, justify="right", no_wrap=name not in ("value", OTHER, PUBLISHED))
    before = None, None
    for row in rows:
        scale = scale_of(row["metric"])
        arrow = "↓" if scale.lower_is_better else "↑"
        here = row["benchmark"], row["task"]
        table.add_row(
            # Text, not str: rich would read square brackets as markup.
            rich.text.Text("" if here[0] == before[0] else here[0]),
            # Blanks, at which a line may end.
            rich.text.Text("" if here == before else here[1].replace("_", " ")),
            rich.text.Text(f"{metric_text(row)}\u00a0{arrow}"),
            *(rich.text.Text(column(row), style=_style(row, name))
              for name, column in shown.items()),
        )  # fmt: skip
        before = here
    return table


OTHER, PUBLISHED = "other reading", "published"
LOSES = "control loses"
_COUNTS = ("scored", "unreadable", "failed", "left out")
_MOST_ROWS = 40


def rows_and_parts(rows: Sequence[Mapping[str, Any]]) -> tuple[list, list]:
    """(rows to show first, the rest) of a long table: the rest are of one language or kind."""
    if len(rows) <= _MOST_ROWS:
        return list(rows), []
    return [row for row in rows if "part" not in row], [row for row in rows if "part" in row]


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """By name what the columns of a table say of a row; only those in which any row has something.

    Args:
        rows: of evaluation.json.
    """
    every = {
        "value": value_text,
        "interval": interval_text,
        LOSES: loss_text,
        OTHER: other_text,
        "baseline": _baseline_text,
        PUBLISHED: published_text,
        **{name: functools.partial(_count_text, name.replace(" ", "_")) for name in _COUNTS},
    }
    needed = {
        LOSES: any(map(loss_text, rows)),
        OTHER: any(map(other_text, rows)),
        PUBLISHED: any(map(published_text, rows)),
        "unreadable": any("strict" in row or row.get("unreadable") for row in rows),
    }
    return {name: column for name, column in every.items() if needed.get(name, True)}


def _style(row: Mapping[str, Any], name: str) -> str:
    if name == "value":
        return _COLOURS.get(verdict(dict(row)), "")
    return "dim" if name in ("interval", OTHER, "baseline", PUBLISHED) else ""


def value_text(row: Mapping[str, Any]) -> str:
    """As "4.7 %"; "not available" where the metric cannot be computed here."""
    if row.get("not_available"):
        return "not available"
    return scale_of(row["metric"]).text(row["value"])


def _baseline_text(row: Mapping[str, Any]) -> str:
    return "" if row["baseline"] is None else scale_of(row["metric"]).text(row["baseline"])


def _count_text(name: str, row: Mapping[str, Any]) -> str:
    return "" if row.get("not_available") else f"{row[name]:,}"


def _scored_text(row: Mapping[str, Any]) -> str:
    return "" if row.get("not_available") else f"{row['scored']:,} of {row['asked']:,}"


def interval_text(row: Mapping[str, Any]) -> str:
    """As "4.1 % to 5.3 %"; "" where the metric has none."""
    if row.get("low") is None:
        return ""
    scale = scale_of(row["metric"])
    return f"{scale.text(row['low'])} to {scale.text(row['high'])}"


def loss_text(row: Mapping[str, Any]) -> str:
    """Of a control's row, how much worse it is than the score of the same items, with the interval:
    below 0 it is better.
    """
    if row.get("difference") is None:
        return ""
    scale = scale_of(row["metric"])
    ends = "difference_low", "difference_high"
    # Adding 0 makes a plain 0 of -0.
    if scale.lower_is_better:
        lost, ends = 0.0 - row["difference"], ends[::-1]
    else:
        lost = row["difference"]
    told = scale.text(lost)
    if row.get("difference_low") is None:
        return told
    within = (0.0 - row[end] if scale.lower_is_better else row[end] for end in ends)
    return f"{told} ({' to '.join(map(scale.text, within))})"


def other_text(row: Mapping[str, Any]) -> str:
    """The makers' value or that of all that was asked, where it is not the row's: "strict 31 %"."""
    scale = scale_of(row["metric"])
    said = [
        f"{name} {scale.text(row[name])}"
        for name in ("strict", "official")
        if row.get(name) is not None and row[name] != row["value"]
    ]
    return ", ".join(said)


def published_text(row: Mapping[str, Any]) -> str:
    """The figures of the same protocol, as "Qwen-Audio 2.0 %"; "" where there are none."""
    scale = scale_of(row["metric"])
    figures = row.get("published", ())
    return ", ".join(f"{one['model']} {scale.text(one['value'])}" for one in figures)


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
            for name in ("scored", "unreadable", "failed", "left_out")
        )
        over = f"; {one['passed_over']:,} more were not asked" if one["passed_over"] else ""
        lines.append(
            f"{one['name']}: of {one['asked']:,} asked {counts}{over}{_why(one['reasons'])}"
        )
        if one["published"]:
            lines.append(f"{one['name']}: no published figure stands beside: {one['published']}")
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
    return [*lines, *control_notes(rows), *contamination_notes(told)]


_LONGEST_REASON = 200


def _why(reasons: Mapping[str, int]) -> str:
    """The commonest reason why items failed or were left out, where there is any."""
    if not reasons:
        return ""
    reason, count = max(reasons.items(), key=lambda one: one[1])
    if len(reason) > _LONGEST_REASON:
        reason = reason[:_LONGEST_REASON] + "…"
    others = "; the page has the other reasons" if len(reasons) > 1 else ""
    return f"; {count:,} × {reason}{others}"
