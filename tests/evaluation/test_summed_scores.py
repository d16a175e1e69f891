"""Scores of summed counts, one sum and many at a time, against sacrebleu and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from qwen_audio_jax.evaluation.statistics import bootstrap
from qwen_audio_jax.evaluation.summed_scores import bleu, f1, ratio, value_of


def test_quotients_are_undefined_over_nothing():
    np.testing.assert_equal(ratio(np.array([[1.0, 4], [3, 0], [0, 0]])), [0.25, math.nan, math.nan])
    np.testing.assert_equal(f1(np.array([[2.0, 3, 5], [0, 0, 0]])), [0.5, math.nan])


def test_a_cased_bleu_by_hand():
    # "the cat sat on the mat today" for "The cat sat on the mat today.": 6/7, 5/6, 4/5, 3/4.
    (value,) = bleu(np.array([[7.0, 8, 6, 5, 4, 3, 7, 6, 5, 4]]))
    assert value == pytest.approx(70.14, abs=0.005)


@st.composite
def statistics(draw):
    """Sums as a corpus may have them: never more matches than n-grams, nor more of a longer n."""
    orders = draw(st.integers(1, 4))
    said, length = draw(st.integers(0, 30)), draw(st.integers(1, 30))
    sentences = draw(st.integers(1, 4))
    grams = [max(0, said - sentences * n) for n in range(orders)]
    matches = []
    for most in grams:
        matches.append(draw(st.integers(0, min(most, matches[-1] if matches else most))))
    return said, length, matches, grams


@given(statistics())
def test_bleu_is_sacrebleus(sums):
    said, length, matches, grams = sums
    (ours,) = bleu(np.array([[said, length, *matches, *grams]], float))
    theirs = BLEU.compute_bleu(
        list(matches), list(grams), said, length, "exp", max_ngram_order=len(grams)
    ).score
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_bleu_without_any_reference_is_undefined():
    np.testing.assert_equal(bleu(np.zeros((1, 10))), [math.nan])


def test_an_interval_of_bleu_is_that_of_corpora_scored_anew():
    answers = ["a dog barks", "rain falls on a roof", "two men talk", "a bell rings twice"] * 5
    references = [
        "a dog barks loudly",
        "rain falls on the roof",
        "two men talk",
        "a bell rings",
    ] * 5
    scorer = BLEU(tokenize="none", force=True)
    counts = np.array(
        [
            [s.sys_len, s.ref_len, *s.counts, *s.totals]
            for s in map(scorer.corpus_score, ([a] for a in answers), ([[r]] for r in references))
        ],
        float,
    )
    draws = np.random.Generator(np.random.PCG64(4)).integers(20, size=(200, 20))
    anew = [
        scorer.corpus_score([answers[n] for n in draw], [[references[n] for n in draw]]).score
        for draw in draws
    ]
    np.testing.assert_allclose(bleu(counts[draws].sum(1)), anew, rtol=1e-9)
    found = bootstrap(counts, bleu, draws=200, seed=4)
    assert [found.low, found.high] == pytest.approx(np.quantile(anew, [0.025, 0.975]), rel=1e-9)


def test_each_metric_has_its_score():
    assert value_of("bleu/en-zh") is bleu
    assert value_of("event_f1_onset") is f1
    # Means of each answer's own value.
    assert all(value_of(name) is ratio for name in ("wer", "cer/fr", "accuracy", "token_f1"))
