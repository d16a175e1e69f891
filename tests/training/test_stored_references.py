"""The files of references: what is due, what a kill leaves, what is stale."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_eight_devices
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.packing import PackPlan, RowShape
from qwen_audio_jax.config_fields import ConfigError
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.training.step import TrainState
from qwen_audio_jax.training.stored_references import (
    FACTS_FILE,
    VALUES_FILE,
    StoredReferences,
    new_records,
    weights_digest,
)

FACTS = {"weights": "1", "vocabulary": "2", "template": "3", "records": {"few": "4", "many": "5"}}


def plan_of(few=4, many=12):
    random = np.random.default_rng(0)
    lengths = {
        name: np.stack([random.integers(20, 60, n), np.full(n, 4)], axis=1)
        for name, n in (("few", few), ("many", many))
    }
    return PackPlan(lengths, {"few": 1.0, "many": 1.0}, [RowShape(2, 128, 16)], seed=3)


def computed(stored, plan, *, batches=None):
    """Stands for the pass: the references of a record are its numbers."""
    for _, new in itertools.islice(stored.due(plan, 0, begun=False), batches):
        found = {record: np.float32([-record[0], -1 - record[1]]) for record in new}
        stored.add(found, write=True)


def test_each_record_is_new_once_where_it_first_comes():
    plan = plan_of()
    found = list(new_records(plan, 0))
    records = [record for new in found for record in new]
    assert sorted(records) == [(0, n) for n in range(4)] + [(1, n) for n in range(12)]
    assert len(set(records)) == len(records)
    seen = set()
    for number, new in enumerate(found):
        rows = plan.batch(plan.slot_of(number, 0)).rows
        assert all(rows[row][place] == record for record, (row, place) in new.items())
        assert {record for row in rows for record in row} - seen == set(new)
        seen.update(new)
    # Few come again until all of the many have come.
    assert sum(map(len, found)) < sum(
        len(row) for n in range(len(found)) for row in plan.batch(plan.slot_of(n, 0)).rows
    )
    assert list(new_records(plan, 2)) == found[:2]


def test_what_was_killed_within_a_write_goes_on(tmp_path):
    plan = plan_of()
    whole = StoredReferences(tmp_path, plan)
    whole.begin(FACTS, begun=False)
    computed(whole, plan)
    path = tmp_path / VALUES_FILE
    complete = path.read_bytes()
    assert len(complete) == 16 * 24
    for size in (0, 7, 24, 53, 383):
        path.write_bytes(complete[:size])
        stored = StoredReferences(tmp_path, plan)
        stored.begin(FACTS, begun=False)
        assert path.stat().st_size == size // 24 * 24
        stored.read()
        assert stored.due(plan, 0, begun=False)
        computed(stored, plan)
        read = StoredReferences(tmp_path, plan)
        read.read()
        assert not read.due(plan, 0, begun=True)
        for ours, wanted in zip(read.values, whole.values, strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_a_record_that_cannot_be_used_is_not_due_again(tmp_path):
    plan = plan_of()
    stored = StoredReferences(tmp_path, plan)
    stored.begin(FACTS, begun=False)
    computed(stored, plan)
    stored.add({(0, 2): np.float32([np.nan, np.nan])}, write=True)
    read = StoredReferences(tmp_path, plan)
    read.read()
    assert np.isnan(read.values[0][2]).all()
    assert not read.due(plan, 0, begun=True)


def test_what_is_not_stored_is_no_record_that_cannot_be_used(tmp_path):
    """A loader reads ahead, behind the end of a run, and would name them dropped."""
    stored = StoredReferences(tmp_path, plan_of())
    assert all(np.isinf(values).all() for values in stored.values)


@pytest.mark.parametrize("place", [0, 5, 13, 23, 24 * 7 + 16])
def test_a_damaged_line_is_told(place, tmp_path):
    plan = plan_of()
    stored = StoredReferences(tmp_path, plan)
    stored.begin(FACTS, begun=False)
    computed(stored, plan)
    data = bytearray((tmp_path / VALUES_FILE).read_bytes())
    data[place] ^= 64
    (tmp_path / VALUES_FILE).write_bytes(data)
    read = StoredReferences(tmp_path, plan)
    with pytest.raises(ConfigError, match=f"bin: line {place // 24 + 1} of 16 is damaged; put"):
        read.read()


@pytest.mark.parametrize("begun", [False, True])
def test_damaged_facts_are_told(begun, tmp_path):
    plan = plan_of()
    stored = StoredReferences(tmp_path, plan)
    stored.begin(FACTS, begun=False)
    computed(stored, plan)
    for junk in ("{", "7", '"x"', "[1]"):
        (tmp_path / FACTS_FILE).write_text(junk)
        with pytest.raises(ConfigError, match=r"references\.json: is damaged; put it back"):
            StoredReferences(tmp_path, plan).begin(FACTS, begun=begun)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("weights", "what the run starts from"),
        ("vocabulary", "the vocabulary"),
        ("template", "the form of conversations"),
        ("records", "the records"),
    ],
)
def test_what_is_stale_is_refused(name, told, tmp_path):
    plan = plan_of()
    StoredReferences(tmp_path, plan).begin(FACTS, begun=False)
    (tmp_path / VALUES_FILE).touch()
    other = FACTS | {name: "another"}
    with pytest.raises(ConfigError, match=f"are stale, for {told} changed.*delete .*{FACTS_FILE}"):
        StoredReferences(tmp_path, plan).begin(other, begun=False)
    if name == "weights":  # which have been trained since
        StoredReferences(tmp_path, plan).begin(other, begun=True)
        return
    with pytest.raises(ConfigError, match="put that back as it was, or start another run"):
        StoredReferences(tmp_path, plan).begin(other, begun=True)


def test_a_run_that_has_begun_needs_all_of_them(tmp_path):
    plan = plan_of()
    stored = StoredReferences(tmp_path, plan)
    stored.begin(FACTS, begun=False)
    computed(stored, plan, batches=1)
    with pytest.raises(ConfigError, match="lacks records that the run trains on, and what the run"):
        stored.due(plan, 0, begun=True)
    (tmp_path / VALUES_FILE).unlink()
    with pytest.raises(ConfigError, match="is missing, and what the run started from"):
        StoredReferences(tmp_path, plan).begin(FACTS, begun=True)
    # At the start they are made anew.
    (tmp_path / VALUES_FILE).write_bytes(b"of another start")
    (tmp_path / FACTS_FILE).unlink()
    StoredReferences(tmp_path, plan).begin(FACTS, begun=False)
    assert not (tmp_path / VALUES_FILE).exists()


def state(**changes):
    arrays = {"a": np.arange(64.0, dtype=np.float32).reshape(8, 8), "b": np.ones(3, np.float32)}
    parameters = {name: jnp.asarray(array) for name, array in (arrays | changes).items()}
    frozen = {"c": jnp.full((4,), 0.5, jnp.bfloat16)}
    return TrainState(jnp.int32(0), parameters, frozen, None)


def test_weights_are_told_apart():
    digest = weights_digest(state())
    assert digest == weights_digest(state())
    assert digest != weights_digest(state(b=np.float32([1, 1, 1.0001])))
    assert digest != weights_digest(dataclasses.replace(state(), frozen={}))


@pytest.mark.slow
@on_eight_devices
def test_weights_are_the_same_however_they_are_divided():
    mesh = make_mesh({"replica": 2, "fsdp": 4, "tensor": 1})
    whole, spec = state(), NamedSharding(mesh, PartitionSpec("fsdp"))
    divided = jax.device_put(whole.parameters["a"], spec)
    several = dataclasses.replace(whole, parameters=whole.parameters | {"a": divided})
    assert weights_digest(several) == weights_digest(whole)
