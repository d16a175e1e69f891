"""Intervals and paired comparisons: hand cases, references, and how often an interval is right."""

import itertools
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.evaluation.statistics import Interval, bootstrap, contributions, paired
from qwen_audio_jax.evaluation.summed_scores import f1, ratio


def random(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def some_clips(n, seed=0):
    """Edits and words of clips of 1 to 20 words."""
    words = random(seed).integers(1, 21, n)
    return np.stack([random(seed + 1).binomial(words, 0.2), words], axis=1)


def test_ten_equal_clips_have_an_interval_of_no_width():
    assert bootstrap([[1, 4]] * 10, ratio) == Interval(0.25, 0.25, 1000, 0)


def test_an_interval_holds_its_score_and_grows_with_confidence():
    counts = some_clips(200)
    edits, words = counts.sum(0)
    narrow, wide = (bootstrap(counts, ratio, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < edits / words < narrow.high < wide.high


def test_a_seed_gives_these_values_on_every_machine():
    counts = [[n % 3, 1 + n % 7] for n in range(50)]
    known = Interval(0.18659147869674186, 0.3235294117647059, 1000, 0)
    assert bootstrap(counts, ratio, seed=7) == known
    assert bootstrap(counts, ratio, seed=8) != known


def test_undefined_draws_are_left_out_and_counted():
    # One of two clips has all the words, so a quarter of the draws has none.
    found = bootstrap([[1, 2], [0, 0]], ratio, draws=4000)
    assert (found.low, found.high) == (0.5, 0.5)
    assert abs(found.undefined - 1000) < 4 * math.sqrt(4000 * 0.25 * 0.75)
    assert bootstrap([[0, 0]] * 3, ratio) == Interval(None, None, 1000, 1000)


@pytest.mark.parametrize(
    ("counts", "clusters"), [(np.zeros((0, 2)), None), ([[1, 2]], None), ([[1, 2], [0, 3]], "aa")]
)
def test_fewer_than_two_clusters_tell_nothing(counts, clusters):
    found = bootstrap(counts, ratio, clusters=clusters)
    assert (found.low, found.high) == (None, None)


def test_clusters_are_drawn_whole_and_none_is_a_clip_by_itself():
    counts = some_clips(6)
    merged = [counts[0] + counts[2], counts[1], counts[3] + counts[5], counts[4]]
    assert bootstrap(counts, ratio, clusters=["a", None, "a", 3, None, 3]) == bootstrap(
        merged, ratio
    )
    assert bootstrap(counts, ratio, clusters=[None] * 6) == bootstrap(counts, ratio)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bootstrap([1, 2], ratio), r"their shape is \(2,\)"),
        (lambda: bootstrap([[1, 2], [math.nan, 2]], ratio), "clip 1 are not finite"),
        (lambda: bootstrap([[1, 2]] * 3, ratio, clusters="ab"), "3 clips but clusters of 2"),
        (lambda: bootstrap([[1, 2]] * 3, ratio, confidence=95), "between 0 and 1, not at 95"),
        (lambda: paired([[1, 2]] * 3, [[1, 2]] * 2, ratio), r"are \(3, 2\) and \(2, 2\)"),
    ],
)
def test_what_does_not_fit_together_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_as_scipys_bootstrap_of_the_same_statistic():
    counts, draws = some_clips(30), 20_000
    edits, words = counts.T

    def statistic(edits, words, axis=-1):
        return edits.sum(axis) / words.sum(axis)

    theirs = scipy.stats.bootstrap(
        (edits, words),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=draws,
        method="percentile",
        rng=random(3),
    ).bootstrap_distribution
    ours = bootstrap(counts, ratio, draws=draws)
    # Both are quantiles of samples of one distribution, so the share of theirs below ours has the
    # binomial error of two samples; a value that many draws have lies on both sides.
    allowed = 4 * math.sqrt(2 * 0.025 * 0.975 / draws)
    for end, share in ((ours.low, 0.025), (ours.high, 0.975)):
        assert (
            (theirs < end - 1e-12).mean() - allowed
            < share
            < (theirs <= end + 1e-12).mean() + allowed
        )


def covered(truth, toy_set, sets=400, clusters=False):
    """How often an interval of a toy set holds the true score, without and with clusters."""
    hits = 0
    for seed in range(sets):
        counts, keys = toy_set(random(seed))
        clusters_of = keys if clusters else None
        found = bootstrap(counts, ratio, clusters=clusters_of, draws=400, seed=seed)
        hits += found.low <= truth <= found.high
    return hits / sets


def error_rates(rng):
    """150 clips of 1 to 15 words; how hard one is differs, 12 % of all words on average."""
    words = rng.integers(1, 16, 150)
    return np.stack([rng.binomial(words, rng.beta(0.6, 4.4, 150)), words], axis=1), None


def accuracies(rng):
    return np.stack([rng.random(200) < 0.7, np.ones(200)], axis=1), None


def speakers(rng):
    """60 speakers of 6 clips, who are unlike each other."""
    clips = np.repeat(rng.beta(1.2, 8.8, 60), 6)
    words = rng.integers(5, 16, 360)
    return np.stack([rng.binomial(words, clips), words], axis=1), np.repeat(np.arange(60), 6)


