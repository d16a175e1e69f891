"""Remat, micro-batches and mesh of a step, found by compiling it with one after another."""

import dataclasses
import math
from collections.abc import Callable

from qwen_audio_jax.compilation.topology import Topology
from qwen_audio_jax.compilation.verdict import Verdict, compile_step
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.monitoring.chips import GIB
from qwen_audio_jax.run_config import RunConfig

Compile = Callable[[RunConfig, Topology], Verdict]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A configuration that fits, and what the compiler says of it."""

    config: RunConfig
    verdict: Verdict

    @property
    def flags(self) -> str:
        """What sets a configuration to this one."""
        mesh = " ".join(f"--config.mesh.{axis}={n}" for axis, n in self.config.mesh.items())
        return (
            f"{mesh} --config.train.accumulate={self.config.train.accumulate} "
            f"--config.model.remat={self.config.model.remat}"
        )


def search(
    config: RunConfig,
    topology: Topology,
    tell: Callable[[str], None],
    compile_step: Compile = compile_step,
) -> Trial:
    """The best of every remat policy, each with as few micro-batches as fit, and then of meshes.

    With the best policy `tensor` is doubled for as long as that raises the MFU's bound, or nothing
    fits yet. The rows of a step stay as they are; micro-batches say how many are taken at once.

    Args:
        config: what is not tried stays as it is.
        topology: to compile for.
        tell: is told how each trial went.
        compile_step: see `verdict.compile_step`.

    Raises:
        ValueError: see `verdict.compile_step`, or nothing fits.
    """
    replica, tensor = max(config.mesh["replica"], topology.slices), config.mesh["tensor"]
    best: Trial | None = None
    while topology.device_count % (replica * tensor) == 0:
        mesh = {"replica": replica, "fsdp": -1, "tensor": tensor}
        remats = (best.config.model.remat,) if best else REMAT
        found = _best(remats, dataclasses.replace(config, mesh=mesh), topology, tell, compile_step)
        if best and not (found and found.verdict.mfu_bound > best.verdict.mfu_bound):
            break
        best, tensor = found, 2 * tensor
    if not best:
        raise ValueError(
            f"--search: nothing fits on {topology}; fewer rows (config.data.shapes) or more chips "
            "take less"
        )
    return best


def _best(
    remats: tuple[str, ...], config: RunConfig, topology: Topology, tell, compile_step: Compile
) -> Trial | None:
    trials = (
        _fewest_micro_batches(
            dataclasses.replace(config, model=dataclasses.replace(config.model, remat=remat)),
            topology,
            tell,
            compile_step,
        )
        for remat in remats
    )
    return max(filter(None, trials), key=lambda trial: trial.verdict.mfu_bound, default=None)


def _fewest_micro_batches(
    config: RunConfig, topology: Topology, tell, compile_step: Compile
) -> Trial | None:
    rows = min(shape.rows for shape in config.data.row_shapes)
    shards = topology.device_count // config.mesh["tensor"]
    parts = 1
    while rows % (shards * parts) == 0:
        train = dataclasses.replace(config.train, accumulate=parts)
        trial = dataclasses.replace(config, train=train)
        verdict = compile_step(trial, topology)
        bound = f"MFU at most {verdict.mfu_bound:.1%}" if verdict.fits else "does not fit"
        tell(f"{verdict.setup}: {verdict.total / GIB:.2f} GiB, {bound}")
        if verdict.fits:
            return Trial(trial, verdict)
        # Micro-batches divide a part of the memory, at most all: fewer than this cannot do.
        parts *= 2 ** max(1, math.ceil(math.log2(verdict.total / verdict.limit)))
    return None
