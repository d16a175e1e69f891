"""Times that can be worked out by hand."""

import itertools
import types

import pytest

from qwen_audio_jax.compilation.program import Array
from qwen_audio_jax.compilation.roofline import Roofline, kernel_flops, roofline
from qwen_audio_jax.compilation.topology import (
    Place,
    Topology,
    parse_topology,
    setup_of,
)
from qwen_audio_jax.compilation.work import Collective, Work

V5E = Topology("v5e", (16, 16))


def devices(topology: Topology):
    return [
        types.SimpleNamespace(coords=place, slice_index=number)
        for number in range(topology.slices)
        for place in itertools.product(*map(range, topology.shape))
    ]


def times(collective: Collective, topology: Topology) -> Roofline:
    return roofline(Work(0, 0, (collective,), ()), topology, devices(topology), 2048)


def test_products_and_memory():
    work = Work(197e12, 0.819e12 / 2, (), ())
    found = roofline(work, V5E, devices(V5E), 2048)
    assert (found.compute, found.memory) == (1, 0.5)
    assert (found.bound, found.seconds) == ("compute", 1)


def test_a_chip_of_two_devices_does_the_work_of_both():
    chip = Topology("tpu7x", (4, 4, 4))
    found = roofline(Work(2307e12 / 2, 0, (), ()), chip, devices(chip), 2048)
    assert found.compute == 1


def test_a_gather_over_the_whole_torus_has_all_links():
    everyone = (tuple(range(256)),)
    found = times(Collective("all-gather", 200e9, everyone, 3), V5E)
    assert found.interconnect == pytest.approx(3)


def test_a_gather_along_one_axis_has_the_links_of_that_axis():
    row = (tuple(range(16)),)
    assert times(Collective("all-gather", 200e9, row, 1), V5E).interconnect == pytest.approx(2)


def test_an_axis_that_is_no_ring_has_one_link():
    part = Topology("v5e", (4, 16))
    column = (tuple(range(0, 64, 16)),)
    assert times(Collective("all-gather", 50e9, column, 1), part).interconnect == 1


def test_a_permutation_takes_as_long_as_its_way():
    there = Collective("collective-permute", 100e9, ((0, 1), (1, 0)), 1)
    assert times(there, V5E).interconnect == 1
    around = Collective("collective-permute", 100e9, ((0, 15), (15, 0)), 1)
    assert times(around, V5E).interconnect == 1
    far = Collective("collective-permute", 100e9, ((0, 8), (8, 0)), 1)
    assert times(far, V5E).interconnect == 8


def test_between_slices_the_network_is_what_counts():
    two = Topology("v5e", (16, 16), slices=2)
    pair = Collective("all-reduce", 3.125e9, ((0, 256),), 1)
    found = times(pair, two)
    assert (found.network, found.interconnect) == (1, 0)
    # All 512 at once: each chip's share of what crosses is a 256th.
    everyone = Collective("all-reduce", 3.125e9 * 511 / 512, (tuple(range(512)),), 1)
    assert times(everyone, two).network == pytest.approx(0.5 / 256)
    hosts = Collective("all-reduce between slices", 3.125e9, (), 1)
    assert (times(hosts, two).network, times(hosts, two).interconnect) == (1, 0)


def test_attention_kernels():
    """All pairs in the encoder; in the decoder the blocks that a causal mask leaves."""
    forward = ("splash_mqa_fwd_x", (Array("bf16", (4, 1, 1024, 64), False),), 2)
    all_pairs = 2 * 2 * 2 * 4 * 1024**2 * 64
    assert kernel_flops(Work(0, 0, (), (forward,)), tokens=2048) == all_pairs
    assert kernel_flops(Work(0, 0, (), (forward,)), tokens=1024) == all_pairs * 3 / 4
    backward = ("splash_mqa_dkv_x", (Array("bf16", (4, 1024, 64), False),) * 2, 1)
    assert kernel_flops(Work(0, 0, (), (backward,)), tokens=2048) == all_pairs


@pytest.mark.parametrize("text", ["v5p:4x4x4", "2x v5e:16x16", "tpu7x:4x4x8"])
def test_topologies_have_names(text):
    assert str(parse_topology(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v5p", "should look like v5p:4x4x4"),
        ("v9:2x2", "with one of v4, v5e"),
        ("v5p:4x4", "a slice of v5p has 3 axes"),
        ("v5e:16x0", "a slice of v5e has 2 axes"),
    ],
)
def test_what_is_no_topology(text, said):
    with pytest.raises(ValueError, match=said):
        parse_topology(text)


def test_a_setup_that_nobody_found():
    with pytest.raises(ValueError, match=r"pretrain.py:tiny@v5e:2x2 is not set up"):
        setup_of(Place("pretrain", "tiny", "v5e:2x2"))
