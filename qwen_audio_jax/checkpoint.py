"""Checkpoints: train state, data position and config, in one Orbax step folder each."""

import contextlib
import dataclasses
import functools
import logging
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from qwen_audio_jax import frozen_base
from qwen_audio_jax.frozen_base import Base, BaseError, CheckpointError
from qwen_audio_jax.models.adapters import is_adapter
from qwen_audio_jax.models.cuts import Cuts
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.saved_parameters import SavedParameters, added_over_processes, compare

_REASON = 300
"""Characters of a library's error that are told; Orbax prints whole trees of arrays."""


class Checkpoints:
    """The `checkpoints/` folder of a run.

    A step folder appears only when it is complete, so being killed while saving loses that save and
    nothing else. It holds the optimizer's state and the parameters; of a run that started from
    weights and keeps some of them frozen, not those, but where they lie (see `frozen_base`).
    """

    def __init__(self, workdir: pathlib.Path, keep: int, cuts: Cuts):
        """Args:
        workdir: the run's folder.
        keep: how many of the latest checkpoints stay, beside those that others start from.
        cuts: of the parameters that are trained in part.
        """
        self._workdir, self._cuts = pathlib.Path(workdir), cuts
        self._saving = self._bytes = 0
        self._base: Base | None = None
        _silence_libraries()
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            (self._workdir / "checkpoints").absolute(),
            # The loop decides when to save.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep), frozen_base.KeptSteps(self._workdir)]
            ),
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """The last complete step, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, step: int, state: Any, *, next_slot: int, config: dict[str, Any]) -> None:
        """Starts saving; training goes on while it is written.

        Args:
            step: optimizer steps done.
            state: a TrainState.
            next_slot: the data position: the first slot of the pack plan not yet trained on.
            config: the run's config as JSON types.

        Raises:
            CheckpointError: this one, or the one before, could not be written.
        """
        with self._told():
            self._checkpointer.wait()
        parameters = _nested(self._written(state))
        saved = {"step": state.step, "parameters": parameters, "optimizer": state.optimizer}
        items = {"state": saved, "data": {"next_slot": next_slot}, "config": config}
        if self._base is not None:
            folder = self._workdir / "checkpoints" / str(step)
            items[frozen_base.ITEM] = self._base.to_json(folder)
        self._saving = step
        self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(saved))
        with self._told(), _json_item():
            self._checkpointer.save_checkpointables_async(step, items)

    def _written(self, state: Any) -> dict[str, jax.Array]:
        """The parameters that a checkpoint holds, by path."""
        trained, frozen = by_path(state.parameters), by_path(state.frozen)
        if self._base is not None:
            frozen = {path: x for path, x in frozen.items() if path not in self._base.fingerprints}
        both = trained.keys() & frozen.keys()
        whole = {path: self._cuts[path].join(trained[path], frozen[path]) for path in both}
        return trained | frozen | whole

    def restore(self, step: int, abstract_state: Any, moved_to: str = "") -> tuple[Any, int]:
        """The state and data position of a step.

        Args:
            step: a saved step.
            abstract_state: a TrainState of ShapeDtypeStructs with the shardings wanted now, which
                need not be the ones it was saved with.
            moved_to: where what the run started from may lie by now.

        Raises:
            CheckpointError: it is damaged, or of another model.
            BaseError: what is frozen is no longer where it lay, or no longer the same.
        """
        folder = self._workdir / "checkpoints" / str(step)
        rest = {"step": abstract_state.step, "optimizer": abstract_state.optimizer}
        try:
            saved = SavedParameters(folder, moved_to)
            parameters, frozen, found = self._load(saved, abstract_state)
            if saved.base is not None:
                compare(saved.base, found)
            with _partial():
                loaded = self._checkpointer.load_checkpointables(
                    step, {"state": rest, "data": None}
                )
        except BaseError:
            raise
        except Exception as error:  # Orbax and TensorStore have a dozen kinds
            raise CheckpointError(
                f"{folder}: cannot be restored ({_short(error)}); put it back from a copy, or "
                "delete it to go on from the checkpoint before it"
            ) from error
        self._base = saved.base
        trees = {
            "parameters": _filled(abstract_state.parameters, parameters),
            "frozen": _filled(abstract_state.frozen, frozen),
        }
        state = dataclasses.replace(abstract_state, **loaded["state"], **trees)
        return state, int(loaded["data"]["next_slot"])

    def start_from(
        self, folder: pathlib.Path | str, abstract_state: Any, *, leave_out: bool
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """The first parameters of a run, from another one or from what `convert import` wrote.

        Args:
            folder: where they lie.
            abstract_state: see `restore`.
            leave_out: whether checkpoints shall leave out what is frozen of them.

        Returns:
            (what is trained, what is frozen), by path: of the parts that the folder has, and of
            adapters, if it has any.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: its parameters have other names or shapes; the sentence names one.
            CheckpointError: they cannot be read.
        """
        step = last_step(folder)
        saved = SavedParameters(step)
        wanted = _whole_shapes(abstract_state, self._cuts)
        has = {path.split("/")[0] for path in saved.shapes()}
        wanted = {path: shape for path, shape in wanted.items() if path.split("/")[0] in has}
        if not any(map(is_adapter, saved.shapes())):  # then they are new
            wanted = {path: shape for path, shape in wanted.items() if not is_adapter(path)}
        _check_shapes(folder, saved.shapes(), wanted)
        # Before it is read, since the run that has it may be training.
        leave_out = leave_out and self._stays(step)
        saved.verify()
        parameters, frozen, found = self._load(saved, abstract_state, wanted)
        if leave_out and frozen:
            cuts = {path: cut for path, cut in self._cuts.items() if path in frozen}
            self._base = Base(step, found, cuts)
        return parameters, frozen

    def _stays(self, step: pathlib.Path) -> bool:
        """Whether a step folder will not be deleted; process 0 sees to it for all."""
        lost = jax.process_index() == 0 and not frozen_base.keep(step, self._workdir)
        return not added_over_processes([[lost, 0]]).any()

    def _load(
        self, saved: SavedParameters, abstract_state: Any, only: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, str]]:
        """(what is trained, what is frozen, the fingerprints of that), by path."""
        trained, frozen = by_path(abstract_state.parameters), by_path(abstract_state.frozen)
        if only is not None:
            trained = {path: leaf for path, leaf in trained.items() if path in only}
            frozen = {path: leaf for path, leaf in frozen.items() if path in only}
        parameters, _ = saved.load(trained, self._cuts)
        return parameters, *saved.load(frozen, self._cuts, frozen=True)

    def close(self) -> None:
        """Waits for the last save to be complete.

        Raises:
            CheckpointError: it could not be written.
        """
        with self._told():
            self._checkpointer.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong while a checkpoint is written, in one sentence."""
        try:
            yield
        except Exception as error:  # Orbax and TensorStore have a dozen kinds
            if jax.process_index() == 0:  # what is there of it takes space, and is of no use
                folder = self._workdir / "checkpoints"
                for part in folder.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
                    shutil.rmtree(part, ignore_errors=True)
            raise CheckpointError(
                f"{self._workdir / 'checkpoints'}: checkpoint {self._saving} could not be written "
                f"({_short(error)}); it takes {self._bytes / 1e6:,.0f} MB and "
                f"{shutil.disk_usage(self._workdir).free / 1e6:,.0f} MB are free there. Once that "
                f"is mended, {goes_on(self._workdir)}"
            ) from error


