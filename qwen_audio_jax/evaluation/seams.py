"""Errors near the cuts between a recording's windows, and those elsewhere."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Editops, Levenshtein

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.plan import Planned
from qwen_audio_jax.evaluation.recordings import joined
from qwen_audio_jax.metrics.answer import table_row, text_of
from qwen_audio_jax.metrics.protocols import PROTOCOLS

NEAR = 3
"""Words, or characters in languages without spaces, on each side of a cut: about a second."""

_SIGNATURE = f"{PROTOCOLS['v1'].signature}|near:{NEAR} units on each side of a cut"

Rate = tuple[float, float]
"""Edits and words of the reference."""


def seam_counts(reference: str, texts: Sequence[str], language: object) -> tuple[Rate, Rate]:
    """Errors near the cuts, and elsewhere; together those of the whole transcript.

    Lists of speech tell no times of words, so what is near is counted in words. Between which words
    of the answer a cut lies is known exactly: the windows' answers meet there. Where it lies in the
    reference is what an alignment with the fewest edits makes of it; where words are missing at a
    cut, it lies before the first of them and behind the last.

    Args:
        reference: of the whole recording.
        texts: of each window.
        language: of both, a code or None.
    """
    units = PROTOCOLS["v1"].units
    wanted, said = units(reference, language), units(joined(texts, language), language)
    cuts = [len(units(joined(texts[:n], language), language)) for n in range(1, len(texts))]
    edits = Levenshtein.editops(wanted, said)
    near_said = _near(cuts, len(said))
    near_wanted = _near(_in_reference(edits, cuts, len(wanted)), len(wanted))
    close = sum(
        edit.dest_pos in near_said if edit.tag == "insert" else edit.src_pos in near_wanted
        for edit in edits
    )
    return (close, len(near_wanted)), (len(edits) - close, len(wanted) - len(near_wanted))


def _near(cuts: Sequence[int], units: int) -> set[int]:
    """Which units are NEAR a cut."""
    each = (range(max(0, cut - NEAR), min(units, cut + NEAR)) for cut in cuts)
    return set(itertools.chain.from_iterable(each))


def _in_reference(edits: Editops, cuts: Sequence[int], units: int) -> list[int]:
    """The places in the reference, of so many units, of cuts in the answer: two of each, which are
    one where no words are missing.
    """
    pairs = [
        (block.dest_start + i, block.src_start + i)
        for block in edits.as_opcodes()
        if block.tag in ("equal", "replace")
        for i in range(block.src_end - block.src_start)
    ]
    places = []
    for cut in cuts:
        behind = bisect.bisect_left(pairs, (cut, 0))
        places.append(pairs[behind - 1][1] + 1 if behind else 0)
        places.append(pairs[behind][1] if behind < len(pairs) else units)
    return places


def seam_rows(
    answered: Mapping[str, Answered], task: str, pairs: Sequence[tuple[Planned, Answered]]
) -> list[tuple[dict[str, Any], list[Rate]]]:
    """Rows of the rates near cuts and away from them, each with its counts.

    Args:
        answered: of the windows, by key.
        task: of the recordings.
        pairs: recordings that were asked in windows, and their answers.
    """
    counts = []
    for item, _ in pairs:
        texts = [answered[window.key].text for window in item.windows]
        language = item.annotation.get("language")
        counts.append(seam_counts(text_of(item.annotation), texts, language))
    rows = []
    for place, name in enumerate(("near_cuts", "away_from_cuts")):
        some = [one[place] for one in counts]
        edits, words = sum(one[0] for one in some), sum(one[1] for one in some)
        value, baseline = (edits / words, 1.0) if words else (None, None)
        row = table_row(f"wer/{name}", value, baseline, len(pairs)) | {"signature": _SIGNATURE}
        rows.append((row, some))
    return rows
