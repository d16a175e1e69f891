"""Sampling: the rules of transformers, draws that follow the distribution, a row's own draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwen_audio_jax.inference.row_sampling import RowSampling, choose_each
from qwen_audio_jax.inference.sampling import Sampling, choose, process

V = 40


def logits(rows=6):
    """Some rows with ties, one nearly flat, one nearly decided."""
    drawn = 3 * np.random.default_rng(0).standard_normal((rows, V)).astype(np.float32)
    drawn[0] = np.round(drawn[0])
    drawn[1] *= 0.01
    drawn[2, 7] = 40
    return drawn


@pytest.mark.parity
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, repetition_penalty=1.3),
        Sampling(temperature=1.0, repetition_penalty=0.8),
        Sampling(temperature=1.0, top_k=1),
        Sampling(temperature=0.5, top_k=5),
        Sampling(temperature=1.0, top_k=V + 10),
        Sampling(temperature=1.0, top_p=0.9),
        Sampling(temperature=1.0, top_p=0.0),
        Sampling(temperature=2.0, top_k=12, top_p=0.8, repetition_penalty=1.1),
    ],
    ids=str,
)
def test_scores_are_those_of_transformers(sampling):
    torch = pytest.importorskip("torch")
    import transformers as hf

    ids = np.random.default_rng(1).integers(0, V, (6, 9))
    used = np.zeros((6, V), bool)
    used[np.arange(6)[:, None], ids] = True
    processors = hf.LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(hf.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(hf.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(hf.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(hf.TopPLogitsWarper(sampling.top_p))
    theirs = processors(torch.from_numpy(ids), torch.from_numpy(logits())).numpy()
    ours = np.asarray(process(jnp.asarray(logits()), jnp.asarray(used), sampling))
    # Among equally likely tokens at top-p's edge, each sort keeps others; as many are kept.
    np.testing.assert_array_equal(np.isfinite(ours).sum(1), np.isfinite(theirs).sum(1))
    np.testing.assert_array_equal(np.isfinite(ours)[1:], np.isfinite(theirs)[1:])
    np.testing.assert_allclose(np.sort(ours[:1]), np.sort(theirs[:1]), rtol=1e-6)
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=1e-6)


def test_draws_follow_the_distribution():
    n = 20_000
    row = jnp.log(jnp.array([0.5, 0.25, 0.15, 0.1]))
    sampling = Sampling(temperature=1.0, top_k=3)
    drawn = choose(jnp.tile(row, (n, 1)), jnp.int32(3), None, sampling, jnp.arange(n))
    share = np.bincount(np.asarray(drawn), minlength=4) / n
    # Three of four are left, in their proportions; the tolerance is five standard errors.
    np.testing.assert_allclose(share, [5 / 9, 2.5 / 9, 1.5 / 9, 0], atol=5 * (0.25 / n) ** 0.5)


def test_a_draw_depends_on_its_seed_and_step_alone():
    scores = jnp.asarray(logits())
    sampling = Sampling(temperature=1.5)
    seeds = jnp.arange(6)
    together = choose(scores, jnp.int32(2), None, sampling, seeds)
    for row in range(6):
        one = slice(row, row + 1)
        alone = choose(scores[one], jnp.int32(2), None, sampling, seeds[one])
        np.testing.assert_array_equal(alone, together[one])
    flat = jnp.zeros((200, V))
    draws = [
        np.asarray(choose(flat, jnp.int32(step), None, sampling, jnp.arange(200) + first))
        for step, first in ((0, 0), (1, 0), (0, 200))
    ]
    assert (draws[0] != draws[1]).mean() > 0.9
    assert (draws[0] != draws[2]).mean() > 0.9


def test_greedy_takes_the_most_likely_after_the_penalty():
    row = jnp.array([[1.0, 1.2, -1.0, -1.1]])
    used = jnp.array([[False, True, True, False]])
    assert choose(row, jnp.int32(0), None, Sampling(), None).tolist() == [1]
    penalised = Sampling(repetition_penalty=1.5)
    assert choose(row, jnp.int32(0), used, penalised, None).tolist() == [0]
    np.testing.assert_allclose(process(row, used, penalised), [[1.0, 0.8, -1.5, -1.1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: .* is not "):
        Sampling(**{field: value})


def test_runs_inside_jit():
    sampling = Sampling(temperature=1.0, top_k=4, top_p=0.9, repetition_penalty=1.2)
    used = jnp.zeros((6, V), bool)
    plain = choose(jnp.asarray(logits()), jnp.int32(0), used, sampling, jnp.arange(6))
    jitted = jax.jit(choose, static_argnums=3)
    np.testing.assert_array_equal(
        jitted(jnp.asarray(logits()), jnp.int32(0), used, sampling, jnp.arange(6)), plain
    )


def test_rows_with_rules_of_their_own_draw_as_those_with_the_same():
    rules = [
        Sampling(),
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=5, repetition_penalty=1.4),
        Sampling(temperature=2.0, top_p=0.8),
        Sampling(temperature=1.0, top_k=V + 10, top_p=0.5, repetition_penalty=0.7),
        Sampling(repetition_penalty=3.0),
    ]
    used = np.random.default_rng(1).random((6, V)) < 0.3
    each = RowSampling.greedy(6)
    for row, one in enumerate(rules):
        each.put(row, one, row + 40)
    together = jax.jit(choose_each)
    for step in range(30):
        steps = np.full(6, step, np.int32) + np.arange(6, dtype=np.int32)
        drawn = together(jnp.asarray(logits()), steps, jnp.asarray(used), each)
        for row, one in enumerate(rules):
            mine = slice(row, row + 1)
            alone = choose(
                jnp.asarray(logits())[mine],
                steps[row],
                jnp.asarray(used)[mine],
                one,
                jnp.array([row + 40], jnp.int32),
            )
            assert drawn[row] == alone[0]
    greedy = together(jnp.asarray(logits()), steps, jnp.asarray(used), RowSampling.greedy(6))
    np.testing.assert_array_equal(greedy, logits().argmax(1))