def goes_on(workdir: pathlib.Path) -> str:
    """Where the next start of a run begins, as the end of a sentence."""
    try:
        return f"the same command goes on from step {last_step(workdir).name}"
    except FileNotFoundError:
        return "the same command starts anew, for no checkpoint is there"


@functools.cache  # once is enough
def _silence_libraries() -> None:
    """Keeps Orbax and TensorStore from printing, thread by thread, what is raised here as well."""
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    told = sys.unraisablehook

    def hook(unraisable):
        # Of reads that end after another one has failed, and with it the loop that waited for both.
        if str(unraisable.exc_value) != "Event loop is closed":
            told(unraisable)

    sys.unraisablehook = hook


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON else f"{text[: _REASON - 4]} ..."


def run_folder(folder: pathlib.Path | str) -> pathlib.Path:
    """The run or import folder that a path means: itself, or the one its step folder lies in."""
    # The name alone does not tell: an imported model may lie in checkpoints/whisper.
    step = pathlib.Path(folder).absolute()
    is_step = step.parent.name == "checkpoints" and (step / "state").is_dir()
    return step.parent.parent if is_step else pathlib.Path(folder)


def last_step(folder: pathlib.Path | str) -> pathlib.Path:
    """The step folder that a path means: itself, or the last one of a run or import folder.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    # Orbax finds nothing in a relative path.
    folder = pathlib.Path(folder).absolute()
    steps = [step for step in (folder / "checkpoints").glob("[0-9]*") if step.name.isdigit()]
    step = max(steps, key=lambda path: int(path.name)) if steps else folder
    if not (step / "state").is_dir():
        raise FileNotFoundError(f"{folder}: holds no checkpoint")
    return step


def saved_shapes(step: pathlib.Path) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every parameter of a step folder, by path; also of those it points to."""
    return {
        path: jax.ShapeDtypeStruct(tuple(store.shape), store.dtype.numpy_dtype)
        for path, store in SavedParameters(step).stores.items()
    }


