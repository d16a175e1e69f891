"""The pack plan: a pure function, nothing dropped, nothing repeated, rows within their shape."""

import collections
import pickle

import numpy as np
import pytest

from data_pipelines import packing
from data_pipelines.packing import PackPlan, RowShape, best_fit

SHAPES = (RowShape(4, 100, 200), RowShape(2, 400, 800))


def lengths_of(seed, n, high=0.5):
    random = np.random.default_rng(seed)
    frames = 4 * random.integers(2, int(high * 200), n)
    return np.stack([frames // 8 + random.integers(3, 20, n), frames], axis=1)


def plan_of(seed=0, **weights):
    weights = weights or {"a": 1.0, "b": 3.0}
    lengths = {name: lengths_of(i, 57 + 100 * i) for i, name in enumerate(weights)}
    return PackPlan(lengths, weights, SHAPES, seed), lengths


def window_batches(plan, window):
    slots = range(window * plan.slots_per_window, (window + 1) * plan.slots_per_window)
    return [batch for batch in map(plan.batch, slots) if batch is not None]


def members(plan, window):
    return [one for batch in window_batches(plan, window) for row in batch.rows for one in row]


def test_rows_keep_to_their_shape():
    plan, lengths = plan_of()
    tables = list(lengths.values())
    for batch in window_batches(plan, 0):
        assert len(batch.rows) == batch.shape.rows
        for row in batch.rows:
            used = sum((tables[c][r] for c, r in row), np.zeros(2, int))
            assert used[0] <= batch.shape.tokens
            assert used[1] <= batch.shape.frames


def test_an_epoch_holds_every_record_once():
    plan, lengths = plan_of(a=1.0)
    for window in range(3):
        assert sorted(members(plan, window)) == [(0, i) for i in range(len(lengths["a"]))]
    assert members(plan, 0) != members(plan, 1)


def test_mixture_weights_are_kept_and_epochs_are_whole():
    plan, lengths = plan_of()
    drawn = collections.Counter()
    windows = 20
    for window in range(windows):
        drawn.update(members(plan, window))
    share = sum(n for (component, _), n in drawn.items() if component == 1) / drawn.total()
    assert share == pytest.approx(0.75, abs=0.01)
    for component, table in enumerate(lengths.values()):
        counts = [drawn[component, i] for i in range(len(table))]
        assert max(counts) - min(counts) <= 1  # no record comes twice before all came once
    assert plan.epochs(windows * plan.slots_per_window)[0] == pytest.approx(
        drawn.total() / 4 / len(lengths["a"]), abs=0.05
    )


def slot_after(plan, batches):
    """Where a plan stands after its first batches."""
    return plan.slot_of(batches - 1, 0) + 1


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": 3.0}])
def test_batches_of_epochs_are_counted(weights):
    plan, _ = plan_of(**weights)
    each = [len(window_batches(plan, window)) for window in range(3)]
    for epochs in (1, 2, 3):
        assert plan.batches_of(epochs) == (sum(each[:epochs]), True)
    for epochs in (0.3, 0.5, 1.7, 2.01):
        batches, counted = plan.batches_of(epochs)
        assert counted
        assert 0 < batches <= sum(each)
        # Not before, and with the first batch that does it: of the mixture and so of its first.
        share = plan.records * plan._shares[0] / len(plan._lengths[0])
        assert plan.epochs(slot_after(plan, batches))[0] >= epochs * share - 1e-9
        if batches > 1:
            assert plan.epochs(slot_after(plan, batches - 1))[0] < epochs * share
    assert plan.batches_of(1e-4) == (1, True)


def test_batches_of_many_windows_are_an_estimate(monkeypatch):
    monkeypatch.setattr(packing, "WINDOW", 100)
    monkeypatch.setattr(packing, "_COUNTED", 400)
    plan, _ = plan_of(b=1.0, c=1.0)
    assert plan.size == 100
    true = sum(len(window_batches(plan, window)) for window in range(10))
    epochs = 10 * plan.size / plan.records
    batches, counted = plan.batches_of(epochs)
    assert not counted
    assert batches == pytest.approx(true, rel=0.1)
    assert set(plan._counts) == {0, 1, 2, 3}
    assert plan.batches_of(4 * plan.size / plan.records)[1]


def test_any_slot_is_found_without_those_before_it_and_in_another_process():
    plan, _ = plan_of()
    far = 7 * plan.slots_per_window + 3
    assert pickle.loads(pickle.dumps(plan)).batch(far) == plan.batch(far)
    for slot in range(10):
        plan.batch(slot)
    assert plan_of()[0].batch(far) == plan.batch(far) is not None
    assert plan_of(seed=1)[0].batch(far) != plan.batch(far)


def test_best_fit_packs_tightly():
    lengths = lengths_of(3, 2000, high=0.25)
    rows = best_fit(lengths, (100, 200))
    assert sorted(item for row in rows for item in row) == list(range(2000))
    fullest = (lengths.sum(axis=0) / (100, 200)).max()
    assert len(rows) <= 1.08 * fullest


def test_best_fit_of_nothing():
    assert best_fit(np.empty((0, 2), int), (10, 10)) == []
