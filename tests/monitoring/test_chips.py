"""The published peaks, and how a device finds its own."""

import types

import pytest

from qwen_audio_jax.monitoring.chips import CHIPS, peak_flops


@pytest.mark.parametrize(
    ("kind", "peak"),
    [("TPU v5", 459e12), ("TPU v5 lite", 197e12), ("NVIDIA H100 80GB HBM3", 989e12), ("cpu", None)],
)
def test_the_peak_of_devices_by_their_name(kind, peak):
    found = peak_flops([types.SimpleNamespace(device_kind=kind)] * 2)
    assert found == (peak and 2 * peak)


def test_chips_are_of_this_world():
    """No slip of the pen: each can multiply a few hundred times while it reads a byte."""
    for chip in CHIPS.values():
        assert 150 < chip.flops / chip.hbm_bandwidth < 600
        assert 2 < chip.hbm_bandwidth / chip.ici_bandwidth < 16
