"""The same batches for any number of hosts and reader processes, and from any point on."""

import itertools

import numpy as np
import pytest
from absl import flags
from conftest import write_corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import PackPlan, RowShape
from data_pipelines.pipeline import PackedBatches, batches, make_plan, open_mixture
from qwen_audio_jax.audio.spec_augment import SpecAugment
from qwen_audio_jax.audio.wave_augment import WaveAugment
from qwen_audio_jax.text.tokenizer import load_tokenizer

SHAPES = (RowShape(4, 64, 128), RowShape(4, 64, 32))
MIXTURE = {"one": 1.0, "two": 2.0}
COUNT = 36
ALIKE = {"slot", "epochs", "dropped"}  # on every host


@pytest.fixture(scope="module")
def make_source(tmp_path_factory):
    """A function that opens the data anew, as a process that starts does."""
    root = tmp_path_factory.mktemp("data")
    write_corpus(root / "one", train=30)
    write_corpus(root / "two", train=20)

    def make(first_slot=0, host=0, hosts=1):
        corpora = open_mixture(root, MIXTURE)
        tokenizer = load_tokenizer(root / "one" / "tokenizer")
        # On, so that they too are the same from anywhere.
        changes = WaveAugment(speeds=(0.9, 1.1), noise_share=0.5, gain_db=(-6.0, 6.0))
        preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor", augment=changes)
        plan = make_plan(corpora, MIXTURE, preprocessor, SHAPES, seed=0)
        rows = 4 // hosts
        mine = {shape: slice(host * rows, (host + 1) * rows) for shape in SHAPES}
        augment = SpecAugment(time_width=20, time_warp=8)
        return PackedBatches(corpora, preprocessor, plan, mine, first_slot, augment=augment)

    return make


def take(source, count, workers=0):
    return list(itertools.islice(batches(source, workers), count))


@pytest.fixture(scope="module")
def whole(make_source):
    """The first batches: more than three windows of them, of both shapes."""
    source = make_source()
    made = take(source, COUNT)
    assert made[-1]["slot"] > 3 * source._plan.slots_per_window
    assert len({batch["mel"].shape for batch in made}) == 2
    return made


def assert_same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def joined(parts):
    """A global batch from the parts of its hosts."""
    for name in ALIKE:
        assert len({np.asarray(part[name]).tobytes() for part in parts}) == 1
    return {
        name: parts[0][name] if name in ALIKE else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_reader_processes_make_the_same_batches(make_source, whole, workers):
    flags.FLAGS.mark_as_parsed()  # Grain's workers read them, and only `main` parses
    assert_same(take(make_source(), len(whole), workers), whole)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(done=st.integers(0, COUNT - 1), hosts=st.sampled_from([1, 2, 4]), data=st.data())
def test_goes_on_from_any_batch_on_any_number_of_hosts(make_source, whole, done, hosts, data):
    first_slot = int(whole[done - 1]["slot"]) + 1 if done else 0
    count = data.draw(st.integers(1, len(whole) - done))
    parts = [take(make_source(first_slot, host, hosts), count) for host in range(hosts)]
    made = [joined(of_one_batch) for of_one_batch in zip(*parts, strict=True)]
    assert_same(made, whole[done : done + count])


def test_every_record_of_an_epoch_comes_once(make_source):
    """Counted in the plan, over ten epochs of the smaller corpus."""
    plan = make_source()._plan
    seen = {(0, i): 0 for i in range(30)} | {(1, i): 0 for i in range(20)}
    for window in range(9):
        for batch in plan.window(window).batches:
            for member in itertools.chain(*batch.rows):
                seen[member] += 1
        for component, records in enumerate((30, 20)):
            counts = [seen[component, i] for i in range(records)]
            assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.7, 0.2, 0.1), (5, 1, 0.05)])
def test_weights_are_met_over_ten_thousand_records(weights):
    random = np.random.default_rng(0)
    lengths = {str(i): random.integers(4, 30, (400 * (i + 1), 2)) for i in range(3)}
    given_weights = {str(i): weight for i, weight in enumerate(weights)}
    plan = PackPlan(lengths, given_weights, [RowShape(4, 64, 64)], seed=0)
    drawn = np.zeros(3)
    for window in itertools.count():
        for batch in plan.window(window).batches:
            for component, _ in itertools.chain(*batch.rows):
                drawn[component] += 1
        if drawn.sum() >= 10_000:
            break
    np.testing.assert_allclose(drawn / drawn.sum(), np.array(weights) / sum(weights), atol=0.01)
