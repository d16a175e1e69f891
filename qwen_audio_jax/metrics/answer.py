"""What a metric reads and what it writes."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Answer:
    """A model's answer to one record.

    Attributes:
        annotation: the record's labels, see `data_pipelines.records.Record`.
        hypothesis: the decoded output up to the end token. Tags (`<|en|>`, `<|0.54|>`) are still in
            it, as text.
        exact: whether it is the label, character by character; `score` finds out. A label whose
            text looks like a tag cannot be read back from it, and is right all the same.
    """

    annotation: dict[str, Any]
    hypothesis: str
    exact: bool = False


def text_of(annotation: dict[str, Any], field: str = "text") -> str:
    """A field as the label writes it; "" where there is none."""
    return "" if annotation.get(field) is None else str(annotation[field])


def summed(counts: Iterable[Mapping[str, float]], width: int) -> tuple[float, ...]:
    """The sums of counts that have the same `width` names, in the names' order; 0 of none."""
    columns = zip(*(one.values() for one in counts), strict=True)
    return tuple(map(sum, columns)) or (0,) * width


def table_row(metric: str, value: float | None, baseline: float | None, n: int) -> dict[str, Any]:
    """One row of an evaluation, in plain JSON types; None stands for "undefined on this set".

    Args:
        metric: its name, a key of `qwen_audio_jax.metrics.scales.SCALES`.
        value: the model's score.
        baseline: what one gets without listening; each metric says how.
        n: how many answers were scored.
    """
    return {
        "metric": metric,
        "value": None if value is None else float(value),
        "baseline": None if baseline is None else float(baseline),
        "n": n,
    }