def load_parameters(folder: pathlib.Path | str, abstract_parameters: Any) -> dict[str, Any]:
    """Parameters of a run, of what `convert import` wrote, or of one step folder.

    Args:
        folder: where they lie.
        abstract_parameters: those wanted, as ShapeDtypeStructs with shardings.

    Returns:
        The parts that the checkpoint has (`encoder`, `decoder` ...), each of them whole, in the
        dtypes wanted.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: its parameters have other names or shapes; the sentence names one.
        CheckpointError: they cannot be read, or what is frozen of them has changed.
    """
    saved = SavedParameters(last_step(folder))
    has = {path.split("/")[0] for path in saved.shapes()}
    wanted = {part: tree for part, tree in abstract_parameters.items() if part in has}
    _check_shapes(folder, saved.shapes(), _shapes(wanted))
    saved.verify()
    return _filled(wanted, saved.load(by_path(wanted))[0])


def load_partly(step: pathlib.Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a step folder that a nested dict of ShapeDtypeStructs asks for.

    Each needs a sharding; what was saved in another dtype is cast.
    """
    return _filled(wanted, SavedParameters(step).load(by_path(wanted))[0])


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree of parameters, by path."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _filled(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """A tree of this form with these leaves."""
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_name(path)], tree)


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by path as nested dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *groups, last = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = leaf
    return tree


@contextlib.contextmanager
def _partial() -> Iterator[None]:
    """In which Orbax loads a part of what was saved."""
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        yield


@contextlib.contextmanager
def _json_item() -> Iterator[None]:
    """In which Orbax writes the item that points to a base as JSON; else it would be a pytree."""
    context, registry = ocp.Context(), ocp.handlers.local_registry()
    registry.add(ocp.handlers.JsonHandler, checkpointable_name=frozen_base.ITEM)
    context.checkpointables.registry = registry
    with context:
        yield


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {path: tuple(leaf.shape) for path, leaf in by_path(tree).items()}


def _whole_shapes(state: Any, cuts: Cuts) -> dict[str, tuple[int, ...]]:
    """Of every parameter of a TrainState, trained and frozen part together."""
    trained, frozen = _shapes(state.parameters), _shapes(state.frozen)
    whole = trained | frozen
    for path, cut in cuts.items():
        size = trained[path][cut.axis] + frozen[path][cut.axis]
        whole[path] = (*whole[path][: cut.axis], size, *whole[path][cut.axis + 1 :])
    return whole


def _check_shapes(folder: pathlib.Path | str, saved: dict, wanted: dict) -> None:
    for name in sorted(saved | wanted):
        if saved.get(name) != wanted.get(name):
            raise ValueError(
                f"config.init_from: {folder} is of another model: {name} is "
                f"{saved.get(name, 'missing')} there and {wanted.get(name, 'missing')} here"
            )


def abstract(tree: Any, shardings: Any) -> Any:
    """ShapeDtypeStructs of a pytree, with shardings."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        shardings,
    )
