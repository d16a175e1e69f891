"""Row shapes: their shares are those of the real plan; what is recommended is the best of them."""

import numpy as np
import pytest

from data_pipelines.packing import PackPlan, RowShape
from data_pipelines.row_shapes import Efficiency, candidates, packing_efficiency, recommend


def lengths_of(records=3000, seed=0):
    """Speech-like: a third short, a third medium, a third long."""
    random = np.random.default_rng(seed)
    frames = 4 * np.concatenate(
        [
            random.integers(low, high, records // 3)
            for low, high in ((20, 80), (80, 300), (300, 750))
        ]
    )
    return np.stack([frames // 4 + random.integers(5, 60, len(frames)), frames], axis=1)


def test_usage_counts_what_the_plan_lays_into_rows():
    lengths, shapes = lengths_of(), (RowShape(8, 500, 1200), RowShape(4, 900, 3200))
    plan = PackPlan({"a": lengths}, {"a": 1.0}, shapes, seed=3)
    batches = [b for b in map(plan.batch, range(plan.slots_per_window)) if b is not None]
    room = sum(b.shape.rows * b.shape.tokens for b in batches)
    assert packing_efficiency(lengths, shapes, seed=3).tokens == pytest.approx(
        lengths[:, 0].sum() / room
    )


def test_one_record_to_a_row_is_wasteful_and_packing_is_not():
    lengths = lengths_of()
    alone = packing_efficiency(lengths, [RowShape(1, *lengths.max(axis=0))])
    tried = [
        packing_efficiency(lengths, shapes) for shapes in candidates(lengths, batch_tokens=8192)
    ]
    assert recommend(tried).least > 0.95
    assert recommend(tried).least > alone.least + 0.02


def test_every_candidate_holds_every_record():
    lengths = lengths_of()
    tried = list(candidates(lengths, batch_tokens=4096))
    assert len(tried) == len(set(tried)) > 10
    for shapes in tried:
        assert 1 <= len(shapes) <= 3
        plan = PackPlan({"a": lengths}, {"a": 1.0}, shapes, seed=0)
        assert (plan.shape_of(lengths) >= 0).all()
        assert all(s.tokens % 16 == 0 and s.frames % 32 == 0 for s in shapes)


def test_records_all_alike_and_text_alone_have_candidates():
    for length in ([50, 100], [50, 0]):
        lengths = np.tile(length, (100, 1))
        assert all(
            packing_efficiency(lengths, s).tokens > 0.5
            for s in candidates(lengths, batch_tokens=512)
        )


def test_as_good_and_simpler_is_recommended():
    short, long = RowShape(8, 400, 1200), RowShape(4, 800, 2400)
    simple, plain = Efficiency((short,), 0.950, 0.96), Efficiency((long,), 0.951, 0.96)
    mixed, better = Efficiency((short, long), 0.953, 0.99), Efficiency((short, long), 0.99, 0.97)
    assert recommend([mixed, plain, simple]) is simple
    assert recommend([mixed, plain, simple, better]) is better
