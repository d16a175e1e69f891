"""Checkpoints: train state, data position and config, in one Orbax step folder each."""

import contextlib
import functools
import json
import logging
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import jax
import tensorstore
from orbax.checkpoint import v1 as ocp

from qwen_audio_jax.models.parts import path_name

_REASON = 300
"""Characters of a library's error that are told; Orbax prints whole trees of arrays."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read. The sentence names the folder and the mend."""


class Checkpoints:
    """The `checkpoints/` folder of a run.

    A step folder appears only when it is complete, so being killed while saving loses that save and
    nothing else.
    """

    def __init__(self, workdir: pathlib.Path, keep: int):
        """Args:
        workdir: the run's folder.
        keep: how many of the latest checkpoints stay.
        """
        self._workdir = pathlib.Path(workdir)
        self._saving = self._bytes = 0
        _silence_libraries()
        self._checkpointer = ocp.training.Checkpointer(
            (self._workdir / "checkpoints").absolute(),
            # The loop decides when to save.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
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
            state: pytree of arrays.
            next_slot: the data position: the first slot of the pack plan not yet trained on.
            config: the run's config as JSON types.

        Raises:
            CheckpointError: this one, or the one before, could not be written.
        """
        with self._told():
            self._checkpointer.wait()
        self._saving = step
        self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        with self._told():
            self._checkpointer.save_checkpointables_async(
                step, {"state": state, "data": {"next_slot": next_slot}, "config": config}
            )

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, int]:
        """The state and data position of a step.

        Args:
            step: a saved step.
            abstract_state: ShapeDtypeStructs with the shardings wanted now, which need not be the
                ones it was saved with.

        Raises:
            CheckpointError: it is damaged, or of another model.
        """
        try:
            loaded = self._checkpointer.load_checkpointables(
                step, {"state": abstract_state, "data": None}
            )
            return loaded["state"], int(loaded["data"]["next_slot"])
        except Exception as error:  # Orbax and TensorStore have a dozen kinds
            folder = self._workdir / "checkpoints" / str(step)
            raise CheckpointError(
                f"{folder}: cannot be restored ({_short(error)}); put it back from a copy, or "
                "delete it to go on from the checkpoint before it"
            ) from error

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
    """Shape and dtype of every parameter in a step folder, by path."""
    saved = ocp.metadata(step, "state").metadata["parameters"]
    leaves = jax.tree_util.tree_leaves_with_path(saved)
    return {
        path_name(path): jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
        for path, leaf in leaves
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
    """
    step = last_step(folder)
    saved = {path: leaf.shape for path, leaf in saved_shapes(step).items()}
    wanted = {part: abstract_parameters[part] for part in abstract_parameters if _has(saved, part)}
    _check_shapes(folder, saved, _shapes(wanted))
    return load_partly(step, wanted)


def load_partly(step: pathlib.Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a step folder that a nested dict of ShapeDtypeStructs asks for.

    Each needs a sharding; what was saved in another dtype is cast.
    """
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        loaded = ocp.load_checkpointables(step, {"state": {"parameters": wanted}})
    return loaded["state"]["parameters"]


def open_parameter(step: pathlib.Path, path: str) -> tensorstore.TensorStore:
    """One parameter of a step folder, to read a part of; Orbax itself loads whole arrays."""
    metadata = json.loads((step / "state" / "_METADATA").read_text())
    base = f"file://{step.absolute()}/state/"
    kvstore = {"driver": "ocdbt", "base": base, "path": f"parameters.{path.replace('/', '.')}/"}
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    return tensorstore.open({"driver": driver, "kvstore": kvstore}, open=True, read=True).result()


def _has(saved: dict[str, Any], part: str) -> bool:
    return any(path.split("/")[0] == part for path in saved)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): tuple(leaf.shape) for path, leaf in leaves}


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
