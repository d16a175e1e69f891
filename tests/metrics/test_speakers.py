"""Permutation WER and diarization error against jiwer and examples worked by hand."""

import itertools
import random

import jiwer
import pytest

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
