"""Parameters that are divided over all processes, whole once more on the devices of each."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from qwen_audio_jax.parallel.sharding import AXES, shardings


def local_copy(tree: Any) -> tuple[Any, Mesh]:
    """Parameters on a mesh of this process's devices alone, divided over them.

    All processes call it together, and each has as many devices. Where there is one process, an
    array that lies as it should already is not copied.

    Args:
        tree: nested dict of arrays, on a mesh of all devices.

    Returns:
        (The parameters, their mesh.)
    """
    devices = np.array(sorted(jax.devices(), key=lambda one: (one.process_index, one.id)))
    grid = devices.reshape(jax.process_count(), 1, -1, 1)  # AXES: all of them fsdp
    kinds = (AxisType.Auto,) * (1 + len(AXES))
    # Nothing is divided over the first axis, so each process has it all.
    every = Mesh(grid, ("process", *AXES), axis_types=kinds)
    here = Mesh(grid[jax.process_index()], AXES, axis_types=kinds[1:])

    def one(array: jax.Array, wanted: NamedSharding) -> jax.Array:
        pieces = [shard.data for shard in jax.device_put(array, wanted).addressable_shards]
        sharding = NamedSharding(here, wanted.spec)
        return jax.make_array_from_single_device_arrays(array.shape, sharding, pieces)

    return jax.tree.map(one, tree, shardings(tree, every)), here
