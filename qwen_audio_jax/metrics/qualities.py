"""Notes of NSynth: the average precision of their qualities, and the chroma of their pitches.

Each has two values: "official" as Qwen-Audio's script computes it (evaluate_note_analysis.py), and
"strict" without what that script owes to chance.
"""

import dataclasses
from collections.abc import Sequence

from qwen_audio_jax.metrics.text import squeezed

QUALITIES = (
    "bright", "dark", "distortion", "fast_decay", "long_release", "multiphonic", "nonlinear_env",
    "percussive", "reverb", "tempo-synced",
)  # fmt: skip
"""NSynth's names for how a note sounds."""

NO_PITCH = 128
"""The pitch that the script gives an answer without one."""


@dataclasses.dataclass(frozen=True)
class NoteScores:
    """A score of notes, as a fraction; None where the set leaves it undefined.

    Attributes:
        official: by Qwen-Audio's script.
        strict: what it should be.
    """

    official: float | None
    strict: float | None


def quality_precision(pairs: Sequence[tuple[str, str]]) -> NoteScores:
    """Mean average precision over the qualities (MAP).

    A quality that is named has the score 1 and any other 0, so that its average precision is
    R P + (1 - R) S: of recall, precision, and the share of notes that have it.

    Official are the means over all qualities that a reference or an answer names, where one that no
    reference has counts 0. So what a model invents changes what is averaged. Strict are those over
    the qualities that the references have, and names are read whatever blanks are about them.

    Args:
        pairs: (reference, answer) each: names with ", " between them, "" for none.
    """
    plain = [[set(text.split(", ")) for text in pair] for pair in pairs]
    read = [[set(map(squeezed, text.split(","))) for text in pair] for pair in pairs]
    return NoteScores(
        official=_mean([_average_precision(name, plain) for name in _named(plain, both=True)]),
        strict=_mean([_average_precision(name, read) for name in _named(read, both=False)]),
    )


def _named(pairs: list[list[set[str]]], both: bool) -> list[str]:
    """The qualities that the references name, or any side."""
    named = set().union(*(names for pair in pairs for names in (pair if both else pair[:1])))
    return [name for name in QUALITIES if name in named]


def _average_precision(name: str, pairs: list[list[set[str]]]) -> float:
    wanted = sum(name in reference for reference, _ in pairs)
    found = sum(name in answer for _, answer in pairs)
    right = sum(name in reference and name in answer for reference, answer in pairs)
    if not wanted:
        return 0.0
    recall, precision = right / wanted, right / found if found else 0.0
    return recall * precision + (1 - recall) * wanted / len(pairs)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def chroma_accuracy(pairs: Sequence[tuple[int | None, int | None]]) -> NoteScores:
    """The share of notes that are right but for the octave.

    Official compares the pitches' numbers in the list of all pitches that occur, so it is right by
    chance unless those have no gap; a missing pitch is the pitch NO_PITCH. Strict compares the
    pitches, and a missing one is wrong.

    Args:
        pairs: (reference, answer) each, as MIDI pitches.
    """
    filled = [[NO_PITCH if pitch is None else pitch for pitch in pair] for pair in pairs]
    place = {pitch: i for i, pitch in enumerate(sorted({p for pair in filled for p in pair}))}
    return NoteScores(
        official=_mean([(place[wanted] - place[said]) % 12 == 0 for wanted, said in filled]),
        strict=_mean([None not in pair and (pair[0] - pair[1]) % 12 == 0 for pair in pairs]),
    )
