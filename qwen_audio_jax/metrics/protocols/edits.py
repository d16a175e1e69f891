"""What a hypothesis costs against its reference, in units; rates are sums over the set."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein


class EditCounts(NamedTuple):
    """Units of a cheapest alignment; one edit costs one."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> EditCounts:
    """Counts of one pair. An empty reference counts the hypothesis as insertions."""
    operations = Levenshtein.editops(reference, hypothesis).as_list()
    kinds = [kind for kind, *_ in operations]
    substitutions, deletions = kinds.count("replace"), kinds.count("delete")
    return EditCounts(
        hits=len(reference) - substitutions - deletions,
        substitutions=substitutions,
        deletions=deletions,
        insertions=kinds.count("insert"),
    )


def error_rate(counts: Iterable[EditCounts]) -> float | None:
    """Edits over reference length, both summed over the set; None if the references are empty."""
    edits = length = 0
    for one in counts:
        edits += one.edits
        length += one.reference_length
    return edits / length if length else None
