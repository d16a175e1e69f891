"""Which records of a split are evaluated, and why one is not."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.records import IndexRow, Record

UNFIT = (ValueError, TypeError, LookupError, AttributeError)
"""What rendering raises where an annotation does not fit its task."""


def spread(numbers: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of the numbers, evenly spread; all if it is 0."""
    if not 0 < limit < len(numbers):
        return list(numbers)
    places = np.linspace(0, len(numbers) - 1, limit).round().astype(int)
    return [numbers[place] for place in places]


def reason(record: Record | IndexRow, error: Exception) -> str:
    """Why a record cannot be asked, in a sentence."""
    if isinstance(error, ValueError):
        return str(error)
    return f"its annotation does not fit task {record.task!r} ({error!r}); build the corpus again"
