"""A corpus counted in one pass; a large one sampled, its longest record among the sample."""

import numpy as np

from data_pipelines.corpus_statistics import SAMPLE, corpus_statistics
from data_pipelines.records import IndexRow


def rows(count):
    return [
        IndexRow(str(i), ("asr", "text")[i % 5 == 0], (16_000,) * (i % 3), {"language": "en"})
        for i in range(count)
    ]


def test_counts():
    counted = corpus_statistics(rows(10))
    assert counted.seconds.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert counted.records["task"] == {"text": 2, "asr": 8}
    assert counted.records["language"] == {"en": 10}
    assert counted.records["source"] == {"not told": 10}
    np.testing.assert_allclose(counted.hours["task"]["text"], 2 / 3600)
    assert counted.by_task["text"] == [0, 5]
    assert counted.sample().tolist() == list(range(10))


def test_a_sample_holds_the_longest():
    many = rows(SAMPLE + 1000)
    many[7] = IndexRow("long", "asr", (16_000 * 40,), {})
    sample = corpus_statistics(many).sample()
    assert 7 in sample
    assert len(sample) == len(set(sample.tolist()))
    assert SAMPLE - 1 <= len(sample) <= SAMPLE
