"""Clips of an evaluation's items, to look at and listen to."""

import pathlib
from collections.abc import Collection

from qwen_audio_jax.evaluation.benchmarks import Item, open_benchmark
from qwen_audio_jax.evaluation.plan import Plan
from qwen_audio_jax.monitoring.html_page import Clip, clip_of


def items_of(plan: Plan, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Item]:
    """Items by benchmark and id; none of a benchmark that has gone.

    Args:
        plan: of the evaluation.
        wanted: benchmarks and ids.
    """
    found = {}
    for benchmark in plan.benchmarks:
        ids = {name for of, name in wanted if of == benchmark.name}
        if not ids:
            continue
        try:
            items = open_benchmark(benchmark.name, pathlib.Path(benchmark.path)).items
        except (ValueError, OSError):
            continue
        found |= {(benchmark.name, item.id): item for item in items if item.id in ids}
    return found


def clips_of(item: Item | None) -> list[Clip]:
    """The clips of an item; none where they cannot be read."""
    if item is None:
        return []
    try:
        clips = item.clips()
    except (ValueError, OSError):
        return []
    return [clip_of(clip, f"{item.id}, clip {n}") for n, clip in enumerate(clips, start=1)]
