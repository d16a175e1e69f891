"""Several speakers: what each says, and who speaks when."""

import itertools
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from qwen_audio_jax.metrics.answer import Answer, table_row
from qwen_audio_jax.metrics.text import scoring_units
from qwen_audio_jax.tasks import parse

TICK = 0.01  # seconds; the grid of the vocabulary's times


def utterances(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "wer": errors under the best pairing of references and hypotheses, over all words.

    The concatenated minimum-permutation WER of Watanabe et al. (2020, CHiME-6), as each speaker
    has one utterance here. Baseline: the empty answer.
    """
    errors = words = 0
    for answer in answers:
        language = answer.annotation.get("language")
        wanted = [scoring_units(t, language) for t in answer.annotation.get("texts", [])]
        found = [scoring_units(t, language) for t in parse.utterances(answer.hypothesis)["texts"]]
        pairs = itertools.zip_longest(wanted, found, fillvalue=[])
        wanted, found = zip(*pairs, strict=True) if wanted or found else ((), ())
        costs = np.array([[Levenshtein.distance(w, f) for f in found] for w in wanted])
        if costs.size:
            errors += costs[linear_sum_assignment(costs)].sum()
        words += sum(map(len, wanted))
    value = errors / words if words else None
    return [table_row("wer", value, None if value is None else 1.0, len(answers))]


def diarization(answers: list[Answer]) -> list[dict[str, Any]]:
    """Row "der": missed, false and mistaken speech over all speech; no collar, overlap counted.

    Speakers are matched one to one for the most common time (NIST's diarization error rate).
    Baseline: one speaker from 0 to the last end.
    """
    errors = guess = speech = 0.0
    for answer in answers:
        turns = answer.annotation.get("turns", [])
        reference = activity(turns)
        end = max((turn["end"] for turn in turns), default=0.0)
        alone = activity([{"speaker": "", "start": 0.0, "end": end}])
        errors += _error_ticks(reference, activity(parse.timed_turns(answer.hypothesis)["turns"]))
        guess += _error_ticks(reference, alone)
        speech += sum(line.sum() for line in reference.values())
    value, baseline = (errors / speech, guess / speech) if speech else (None, None)
    return [table_row("der", value, baseline, len(answers))]


def activity(turns: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Each speaker's bool [ticks] of the 100 seconds that times can name."""
    lines: dict[str, np.ndarray] = {}
    for turn in turns:
        line = lines.setdefault(turn["speaker"], np.zeros(round(100 / TICK), bool))
        line[round(turn["start"] / TICK) : round(turn["end"] / TICK)] = True
    return lines


def _error_ticks(reference: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Per tick max(speakers there are, speakers found) less those found rightly."""
    if not reference or not found:
        return float(sum(line.sum() for line in (reference or found).values()))
    there, heard = np.stack(list(reference.values())), np.stack(list(found.values()))
    common = there.astype(np.int64) @ heard.T.astype(np.int64)
    right = common[linear_sum_assignment(common, maximize=True)].sum()
    return float(np.maximum(there.sum(0), heard.sum(0)).sum() - right)
