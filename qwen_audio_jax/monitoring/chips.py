"""Accelerators: what their makers publish, from which MFU and rooflines are reckoned.

Sources: cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, tpu7x ("system architecture"), read in
November 2026.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
        flops: bfloat16 FLOP/s.
        hbm: bytes of memory.
        hbm_bandwidth: bytes/s.
        ici_bandwidth: bytes/s that its links to neighbours take in, all of them together; half of
            what is published as bidirectional.
        dcn_bandwidth: bytes/s of its share of the host's network card.
        axes: of the torus.
        ring: how long an axis of a slice must be for its ends to be joined.
        devices: what JAX calls so, in a chip.
        options: further arguments of JAX's description of a slice.
    """

    flops: float
    hbm: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float
    axes: int
    ring: int
    devices: int = 1
    options: tuple[tuple[str, Any], ...] = ()


GIB = 2**30

_MEGACORE = (("chip_config_name", "megacore"), ("chips_per_host_bounds", (2, 2, 1)))

CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1.2e12, 300e9, 6.25e9, axes=3, ring=4, options=_MEGACORE),
    "v5e": Chip(197e12, 16 * GIB, 0.819e12, 200e9, 3.125e9, axes=2, ring=16),
    "v5p": Chip(459e12, 95 * GIB, 2.765e12, 600e9, 6.25e9, axes=3, ring=4),
    "v6e": Chip(918e12, 32 * GIB, 1.638e12, 400e9, 12.5e9, axes=2, ring=16),
    "tpu7x": Chip(2307e12, 192 * GIB, 7.38e12, 600e9, 12.5e9, axes=3, ring=4, devices=2),
}


PEAK_FLOPS = {
    "TPU v4": CHIPS["v4"].flops,
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v6 lite": CHIPS["v6e"].flops,
    "TPU7x": CHIPS["tpu7x"].flops / 2,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}
"""Dense bfloat16 FLOP/s of a device, by the start of the name that JAX gives it."""


def peak_flops(devices: Sequence[Any]) -> float | None:
    """Of all these devices together; None if they are of a kind that publishes none."""
    kind = devices[0].device_kind
    known = [name for name in PEAK_FLOPS if kind.startswith(name)]
    return PEAK_FLOPS[max(known, key=len)] * len(devices) if known else None
