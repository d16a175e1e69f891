"""Many processes: which of them this is, by the environment, and how they come together.

On a TPU pod and under Slurm JAX finds out by itself. Elsewhere three variables say it:
JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES, JAX_PROCESS_ID (from 0). A
process without any of that is on its own, and nothing here does anything.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax._src import clusters
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.parallel.group import Group, GroupError
from qwen_audio_jax.run_config import WaitConfig

_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """Attributes:
    address: host:port of process 0.
    count: of the processes.
    index: of this one, from 0.
    device_ids: ordinals of its devices on this host; None is all.
    """

    address: str
    count: int
    index: int
    device_ids: Sequence[int] | None = None


def initialize(waits: WaitConfig) -> Group:
    """Connects this process with the others of its run, if there are to be any.

    To be called before JAX is asked for a device.

    Raises:
        GroupError: the environment is set in part, or not all processes came.
    """
    info = process_info(os.environ, waits.start)
    if info is None:
        return Group()
    group = Group.connect(
        info.address,
        info.index,
        info.count,
        start_timeout=waits.start,
        timeout=waits.meeting,
    )
    # JAX's own handler would take SIGTERM for itself, and the run would not end by it outside of
    # the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            info.address,
            info.count,
            info.index,
            local_device_ids=info.device_ids,
            cluster_detection_method="deactivate",
        )
    except (RuntimeError, ValueError) as error:
        group.fail(f"JAX cannot connect to {info.address}: {error}")
    return group


def shutdown(group: Group) -> None:
    """The end of a run that went well."""
    group.close()
    if group.count > 1:
        jax.distributed.shutdown()


def process_info(environment: Mapping[str, str], timeout: float) -> ProcessInfo | None:
    """Which process of how many this is; None if it is on its own.

    Args:
        environment: variables; JAX's own detection reads the real ones.
        timeout: seconds that the name of a TPU pod's first host may take to be known.

    Raises:
        GroupError: the three variables are set in part, or make no sense.
    """
    given = {key: environment.get(key, "") for key in (_ADDRESS, _COUNT, _INDEX)}
    if not given[_COUNT] and not given[_INDEX]:
        return _detected(given[_ADDRESS] or None, timeout)
    if missing := [key for key, value in given.items() if not value]:
        there = ", ".join(key for key, value in given.items() if value)
        raise GroupError(
            f"{there} is set and {' and '.join(missing)} is not; set all three, or none for one "
            "process"
        )
    for key in (_COUNT, _INDEX):
        if not given[key].isdecimal():
            raise GroupError(f"{key}: must be a number, not {given[key]!r}")
    count, index = int(given[_COUNT]), int(given[_INDEX])
    if not index < count:
        raise GroupError(f"{_INDEX}: must be from 0 to {count - 1} ({_COUNT} - 1), not {index}")
    return _checked(ProcessInfo(given[_ADDRESS], count, index, _device_ids(environment)))


def _device_ids(environment: Mapping[str, str]) -> list[int] | None:
    text = environment.get("JAX_LOCAL_DEVICE_IDS", "")
    return [int(part) for part in text.split(",")] if text else None


def _detected(address: str | None, timeout: float) -> ProcessInfo | None:
    """What JAX sees by itself: Slurm, TPU pods, Open MPI, Kubernetes."""
    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    try:
        found = detect(address, None, None, _device_ids(os.environ), None, timeout)
    except Exception as error:  # whatever a cluster's own library raises
        raise GroupError(
            f"JAX cannot tell how many processes there are ({error}); set {_ADDRESS}, {_COUNT} and "
            f"{_INDEX}"
        ) from error
    address, count, index, device_ids = found
    if count is None and address:
        raise GroupError(
            f"{_ADDRESS} is set and {_COUNT} and {_INDEX} are not; set all three, or none for one "
            "process"
        )
    return _checked(ProcessInfo(address, count, index, device_ids)) if (count or 1) > 1 else None


def _checked(info: ProcessInfo) -> ProcessInfo | None:
    host, _, port = info.address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise GroupError(f"{_ADDRESS}: must be HOST:PORT, not {info.address!r}")
    return info if info.count > 1 else None


class AllReducedCounts:
    """Adds up small counts of all processes. They are read a step later, so no step waits."""

    def __init__(self):
        self._alone = jax.process_count() == 1
        devices = np.array(sorted(jax.devices(), key=lambda one: (one.process_index, one.id)))
        mesh = Mesh(
            devices.reshape(jax.process_count(), -1),
            ("process", "device"),
            axis_types=(AxisType.Auto,) * 2,
        )
        self._each = NamedSharding(mesh, P("process"))
        self._sum = jax.jit(
            lambda counts: counts.sum(axis=0), out_shardings=NamedSharding(mesh, P())
        )

    def __call__(self, *counts: int) -> jax.Array | np.ndarray:
        """int32: the sums, on their way."""
        mine = np.array([counts], np.int32)
        if self._alone:
            return mine[0]
        return self._sum(jax.make_array_from_process_local_data(self._each, mine))
