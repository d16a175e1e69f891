"""Checkpoints of what is trained, which point to what is frozen and was there before."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conftest import on_eight_devices
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp

from qwen_audio_jax import frozen_base
from qwen_audio_jax.checkpoint import (
    Checkpoints,
    abstract,
    by_path,
    last_step,
    load_parameters,
    saved_shapes,
)
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.frozen_base import BaseError, CheckpointError
from qwen_audio_jax.models.cuts import Cut, merge, part
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.training.step import TrainState

SHAPES = {
    "encoder/kernel": (4, 6, 8),
    "encoder/scale": (6,),
    "projector/kernel": (6, 8),
    "decoder/head": (8, 16),
    "decoder/blocks/kernel": (5, 8, 8),
}
CUTS = {
    "decoder/head": Cut(1, ((0, 12),)),
    "decoder/blocks/kernel": Cut(0, ((0, 1), (2, 4))),
}
WHOLLY = ("encoder/kernel", "encoder/scale")
MESH = {"replica": 1, "fsdp": -1, "tensor": 1}


def values(seed: int, dtype=np.float32, shapes=SHAPES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        path: random.standard_normal(shape).astype(dtype)
        for path, shape in shapes.items()
        if not path.startswith("projector")
    }


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *groups, last = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = leaf
    return tree


def state_of(whole: dict[str, np.ndarray], step: int = 0, frozen=WHOLLY, cuts=CUTS) -> TrainState:
    parameters, rest = part(nested({k: jnp.asarray(v) for k, v in whole.items()}), frozen, cuts)
    moments = jax.tree.map(jnp.zeros_like, parameters)
    return TrainState(jnp.int32(step), parameters, rest, [{"mu": moments}])


def wanted(state: TrainState, dtype=None, mesh=None, axes=None) -> TrainState:
    mesh = mesh or make_mesh(MESH, jax.devices()[:1])

    def sharding(leaf):
        return NamedSharding(mesh, P(*(None,) * (leaf.ndim - 1), axes) if leaf.ndim > 1 else P())

    made = abstract(state, jax.tree.map(sharding, state))
    if dtype is None:
        return made
    smaller = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding), made.frozen
    )
    return dataclasses.replace(made, frozen=smaller)


def write_start(folder: pathlib.Path, leaves: dict[str, np.ndarray]) -> pathlib.Path:
    """As `convert import` does, but for the files beside."""
    step = folder / "checkpoints" / "0"
    write_checkpoint(step, iter(leaves.items()), sum(leaf.nbytes for leaf in leaves.values()))
    return folder


def begun(workdir, start, *, step=1, frozen=WHOLLY, cuts=CUTS, keep=2, dtype=None):
    """A run that started from there and has saved once: (Checkpoints, what it saved)."""
    shapes = {path: jnp.zeros(shape) for path, shape in SHAPES.items()}
    like = state_of(shapes, frozen=frozen, cuts=cuts)
    checkpoints = Checkpoints(workdir, keep, cuts)
    trained, rest = checkpoints.start_from(start, wanted(like, dtype), leave_out=True)
    trained |= {"projector/kernel": jnp.ones(SHAPES["projector/kernel"])}
    trained = {path: leaf + step for path, leaf in trained.items()}

    def filled(tree, leaves):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: leaves["/".join(key.key for key in path)], tree
        )

    state = TrainState(
        jnp.int32(step),
        filled(like.parameters, trained),
        filled(like.frozen, rest),
        like.optimizer,
    )
    checkpoints.save(step, state, next_slot=7, config={"steps": 9})
    checkpoints.close()
    return checkpoints, state


def restored(workdir, state, moved_to="", cuts=CUTS, step=1, **how):
    checkpoints = Checkpoints(workdir, 2, cuts)
    return checkpoints.restore(step, wanted(state, **how), moved_to)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.asarray(b)), one, other)


@pytest.fixture
def start(tmp_path):
    return write_start(tmp_path / "start", values(0))


def stored(step: pathlib.Path) -> set[str]:
    """Paths of what Orbax finds in a step folder itself."""
    return set(by_path(ocp.metadata(step, "state").metadata["parameters"]))


def test_what_is_frozen_is_left_out_and_comes_back_to_the_bit(start, tmp_path):
    _, state = begun(tmp_path / "run", start)
    step = tmp_path / "run" / "checkpoints" / "1"
    assert stored(step) == {"projector/kernel", "decoder/head", "decoder/blocks/kernel"}
    head = ocp.metadata(step, "state").metadata["parameters"]["decoder"]["head"]
    assert tuple(head.shape) == (8, 4)
    found, slot = restored(tmp_path / "run", state)
    assert slot == 7
    assert_same(found, state)
    again = values(0)
    np.testing.assert_array_equal(found.frozen["encoder"]["kernel"], again["encoder/kernel"])
    np.testing.assert_array_equal(
        found.frozen["decoder"]["blocks"]["kernel"], again["decoder/blocks/kernel"][[0, 2, 3]]
    )


def test_readers_find_every_parameter_whole(start, tmp_path):
    _, state = begun(tmp_path / "run", start)
    whole = merge(state.parameters, state.frozen, CUTS)
    step = last_step(tmp_path / "run")
    assert {path: leaf.shape for path, leaf in saved_shapes(step).items()} == SHAPES
    like = wanted(state_of({path: jnp.zeros(shape) for path, shape in SHAPES.items()}, cuts={}))
    assert_same(load_parameters(tmp_path / "run", merge(like.parameters, like.frozen, {})), whole)
    saved = SavedParameters(step)
    for path, store in saved.stores.items():
        np.testing.assert_array_equal(saved.read(path, store), by_path(whole)[path])


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_a_run_goes_on_where_another_dtype_is_computed_in(tmp_path, dtype):
    """The fingerprints are of what was saved, not of what a machine makes of it."""
    start = write_start(tmp_path / "start", values(0, dtype))
    _, state = begun(tmp_path / "run", start)
    small, _ = restored(tmp_path / "run", state, dtype=jnp.bfloat16)
    assert_same(small.frozen, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state.frozen))
    assert_same(small.parameters, state.parameters)
    _, state = begun(tmp_path / "small", start, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.frozen)} == {jnp.dtype(jnp.bfloat16)}
    found, _ = restored(tmp_path / "small", state, dtype=jnp.float32)
    assert_same(found.frozen, state_of(values(0, dtype) | projector()).frozen)
    # Readers get the base's values, not those that were computed with.
    saved = SavedParameters(last_step(tmp_path / "small"))
    kernel = saved.read("encoder/kernel", saved.stores["encoder/kernel"])
    np.testing.assert_array_equal(kernel, values(0, dtype)["encoder/kernel"])


def projector():
    return {"projector/kernel": np.ones(SHAPES["projector/kernel"], np.float32)}


@on_eight_devices
def test_on_another_mesh_too():
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        start = write_start(folder / "start", values(0))
        _, state = begun(folder / "run", start)
        mesh = make_mesh({"replica": 2, "fsdp": 2, "tensor": 2})
        for axes in ("fsdp", ("tensor", "fsdp")):
            found, _ = restored(folder / "run", state, mesh=mesh, axes=axes)
            assert_same(found, state)


class TestChanged:
    """What a run started from is no longer what it was."""

    @pytest.fixture(scope="class")
    def made(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("made")
        start = write_start(folder / "start", values(0))
        return folder, begun(folder / "run", start)[1]

    @pytest.fixture
    def start(self, made, tmp_path):
        return shutil.copytree(made[0] / "start", tmp_path / "start")

    @pytest.fixture
    def run(self, made, start, tmp_path):
        workdir = shutil.copytree(made[0] / "run", tmp_path / "run")
        pointer = last_step(workdir) / "frozen" / "data.json"
        here = {"step": str(start / "checkpoints" / "0")}
        pointer.write_text(json.dumps(json.loads(pointer.read_text()) | here))
        return workdir, made[1]

    def refused(self, run, says, moved_to=""):
        with pytest.raises(BaseError, match=says):
            restored(*run, moved_to)
        if not moved_to:
            with pytest.raises(BaseError, match=says):
                SavedParameters(last_step(run[0])).verify()

    @pytest.mark.parametrize(
        ("path", "place"), [("encoder/scale", 3), ("decoder/head", 0), ("decoder/blocks/kernel", 0)]
    )
    def test_one_value(self, run, start, path, place):
        shutil.rmtree(start)
        changed = values(0)
        changed[path].reshape(-1)[place] += 1e-6
        write_start(start, changed)
        self.refused(run, rf"start/checkpoints/0: is not what .*: {path} has other values there")

    def test_only_what_is_frozen_counts(self, run, start):
        shutil.rmtree(start)
        changed = values(0)
        changed["decoder/head"][:, 12:] += 1
        changed["decoder/blocks/kernel"][[1, 4]] += 1
        write_start(start, changed)
        found, _ = restored(*run)
        assert_same(found, run[1])

    def test_gone_and_found_elsewhere(self, run, start, tmp_path):
        moved = start.rename(tmp_path / "elsewhere")
        self.refused(
            run, rf"not in {start}/checkpoints/0; put them back there, or .*--config\.init_from=DIR"
        )
        for place in (moved, moved / "checkpoints" / "0"):
            found, _ = restored(*run, str(place))
            assert_same(found, run[1])
        other = write_start(tmp_path / "other", values(1))
        self.refused(run, "other/checkpoints/0: is not what the run", str(other))

    def test_moved_together(self, run, start, tmp_path):
        (tmp_path / "there").mkdir()
        start.rename(tmp_path / "there" / "start")
        workdir = run[0].rename(tmp_path / "there" / "run")
        found, _ = restored(workdir, run[1])
        assert_same(found, run[1])

    @pytest.mark.parametrize("change", ["shape", "missing"])
    def test_another_model(self, run, start, change):
        shutil.rmtree(start)
        changed = values(0)
        kernel = changed.pop("encoder/kernel")
        if change == "shape":
            changed["encoder/kernel"] = kernel[:3]
        write_start(start, changed)
        says = "is missing there" if change == "missing" else "encoder/kernel (is|has)"
        self.refused(run, f"start/checkpoints/0: is not what .*{says}")

    def test_damaged(self, run, start):
        (path,) = (start / "checkpoints" / "0" / "state").glob("manifest*")
        path.write_bytes(b"nonsense")
        self.refused(run, r"start/checkpoints/0: .* cannot be read, so the checkpoint is damaged")

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"step": 1}', "[" * 100_000])
    def test_the_pointer_itself(self, run, content):
        (last_step(run[0]) / "frozen" / "data.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"data\.json: is damaged"):
            restored(*run)

    def test_pointing_at_itself(self, run):
        path = last_step(run[0]) / "frozen" / "data.json"
        values = json.loads(path.read_text()) | {"step": str(last_step(run[0]))}
        path.write_text(json.dumps(values))
        self.refused(run, "which is itself or points back to it")


def test_a_run_may_start_from_a_run_that_points_further(start, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.json").write_text("{}")
    checkpoints, first = begun(tmp_path / "first", start, keep=1)
    cuts = {"decoder/head": Cut(1, ((4, 8),))}
    frozen = ("projector/kernel", "encoder/scale", "decoder/blocks/kernel")
    _, second = begun(tmp_path / "second", tmp_path / "first", frozen=frozen, cuts=cuts)
    step = last_step(tmp_path / "second")
    assert stored(step) == {"encoder/kernel", "decoder/head"}
    found, _ = restored(tmp_path / "second", second, cuts=cuts)
    assert_same(found, second)
    whole = merge(first.parameters, first.frozen, CUTS)
    assert_same(found.frozen["decoder"]["blocks"], whole["decoder"]["blocks"])
    assert_same(found.frozen["projector"], whole["projector"])

    # The first run goes on, and keeps the checkpoint that the second one needs.
    checkpoints = Checkpoints(tmp_path / "first", 1, CUTS)
    checkpoints.restore(1, wanted(first))
    for number in (2, 3):
        checkpoints.save(number, first, next_slot=7, config={"steps": 9})
    checkpoints.close()
    assert {path.name for path in (tmp_path / "first" / "checkpoints").iterdir()} == {"1", "3"}

    # What changes at the end of the chain is noticed at its beginning.
    shutil.rmtree(start)
    changed = values(0)
    changed["decoder/blocks/kernel"][0] += 1
    write_start(start, changed)
    with pytest.raises(BaseError, match=r"first/checkpoints/1: is not .*decoder/blocks/kernel has"):
        restored(tmp_path / "second", second, cuts=cuts)
    with pytest.raises(BaseError, match=r"start/checkpoints/0: is not what the run started from"):
        begun(tmp_path / "third", tmp_path / "first", cuts=cuts)


def test_what_may_be_deleted_is_written_after_all(start, tmp_path, monkeypatch, caplog):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.json").write_text("{}")
    begun(tmp_path / "first", start)
    (tmp_path / "first" / frozen_base.KEPT_FILE).mkdir()  # so it cannot be written
    _, second = begun(tmp_path / "second", tmp_path / "first")
    assert "bases.jsonl cannot be written" in caplog.text
    assert stored(last_step(tmp_path / "second")) == SHAPES.keys()
    shutil.rmtree(tmp_path / "first")
    found, _ = restored(tmp_path / "second", second)
    assert_same(found, second)


def test_checkpoints_of_before_are_whole_and_restore(tmp_path):
    whole = values(0) | projector()
    state = state_of(whole, step=4)
    old = {
        "step": state.step,
        "parameters": merge(state.parameters, state.frozen, CUTS),
        "optimizer": state.optimizer,
    }
    with ocp.training.Checkpointer((tmp_path / "checkpoints").absolute()) as checkpointer:
        checkpointer.save_checkpointables(
            4, {"state": old, "data": {"next_slot": 9}, "config": {"steps": 9}}
        )
    found, slot = restored(tmp_path, state, step=4)
    assert slot == 9
    assert_same(found, state)


def test_another_model_to_start_from_is_refused(tmp_path):
    shapes = SHAPES | {"encoder/kernel": (4, 6, 7)}
    start = write_start(tmp_path / "start", values(0, shapes=shapes))
    with pytest.raises(ValueError, match=r"of another model: encoder/kernel is \(4, 6, 7\) there"):
        begun(tmp_path / "run", start)
