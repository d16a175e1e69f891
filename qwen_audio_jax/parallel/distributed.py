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
from qwen_audio_jax.run_config import Waits

_ADDRESS, _COUNT, _NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


@dataclasses.dataclass(frozen=True)
class Place:
    """Attributes:
    address: host:port of process 0.
    count: of the processes.
    number: of this one, from 0.
    devices: ordinals of its devices on this host; None is all.
    """

    address: str
    count: int
    number: int
    devices: Sequence[int] | None = None


def join(waits: Waits) -> Group:
    """Connects this process with the others of its run, if there are to be any.

    To be called before JAX is asked for a device.

    Raises:
        GroupError: the environment is set in part, or not all processes came.
    """
    place = place_of(os.environ, waits.start)
    if place is None:
        return Group()
    group = Group.enter(
        place.address,
        place.number,
        place.count,
        start_timeout=waits.start,
        timeout=waits.meeting,
    )
    # JAX's own handler would take SIGTERM for itself, and the run would not end by it outside of
    # the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            place.address,
            place.count,
            place.number,
            local_device_ids=place.devices,
            cluster_detection_method="deactivate",
        )
    except (RuntimeError, ValueError) as error:
        group.fail(f"JAX cannot connect to {place.address}: {error}")
    return group


def leave(group: Group) -> None:
    """The end of a run that went well."""
    group.leave()
    if group.count > 1:
        jax.distributed.shutdown()


def place_of(environment: Mapping[str, str], timeout: float) -> Place | None:
    """Which process of how many this is; None if it is on its own.

    Args:
        environment: variables; JAX's own detection reads the real ones.
        timeout: seconds that the name of a TPU pod's first host may take to be known.

    Raises:
        GroupError: the three variables are set in part, or make no sense.
    """
    given = {key: environment.get(key, "") for key in (_ADDRESS, _COUNT, _NUMBER)}
    if not given[_COUNT] and not given[_NUMBER]:
        return _detected(given[_ADDRESS] or None, timeout)
    if missing := [key for key, value in given.items() if not value]:
        there = ", ".join(key for key, value in given.items() if value)
        raise GroupError(
            f"{there} is set and {' and '.join(missing)} is not; set all three, or none for one "
            "process"
        )
    for key in (_COUNT, _NUMBER):
        if not given[key].isdecimal():
            raise GroupError(f"{key}: must be a number, not {given[key]!r}")
    count, number = int(given[_COUNT]), int(given[_NUMBER])
    if not number < count:
        raise GroupError(f"{_NUMBER}: must be from 0 to {count - 1} ({_COUNT} - 1), not {number}")
    return _checked(Place(given[_ADDRESS], count, number, _device_ids(environment)))


def _device_ids(environment: Mapping[str, str]) -> list[int] | None:
    text = environment.get("JAX_LOCAL_DEVICE_IDS", "")
    return [int(part) for part in text.split(",")] if text else None


def _detected(address: str | None, timeout: float) -> Place | None:
    """What JAX sees by itself: Slurm, TPU pods, Open MPI, Kubernetes."""
    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    try:
        found = detect(address, None, None, _device_ids(os.environ), None, timeout)
    except Exception as error:  # whatever a cluster's own library raises
        raise GroupError(
            f"JAX cannot tell how many processes there are ({error}); set {_ADDRESS}, {_COUNT} and "
            f"{_NUMBER}"
        ) from error
    address, count, number, devices = found
    if count is None and address:
        raise GroupError(
            f"{_ADDRESS} is set and {_COUNT} and {_NUMBER} are not; set all three, or none for one "
            "process"
        )
    return _checked(Place(address, count, number, devices)) if (count or 1) > 1 else None


def _checked(place: Place) -> Place | None:
    host, _, port = place.address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise GroupError(f"{_ADDRESS}: must be HOST:PORT, not {place.address!r}")
    return place if place.count > 1 else None


class Tally:
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
