"""How long a compiled step must take at least, and the MFU that this allows."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from qwen_audio_jax.compilation.program import Array
from qwen_audio_jax.compilation.topology import Topology
from qwen_audio_jax.compilation.work import Collective, Work

_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
"""Products of matrices in each of splash attention's kernels."""


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The seconds that each resource of a chip is busy for, if it is never idle.

    Products run at the chip's peak, memory and links at their published rate, and everything runs
    beside everything else: so the longest bounds the step.
    """

    compute: float
    memory: float
    interconnect: float
    network: float

    @property
    def bound(self) -> str:
        """What holds the step."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]

    @property
    def seconds(self) -> float:
        return max(dataclasses.astuple(self))


def roofline(work: Work, topology: Topology, devices: Sequence[Any], tokens: int) -> Roofline:
    """Of what one device does in a step.

    Args:
        work: from `work_of`.
        topology: the slices.
        devices: in the order of the program, that of the mesh.
        tokens: L of the decoder's rows, whose attention is causal.
    """
    chip = topology.chip
    places = [tuple(device.coords) for device in devices]
    slices = [getattr(device, "slice_index", 0) or 0 for device in devices]
    interconnect = network = 0.0
    for one in work.collectives:
        near, far = _seconds(one, topology, places, slices)
        interconnect += one.times * near
        network += one.times * far
    flops = work.flops + kernel_flops(work, tokens)
    return Roofline(
        flops * chip.devices / chip.flops,
        work.bytes * chip.devices / chip.hbm_bandwidth,
        interconnect,
        network,
    )


def kernel_flops(work: Work, tokens: int) -> float:
    """FLOPs of the attention kernels: blocks above the diagonal are left out, segments are not."""
    total = 0.0
    for name, results, times in work.kernels:
        (kind,) = (kind for kind in _PRODUCTS if f"_{kind}_" in name)
        wide = [array for array in results if array.dtype == "bf16"]
        shape = max(wide, key=_size).shape  # [heads, ..., L, K]
        heads, length, size = math.prod(shape[:-2]), *shape[-2:]
        block = next(block for block in (512, 256, 128) if length % block == 0)
        # The encoder's rows are longer than the decoder's, whatever the shape of a row.
        causal = (1 + block / length) / 2 if length == -(-tokens // 128) * 128 else 1.0
        total += times * _PRODUCTS[kind] * 2 * heads * length**2 * size * causal
    return total


def _size(array: Array) -> int:
    return math.prod(array.shape)


def _seconds(
    one: Collective,
    topology: Topology,
    places: Sequence[tuple[int, ...]],
    slices: Sequence[int],
) -> tuple[float, float]:
    """How long one collective keeps the links between chips busy, and the network of the hosts."""
    chip = topology.chip
    link = chip.ici_bandwidth / (2 * chip.axes)
    if not one.groups:  # between slices
        return 0.0, one.received * chip.devices / chip.dcn_bandwidth
    if one.kind == "collective-permute":
        far = any(slices[source] != slices[target] for source, target in one.groups)
        if far:
            return 0.0, one.received / chip.dcn_bandwidth
        hops = [_hops(places[a], places[b], topology) for a, b in one.groups]
        # Of two permutations one goes round each way: each has a link of its own.
        return one.received * sum(hops) / len(hops) / (2 * link), 0.0
    group = one.groups[0]
    parts = len({slices[member] for member in group})
    here = [places[member] for member in group if slices[member] == slices[group[0]]]
    network = 0.0
    if parts > 1:
        # In each slice every chip takes the same share over the network.
        share = one.received / (1 - 1 / len(group)) * (1 - 1 / parts) / max(len(set(here)), 1)
        network = share * chip.devices / chip.dcn_bandwidth
    links = 0
    for axis, size in enumerate(topology.shape):
        if len({place[axis] for place in here}) > 1:
            links += 2 if size >= chip.ring and size % chip.ring == 0 else 1
    return (one.received * chip.devices / (links * link) if links else 0.0), network


def _hops(one: tuple[int, ...], other: tuple[int, ...], topology: Topology) -> int:
    """Links between two chips."""
    chip, total = topology.chip, 0
    for a, b, size in zip(one, other, topology.shape, strict=False):
        apart = abs(a - b)
        ring = size >= chip.ring and size % chip.ring == 0
        total += min(apart, size - apart) if ring else apart
    return total