@pytest.mark.parametrize(
    ("truth", "toy_set", "clusters"),
    [(0.12, error_rates, False), (0.7, accuracies, False), (0.12, speakers, True)],
)
def test_intervals_of_95_percent_cover_in_92_to_98(truth, toy_set, clusters):
    assert 0.92 <= covered(truth, toy_set, clusters=clusters) <= 0.98


def test_without_its_clusters_an_interval_is_too_narrow():
    # Some 70 %; of 150 sets the share is within 4 standard errors of that.
    assert covered(0.12, speakers, sets=150) < 0.85


def test_a_set_with_itself_does_not_differ():
    counts = some_clips(40)
    found = paired(counts, counts, ratio)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert (found.wins, found.losses, found.ties) == (0, 0, 40)


def test_a_paired_difference_by_hand():
    a = [[2, 4], [1, 4], [0, 4], [1, 4]]
    b = [[0, 4], [1, 4], [1, 4], [0, 4]]
    found = paired(a, b, ratio, lower_is_better=True)
    assert found.difference == 2 / 16 - 4 / 16
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    # Of the eight ways to swap the three clips that differ (by 2, -1 and 1 edits), six make a
    # difference of two edits or more.
    sides = itertools.product((1, -1), repeat=3)
    exact = sum(abs(2 * x - y + z) >= 2 for x, y, z in sides) / 8
    assert exact == 0.75
    assert abs(found.p - exact) < 4 * math.sqrt(exact * (1 - exact) / 1000)
    assert paired(a, b, ratio).wins == 1


def test_p_as_scipys_exact_permutation_test():
    a, b = some_clips(10), some_clips(10)
    b[:, 0] = random(9).binomial(b[:, 1], 0.1)
    exact = scipy.stats.permutation_test(
        (a[:, 0], b[:, 0]),
        lambda x, y, axis: x.sum(axis) - y.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    draws = 10_000
    assert 0.01 < exact < 0.5
    # b + 1 of m + 1 lies at most 1 / m above b of m.
    allowed = 4 * math.sqrt(exact * (1 - exact) / draws) + 1 / draws
    assert abs(paired(a, b, ratio, draws=draws).p - exact) < allowed


def test_a_difference_that_no_swap_reaches_is_never_certain():
    a, b = [[9, 10]] * 50, [[1, 10]] * 50
    assert paired(a, b, ratio).p == 1 / 1001


def test_whole_clusters_change_sides():
    # As one cluster there are but two ways to swap, and both differ as much.
    counts = some_clips(20), some_clips(20) + np.array([3, 0])
    assert paired(*counts, ratio, clusters=["one"] * 20).p == 1
    assert paired(*counts, ratio).p < 0.01


def test_p_is_uniform_where_nothing_differs():
    found = []
    for seed in range(400):
        a, b = random(seed).normal(size=(2, 40))
        counts = (np.stack([side, np.ones(40)], axis=1) for side in (a, b))
        found.append(paired(*counts, ratio, draws=200, seed=seed).p)
    for level in (0.05, 0.5):
        share = np.mean(np.array(found) <= level)
        # 400 tosses, and a p of 200 draws is a multiple of 1 / 201.
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) / 400) + 1 / 201


def test_an_undefined_score_has_no_difference():
    found = paired([[1, 0], [1, 0]], [[2, 0], [1, 0]], ratio)
    assert (found.difference, found.low, found.high, found.p) == (None,) * 4
    assert found.undefined == 1000


def test_contributions_of_an_error_rate_add_up_to_the_difference():
    a, b = some_clips(30).astype(float), some_clips(30).astype(float)
    b[:, 0] = random(5).binomial(some_clips(30)[:, 1], 0.3)
    difference = paired(a, b, ratio).difference
    assert contributions(a, b, ratio).sum() == pytest.approx(difference, abs=1e-12)


def test_rounding_is_no_win():
    def rounded_by_place(sums):
        return ratio(sums) * (1 + 1e-15 * np.arange(len(sums)))

    counts = some_clips(40)
    found = paired(counts, [[9, 9], *counts[1:].tolist()], rounded_by_place)
    assert (found.wins, found.losses, found.ties) == (1, 0, 39)


COUNTS = st.tuples(*[st.integers(0, 5)] * 3)


@given(st.lists(st.tuples(COUNTS, COUNTS), max_size=8))
def test_the_order_of_two_models_turns_all_signs(pairs):
    a, b = (np.array([pair[side] for pair in pairs], float).reshape(-1, 3) for side in (0, 1))
    one, other = paired(a, b, f1, draws=20), paired(b, a, f1, draws=20)
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    assert one.p == other.p
    assert one.difference == (None if other.difference is None else -other.difference)
    if one.low is not None:
        assert one.low == pytest.approx(-other.high, abs=1e-12)


def test_memory_does_not_grow_with_the_draws():
    def peak(draws):
        tracemalloc.start()
        paired(counts, counts[::-1], ratio, draws=draws)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    counts = some_clips(20_000)
    # But for the sums of each draw, which are a few numbers.
    assert peak(200) - peak(20) < 180 * 8 * 16


def test_nothing_of_it_needs_jax():
    code = (
        "import sys, qwen_audio_jax.evaluation.statistics, qwen_audio_jax.evaluation.summed_scores;"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
