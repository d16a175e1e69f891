"""Several speakers: what each says, and who speaks when."""

from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from qwen_audio_jax.metrics.answer import Answer, summed, table_row
from qwen_audio_jax.metrics.intervals import stretches
from qwen_audio_jax.metrics.text import scoring_units
from qwen_audio_jax.tasks import parse


def utterances(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "wer": errors under the best pairing of references and hypotheses, over all words.

    The concatenated minimum-permutation WER of Watanabe et al. (2020, CHiME-6), as each speaker
    has one utterance here. Baseline: the empty answer.
    """
    errors, words = summed(map(utterance_counts, answers), 2)
    value = errors / words if words else None
    return [table_row("wer", value, None if value is None else 1.0, len(answers))]


def utterance_counts(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sums that `utterances` divides."""
    language = answer.annotation.get("language")
    texts = [str(text) for text in answer.annotation.get("texts") or []]
    said = texts if answer.exact else parse.utterances(answer.hypothesis)["texts"]
    wanted, found = ([scoring_units(t, language) for t in side] for side in (texts, said))
    # What pairing two of them saves, against one that is missed and one that is made up.
    saved = np.array(
        [[len(w) + len(f) - Levenshtein.distance(w, f) for f in found] for w in wanted]
    )
    words = sum(map(len, wanted))
    edits = words + sum(map(len, found))
    if saved.size:
        edits -= int(saved[linear_sum_assignment(saved, maximize=True)].sum())
    return {"word_edits": edits, "words": words}


def diarization(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "der": missed, false and mistaken speech over all speech; no collar, overlap counted.

    Speakers are matched one to one for the most common time (NIST's diarization error rate).
    Baseline: one speaker from 0 to the last end.
    """
    errors, speech = summed(map(turn_counts, answers), 2)
    guess = 0
    for answer in answers:
        turns = answer.annotation.get("turns") or []
        alone = [{"start": 0.0, "end": max((turn["end"] for turn in turns), default=0.0)}]
        guess += _error_ticks(turns, alone)
    value, baseline = (errors / speech, guess / speech) if speech else (None, None)
    return [table_row("der", value, baseline, len(answers))]


def turn_counts(answer: Answer) -> dict[str, int]:
    """What one answer adds to the sums that `diarization` divides, in hundredths of a second."""
    turns = answer.annotation.get("turns") or []
    found = turns if answer.exact else parse.timed_turns(answer.hypothesis)["turns"]
    return {"error_ticks": _error_ticks(turns, found), "speech_ticks": _error_ticks(turns, [])}


def _error_ticks(reference: list[dict[str, Any]], found: list[dict[str, Any]]) -> int:
    """In each stretch max(speakers there are, speakers found) less those found rightly."""
    length, (there, heard) = stretches(reference, found)
    common = (there * length) @ heard.T.astype(np.int64)
    right = common[linear_sum_assignment(common, maximize=True)].sum()
    return int((np.maximum(there.sum(0), heard.sum(0)) * length).sum() - right)
