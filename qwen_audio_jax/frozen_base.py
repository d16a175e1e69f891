"""Where the parameters lie that a run keeps frozen, and that its checkpoints therefore leave out.

A run that starts from weights and trains a part of them saves that part, and fingerprints of the
rest. Beside `state` its step folders have an item `frozen`, a JSON object: the step folder that the
rest lies in (the base), the fingerprint of what is frozen of each such parameter, and of those that
are trained in part how they are cut. What is trained of these is in `state`, and nothing else.

A base may itself be a step of a run with a base. A run's own checkpoints come and go; those that
are the base of others are listed in its `bases.jsonl` and stay.
"""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from qwen_audio_jax.models.cuts import Cut, Cuts

ITEM = "frozen"
"""In a step folder, beside `state`."""

KEPT_FILE = "bases.jsonl"
"""In a run folder: which of its checkpoints are the base of another run."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read. The sentence names the folder and the mend."""


class BaseError(CheckpointError):
    """What a run started from and keeps frozen is gone, damaged, or another."""


@dataclasses.dataclass(frozen=True)
class Base:
    """What a run started from and keeps frozen.

    Attributes:
        step: the step folder that it lies in.
        fingerprints: of what is frozen of each parameter, by path.
        cuts: of those that are trained in part.
    """

    step: pathlib.Path
    fingerprints: Mapping[str, str]
    cuts: Cuts

    def to_json(self, step: pathlib.Path) -> dict[str, Any]:
        """As JSON types, for the step folder that it is written to."""
        parameters: dict[str, Any] = {}
        for path, fingerprint in self.fingerprints.items():
            parameters[path] = {"fingerprint": fingerprint}
            if cut := self.cuts.get(path):
                parameters[path] |= {
                    "axis": cut.axis,
                    "frozen": [list(pair) for pair in cut.frozen],
                }
        # Relative too, so that a run and what it started from can be moved together.
        relative = os.path.relpath(self.step.absolute(), step.absolute())
        return {"step": str(self.step.absolute()), "relative": relative, "parameters": parameters}


def read_base(step: pathlib.Path, moved_to: str = "") -> Base | None:
    """What a step folder points to; None if it holds all of its parameters.

    Args:
        step: the step folder.
        moved_to: where the base may lie by now: a run or import folder, or a step folder.

    Raises:
        CheckpointError: the item is damaged.
        BaseError: there is no base any more.
    """
    path = step / ITEM / "data.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
        absolute, relative = pathlib.Path(values["step"]), values["relative"]
        fingerprints = {name: one["fingerprint"] for name, one in values["parameters"].items()}
        cuts = {
            name: Cut(one["axis"], tuple((first, end) for first, end in one["frozen"]))
            for name, one in values["parameters"].items()
            if "axis" in one
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); take another checkpoint") from error
    places = [absolute, pathlib.Path(os.path.normpath(step.absolute() / relative))]
    if moved_to:
        moved = pathlib.Path(moved_to).absolute()
        places = [moved / "checkpoints" / absolute.name, moved, *places]
    for place in places:
        if (place / "state").is_dir():
            return Base(place, fingerprints, cuts)
    looked = " or ".join(dict.fromkeys(map(str, places)))
    raise BaseError(
        f"{step}: {_frozen_parameters(fingerprints)} are not in it but in the weights that the run "
        f"started from, and those are not in {looked}; put them back there, or name their new "
        "place: with --config.init_from=DIR to train on, with --init-from=DIR to export"
    )


def _frozen_parameters(fingerprints: Mapping[str, str]) -> str:
    first, *others = sorted(fingerprints)
    return f"{first} and {len(others)} more frozen parameters" if others else first


def keep(step: pathlib.Path, workdir: pathlib.Path) -> bool:
    """Sees to it that a step folder stays, as the base of another run.

    Args:
        step: the step folder. One that is no run's checkpoint stays anyway.
        workdir: of the other run.

    Returns:
        Whether it stays; if not, a warning says why.
    """
    folder = step.parent.parent
    if step.parent.name != "checkpoints" or not (folder / "config.json").is_file():
        return True
    path = folder / KEPT_FILE
    line = json.dumps({"step": int(step.name), "workdir": str(workdir.absolute())})
    try:
        if not path.is_file() or line not in path.read_text().splitlines():
            with path.open("a") as file:
                file.write(line + "\n")
    except OSError as error:
        logging.warning(
            "%s cannot be written (%s), so the run there may delete what this one starts from; "
            "frozen parameters are therefore written into each checkpoint",
            path,
            error.strerror,
        )
        return False
    return True


@dataclasses.dataclass(frozen=True)
class KeptSteps:
    """An Orbax preservation policy: a run's checkpoints that are the base of others stay."""

    folder: pathlib.Path

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """For each checkpoint, whether it is the base of another run."""
        kept = set(self._steps())
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def _steps(self) -> Iterator[int]:
        path = self.folder / KEPT_FILE
        for line in path.read_text().splitlines() if path.is_file() else ():
            try:
                yield json.loads(line)["step"]
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"{path}: {line[:60]!r} is no line of it; delete that line"
                ) from error
