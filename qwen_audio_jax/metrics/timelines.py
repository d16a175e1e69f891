"""Metrics over time tags: the shift of word boundaries and the detection of sound events."""

import collections
import dataclasses
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from qwen_audio_jax.metrics.answer import Answer, table_row
from qwen_audio_jax.metrics.error_rate import word_edits, word_error_rate
from qwen_audio_jax.metrics.text import without_tags
from qwen_audio_jax.tasks import labels, parse

ONSET_COLLAR = 0.2  # seconds; the usual collar of event-based scores (Mesaros et al., 2016)
OFFSET_SHARE = 0.5  # of an event's length, within which its end may lie; theirs too


@dataclasses.dataclass(frozen=True)
class Unit:
    """A word, a silence or a sound event, from `start` to `end` in seconds."""

    text: str
    start: float
    end: float


def parse_timeline(answer: str) -> list[Unit] | None:
    """The words and silences of an answer, lower-cased; None if it is broken."""
    units = parse.timed_units(answer)
    return None if units is None else [Unit(_unit_text(u), a, b) for u, a, b in units]


def _unit_text(piece: str) -> str:
    return parse.SILENCE if piece == parse.SILENCE else " ".join(piece.lower().split())


def reference_timeline(annotation: dict[str, Any]) -> list[Unit]:
    """The units of `annotation["words"]`, cut exactly as they are for training."""
    # The template has {words[0][word]} for a word, so no word can be mistaken for a tag.
    units = parse.timed_units(labels.timed_words(annotation))
    return [Unit(_unit_text(u.format(**annotation)), a, b) for u, a, b in units]


def evenly_spread(reference: list[Unit]) -> list[Unit]:
    """The right words at even distances from 0 to the last time: a guess without listening."""
    words = [unit.text for unit in reference if unit.text != parse.SILENCE]
    step = reference[-1].end / len(words) if words else 0.0
    return [Unit(word, i * step, (i + 1) * step) for i, word in enumerate(words)]


def average_shift(pairs: list[tuple[list[Unit], list[Unit]]]) -> float | None:
    """AAS in milliseconds: sum(|start difference| + |end difference|) / number of kept units.

    Units are aligned by edit distance, silences among them, and equal pairs are kept. Not halved.
    None if no unit could be kept.

    Args:
        pairs: (reference, hypothesis) each.
    """
    shifts = [_shifts(*pair) for pair in pairs]
    kept = sum(map(len, shifts))
    return 1000 * sum(map(sum, shifts)) / kept if kept else None


def _shifts(reference: list[Unit], hypothesis: list[Unit]) -> list[float]:
    """Of each unit that is kept, in seconds."""
    opcodes = Levenshtein.opcodes([u.text for u in reference], [u.text for u in hypothesis])
    return [
        abs(r.start - h.start) + abs(r.end - h.end)
        for code in opcodes
        if code.tag == "equal"
        for r, h in zip(
            reference[code.src_start : code.src_end],
            hypothesis[code.dest_start : code.dest_end],
            strict=True,
        )
    ]


def timestamps(answers: list[Answer]) -> list[dict[str, Any]]:
    """Rows "wer" (of the words between the times) and "aas_ms" (the shift of their boundaries).

    An answer that cannot be parsed, or has no unit of its reference, has no shift: it is dropped
    from "aas_ms" together with its reference, and told: "unreadable" of the row's "n" are such. A
    model may thus keep few units and still have a small shift: read both rows together. Baselines:
    the empty answer; the right words spread evenly over the time up to the last boundary.
    """
    error_rate = word_error_rate(map(_words, answers))
    timed = [(reference_timeline(a.annotation), a) for a in answers if a.annotation.get("words")]
    pairs = [(r, r if a.exact else parse_timeline(a.hypothesis)) for r, a in timed]
    read = [(r, h) for r, h in pairs if h is not None and _shifts(r, h)]
    guess = average_shift([(r, evenly_spread(r)) for r, _ in timed])
    shifted = table_row("aas_ms", average_shift(read), guess, len(timed))
    return [
        table_row("wer", error_rate, None if error_rate is None else 1.0, len(answers)),
        shifted | {"unreadable": len(timed) - len(read)},
    ]


def _words(answer: Answer) -> tuple[str, str, object]:
    """Reference, hypothesis and language, as word error rates take them."""
    text = " ".join(str(word["word"]) for word in answer.annotation.get("words") or [])
    said = text if answer.exact else answer.hypothesis
    return text, said, answer.annotation.get("language")


def timestamp_counts(answer: Answer) -> dict[str, float]:
    """What one answer adds to the sums that `timestamps` divides."""
    edits, words = word_edits([_words(answer)])
    reference = reference_timeline(answer.annotation) if answer.annotation.get("words") else []
    said = reference if answer.exact else parse_timeline(answer.hypothesis)
    shifts = _shifts(reference, said or [])
    return {
        "word_edits": edits,
        "words": words,
        "shift_ms": 1000 * sum(shifts),
        "kept_units": len(shifts),
    }


def parse_events(answer: str) -> list[Unit]:
    """The events of an answer."""
    found = parse.timed_events(answer)["events"]
    return _events(found)


def _events(listed: list[dict[str, Any]]) -> list[Unit]:
    # Read as an answer's is, so that both sides lose the same.
    return [
        Unit(without_tags(parse.text(str(e["event"]))["text"]), e["start"], e["end"])
        for e in listed
    ]


def matched_events(reference: list[Unit], hypothesis: list[Unit], offsets: bool = False) -> int:
    """The most pairs of events with one label and near times that can be made, each used once.

    Args:
        reference: the events that there are.
        hypothesis: those found.
        offsets: whether the ends must be near too, as sed_eval has it: within ONSET_COLLAR or
            OFFSET_SHARE of the event's length, whichever is more. The starts always must.
    """
    near = np.array([[_near(r, h, offsets) for h in hypothesis] for r in reference], bool)
    return int(near[linear_sum_assignment(near, maximize=True)].sum()) if near.size else 0


def _near(reference: Unit, found: Unit, offsets: bool) -> bool:
    if reference.text != found.text or _apart(reference.start, found.start) > ONSET_COLLAR:
        return False
    collar = max(ONSET_COLLAR, OFFSET_SHARE * (reference.end - reference.start))
    return not offsets or _apart(reference.end, found.end) <= collar


def _apart(one: float, other: float) -> float:
    # Times have two decimals, and what lies on the collar counts, however it is rounded.
    return abs(one - other) - 1e-6


def events(answers: list[Answer]) -> list[dict[str, Any]]:
    """Rows "event_f1_onset" and "event_f1_onset_offset": event-based F1 (Mesaros et al., 2016) from
    counts summed over the set, offsets ignored or near too. The second is sed_eval's default.

    Baseline: the empty answer, 0.
    """
    sums = collections.Counter()
    for answer in answers:
        sums.update(event_counts(answer))
    named = sums["wanted"] + sums["found"]
    rows = []
    for matched in ("onset", "onset_offset"):
        value, baseline = (2 * sums[matched] / named, 0.0) if named else (None, None)
        rows.append(table_row(f"event_f1_{matched}", value, baseline, len(answers)))
    return rows


def event_counts(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sums that `events` divides."""
    reference = _events(answer.annotation.get("events") or [])
    hypothesis = reference if answer.exact else parse_events(answer.hypothesis)
    return {
        "onset": matched_events(reference, hypothesis),
        "onset_offset": matched_events(reference, hypothesis, offsets=True),
        "wanted": len(reference),
        "found": len(hypothesis),
    }
