"""Word error rate, by character in languages that are written without spaces."""

from collections.abc import Iterable
from typing import Any

import jiwer

from qwen_audio_jax.metrics.answer import Answer, table_row, text_of
from qwen_audio_jax.metrics.text import scoring_units


def word_error_rate(pairs: Iterable[tuple[str, str, object]]) -> float | None:
    """Edits over reference length, both summed over the set; None if the references are empty.

    Args:
        pairs: (reference, hypothesis, language) each; the language decides words or characters, so
            a set may mix them.
    """
    references, hypotheses = [], []
    for reference, hypothesis, language in pairs:
        # jiwer splits at plain spaces, and a unit holds none.
        references.append(" ".join(scoring_units(reference, language)))
        hypotheses.append(" ".join(scoring_units(hypothesis, language)))
    out = jiwer.process_words(references, hypotheses)
    length = out.hits + out.substitutions + out.deletions
    return (out.substitutions + out.deletions + out.insertions) / length if length else None


def wer(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "wer" (a fraction, may exceed 1). Normalised as Qwen-Audio's script, not Qwen2-Audio's:
    the two use different normalisers, so their published figures are not comparable either.

    Baseline: the empty answer, which deletes every word.
    """
    value = word_error_rate(
        (text_of(a.annotation), a.hypothesis, a.annotation.get("language")) for a in answers
    )
    return [table_row("wer", value, None if value is None else 1.0, len(answers))]
