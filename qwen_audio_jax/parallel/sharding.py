"""The mesh, where each parameter lies on it, and how a batch is placed.

The same tables serve one CPU device and a pod; nothing asks which it is.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.step_config import MESH_AXES as AXES

ROWS = P(("replica", "fsdp"))

# The first pattern that matches a parameter's path decides. Stacked layers have a leading layer
# axis, which is never split. An axis that does not divide is left whole (see `_fits`).
RULES: tuple[tuple[str, P], ...] = (
    (r"encoder/positions$", P()),
    (r"conv\d/kernel$", P(None, None, "fsdp")),
    (r"blocks/(query|key|value|gate|up)/kernel$", P(None, "fsdp", "tensor")),
    (r"blocks/(out|down)/kernel$", P(None, "tensor", "fsdp")),
    (r"blocks/(query|key|value|gate|up)/bias$", P(None, "tensor")),
    (r"projector/kernel$", P("fsdp", "tensor")),
    # An adapter's matrices as the side of the kernel that they share; their ranks are small.
    (r"blocks/(query|key|value|gate|up)/lora_a$", P(None, "fsdp")),
    (r"blocks/(query|key|value|gate|up)/lora_b$", P(None, None, "tensor")),
    (r"blocks/(out|down)/lora_a$", P(None, "tensor")),
    (r"blocks/(out|down)/lora_b$", P(None, None, "fsdp")),
    (r"projector/lora_a$", P("fsdp")),
    (r"projector/lora_b$", P(None, "tensor")),
    (r"decoder/embedding$", P("tensor", "fsdp")),
    (r"decoder/head$", P("fsdp", "tensor")),
    (r"", P()),
)


def make_mesh(
    sizes: Mapping[str, int], devices: Sequence[Any] | None = None, slices: int | None = None
) -> Mesh:
    """A mesh; one size may be -1, which takes what the others leave.

    Args:
        sizes: of each axis.
        devices: those to lay it over; None is all there are.
        slices: how many slices they lie in; None asks them. Of several, the replica axis alone
            crosses from one to another.

    Raises:
        ValueError: the sizes do not multiply to the number of devices, or slices would be crossed
            by another axis.
    """
    if set(sizes) != set(AXES):
        raise ValueError(f"config.mesh: needs exactly the axes {', '.join(AXES)}")
    sizes, devices = dict(sizes), jax.devices() if devices is None else devices
    open_axes = [axis for axis in AXES if sizes[axis] == -1]
    known = math.prod(size for size in sizes.values() if size != -1)
    if len(open_axes) == 1 and known > 0 and len(devices) % known == 0:
        sizes[open_axes[0]] = len(devices) // known
    if math.prod(sizes.values()) != len(devices) or min(sizes.values()) < 1:
        shape = " x ".join(f"{axis} {sizes[axis]}" for axis in AXES)
        raise ValueError(
            f"config.mesh: {shape} does not make {len(devices)} devices; -1 fills one axis"
        )
    shape = [sizes[axis] for axis in AXES]
    if slices is None:
        slices = len({getattr(device, "slice_index", None) for device in devices})
    if slices == 1:
        grid = mesh_utils.create_device_mesh(shape, devices)
    elif sizes["replica"] % slices:
        raise ValueError(
            f"config.mesh: replica is {sizes['replica']}, and must be a multiple of the {slices} "
            "slices, since no other axis may cross from one to another"
        )
    else:
        within = [sizes["replica"] // slices, *shape[1:]]
        grid = mesh_utils.create_hybrid_device_mesh(within, [slices, 1, 1], devices)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def row_shards(mesh: Mesh) -> int:
    """How many parts a batch's rows are split into."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]


def _fits(spec: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The spec with each axis that does not divide its dimension taken out."""
    kept = [
        axis if axis is not None and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(tuple(spec) + (None,) * len(shape), shape, strict=False)
    ]
    return P(*kept)


def spec_of(name: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """How a parameter of this path and shape is divided, an entry a dimension."""
    return _fits(_rule(name), shape, mesh)


def _rule(name: str) -> P:
    return next(spec for pattern, spec in RULES if re.search(pattern, name))


def replicated_size(tree: Any, mesh: Mesh) -> int:
    """How many elements of a pytree every device holds because no size of their arrays divides."""

    def divides(spec: P) -> bool:
        return any(axis and mesh.shape[axis] > 1 for axis in spec)

    def one(path, leaf):
        name = path_name(path)
        return leaf.size * (divides(_rule(name)) and not divides(spec_of(name, leaf.shape, mesh)))

    return sum(jax.tree.leaves(jax.tree_util.tree_map_with_path(one, tree)))


def shardings(tree: Any, mesh: Mesh) -> Any:
    """NamedShardings for a pytree of parameters, or of anything laid out like them.

    Optimizer moments have their parameter's path at the end of their own, so the same table finds
    them; counters and the like match no rule and are whole everywhere.
    """

    def one(path, leaf):
        return NamedSharding(mesh, spec_of(path_name(path), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(one, tree)


def row_constraint(mesh: Mesh):
    """A function that keeps an activation's leading axis on the data axes of the mesh."""
    sharding = NamedSharding(mesh, ROWS)
    return lambda x: jax.lax.with_sharding_constraint(x, sharding)


def local_rows(rows: int, mesh: Mesh, accumulate: int = 1) -> slice:
    """Which of a batch's rows this process has to make.

    Args:
        rows: of the whole batch.
        mesh: the mesh.
        accumulate: micro-batches that they are divided into.

    Raises:
        ValueError: the rows cannot be divided over the mesh's data axes and the micro-batches.
    """
    shards = row_shards(mesh)
    if rows % (shards * accumulate):
        parts = f" and {accumulate} micro-batches (config.train.accumulate)"
        raise ValueError(
            f"config.data.shapes: {rows} rows cannot be divided over {shards} data shards "
            f"(config.mesh: replica x fsdp){parts if accumulate > 1 else ''}; make them a "
            f"multiple of {shards * accumulate}"
        )
    indices = NamedSharding(mesh, ROWS).addressable_devices_indices_map((rows,)).values()
    starts = [index[0].indices(rows)[:2] for index in indices]
    return slice(min(start for start, _ in starts), max(stop for _, stop in starts))


def place_rows(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows on its devices, as parts of the global batch."""
    sharding = NamedSharding(mesh, ROWS)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
