"""Permutation WER and diarization error against jiwer and examples worked by hand."""

import itertools
import random
import tracemalloc

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.tasks import labels


def value(task, *answers):
    (row,) = score(task, list(answers))
    return row["value"]


def said(texts, hypothesis):
    return Answer({"texts": texts, "language": "en"}, hypothesis)


def test_the_order_of_speakers_does_not_matter():
    texts = ["good morning all", "how are you"]
    for hypothesis in (
        "how are you<|delim|>good morning all",
        '"How are you", "good morning all"',
    ):
        assert value("overlapped_speech_recognition", said(texts, hypothesis)) == 0
    one = said(texts, "how are you")
    assert value("overlapped_speech_recognition", one) == pytest.approx(3 / 6)
    third = said(texts, "how are you<|delim|>good morning<|delim|>x y")
    assert value("overlapped_speech_recognition", third) == pytest.approx(3 / 6)
    assert value("overlapped_speech_recognition", said(texts, "")) == 1


def test_the_best_pairing_is_found():
    random.seed(0)
    for _ in range(20):
        texts, found = (
            [" ".join(random.choices("abcd", k=random.randint(1, 5))) for _ in range(3)]
            for _ in range(2)
        )
        best = min(jiwer.wer(texts, list(order)) for order in itertools.permutations(found))
        mine = value("overlapped_speech_recognition", said(texts, "<|delim|>".join(found)))
        assert mine == pytest.approx(best)


TURNS = [
    {"speaker": "A", "start": 0.0, "end": 2.0},
    {"speaker": "B", "start": 1.5, "end": 4.0},
]


def spoken(hypothesis, turns=TURNS):
    return Answer({"turns": turns}, hypothesis)


@pytest.mark.parametrize(
    ("hypothesis", "wrong"),
    [
        # Names mean nothing.
        ("<|0.00|>x<|2.00|><|1.50|>y<|4.00|>", 0.0),
        # B is missed.
        ("<|0.00|>x<|2.00|>", 2.5),
        # One speaker all the time: half a second of overlap missed, 2 s of A are taken for B.
        ("<|0.00|>x<|4.00|>", 0.5 + 1.5),
        # A second of speech where there is none.
        ("<|0.00|>x<|2.00|><|1.50|>y<|5.00|>", 1.0),
        # The change of speakers half a second late, and without overlap.
        ("<|0.00|>x<|2.00|><|2.00|>y<|4.00|>", 0.5),
        ("", 4.5),
    ],
)
def test_diarization_error(hypothesis, wrong):
    assert value("speaker_diarization", spoken(hypothesis)) == pytest.approx(wrong / 4.5)


def test_diarization_error_is_pooled_and_its_baseline_is_one_speaker():
    right = labels.timed_turns({"turns": TURNS}).format(turns=TURNS)
    (row,) = score("speaker_diarization", [spoken(right), spoken("")])
    assert row["value"] == pytest.approx(0.5)
    assert row["baseline"] == pytest.approx((0.5 + 1.5) / 4.5)


@pytest.mark.parametrize("start", [0, 90, 99.5, 120, 2000, 3590])
def test_diarization_is_scored_wherever_it_lies(start):
    turns = [{"speaker": "A", "start": start, "end": start + 10}]
    right = labels.timed_turns({"turns": turns}).format(turns=turns)
    half = [{"speaker": "B", "start": start + 5, "end": start + 10}]
    late = labels.timed_turns({"turns": half}).format(turns=half)
    assert value("speaker_diarization", spoken(right, turns)) == 0
    assert value("speaker_diarization", spoken(late, turns)) == pytest.approx(0.5)
    assert value("speaker_diarization", spoken("", turns)) == 1
    false = right + "<|30.00|>" * 200 + "<|0.00|>C" + "<|30.00|>" * 200 + "<|5.00|>"
    assert value("speaker_diarization", spoken(false, turns)) == pytest.approx(0.5)


times = st.integers(0, 60).map(lambda tenth: 50 + tenth / 10)
any_turns = st.lists(
    st.tuples(st.sampled_from("ABC"), times, times).map(
        lambda turn: dict(zip(("speaker", "start", "end"), turn, strict=True))
    ),
    max_size=6,
)


@given(any_turns, any_turns)
def test_diarization_error_tick_by_tick(turns, found):
    """Against every way to pair three speakers with three, a tenth of a second at a time."""

    def heard(listed, speaker):
        line = np.zeros(120, bool)
        for turn in listed:
            if turn["speaker"] == speaker:
                line[round(10 * turn["start"]) - 500 : round(10 * turn["end"]) - 500] = True
        return line

    there, said = (np.stack([heard(side, name) for name in "ABC"]) for side in (turns, found))
    right = max(
        sum((there[i] & said[j]).sum() for i, j in enumerate(order))
        for order in itertools.permutations(range(3))
    )
    wrong = np.maximum(there.sum(0), said.sum(0)).sum() - right
    hypothesis = "".join(f"<|{t['start']:.2f}|>{t['speaker']}<|{t['end']:.2f}|>" for t in found)
    expected = pytest.approx(wrong / there.sum()) if there.any() else None
    assert value("speaker_diarization", spoken(hypothesis, turns)) == expected


def test_an_hour_of_many_speakers_takes_little_memory():
    turns = [{"speaker": f"S{i}", "start": 9 * i, "end": 9 * i + 12} for i in range(399)]
    hypothesis = labels.timed_turns({"turns": turns}).format(turns=turns[::-1])
    tracemalloc.start()
    assert value("speaker_diarization", spoken(hypothesis, turns[:50])) > 0.5
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
