"""The TPU's own compiler takes the 7-billion presets on every slice they are set up for."""

import pytest

from qwen_audio_jax.compilation.overview import report
from qwen_audio_jax.compilation.topology import SETUPS, Place, parse_topology

pytest.importorskip("libtpu", reason="needs the extra [tpu]")

LEAST_MFU = {"v5p": 0.65, "v5e": 0.60, "v6e": 0.50}
"""Of `qwen2_audio_7b`: about what is published of dense language models of its size."""


@pytest.mark.tpu_aot
@pytest.mark.parametrize("place", SETUPS, ids=lambda place: place.name)
def test_it_compiles_and_fits(place):
    found = report(place)
    assert found["topology"] == place.topology
    assert found["hbm_total_gib"] < found["hbm_limit_gib"]
    if place.config == "pretrain":
        assert found["tokens"] >= 4e6
    if place[:2] == ("pretrain", "qwen2_audio_7b"):
        assert found["mfu_bound"] >= LEAST_MFU.get(parse_topology(place.topology).generation, 0)


@pytest.mark.tpu_aot
def test_adapters_take_a_third_of_the_memory_of_all_weights():
    """The same batch and slice, 7 billion parameters."""
    every, adapters = (
        report(
            Place("sft", "qwen2_audio_7b", "v5p:2x2x1"),
            "--config.train.accumulate=16",
            "--config.model.remat=full",
            f"--config.lora.rank={rank}",
        )
        for rank in (0, 16)
    )
    assert adapters["hbm_total_gib"] < every["hbm_total_gib"] / 3


@pytest.mark.tpu_aot
def test_the_bound_holds_on_many_chips():
    """From 16 to 1,024 chips with the same work on each, it falls by less than 5 %."""
    few, many = (
        report(
            Place("pretrain", "qwen2_audio_7b", topology),
            "--config.model.remat=full",
            f"--config.data.shapes={s}",
        )
        for topology, s in (
            ("v5p:2x2x4", "((512,2048,7168),)"),
            ("v5p:8x8x16", "((32768,2048,7168),)"),
        )
    )
    assert (few["chips"], many["chips"]) == (16, 1024)
    assert many["mfu_bound"] > 0.95 * few["mfu_bound"]


@pytest.mark.tpu_aot
def test_search_recommends_what_it_compiled():
    found = report(
        Place("pretrain", "small", "v5e:2x2"), "--search", "--config.data.shapes=((64,1280,3264),)"
    )
    assert found["fits"]
    assert found["mfu_bound"] > 0


@pytest.mark.tpu_aot
def test_adapters_keep_moments_of_themselves_alone():
    """What is frozen is bfloat16 then, and has none: a sixth, and the batch."""
    every, adapters = (
        report(
            Place("pretrain", "small", "v5e:2x2"),
            f"--config.lora.rank={rank}",
            "--config.data.shapes=((64,1280,3264),)",
        )
        for rank in (0, 16)
    )
    assert adapters["parameters"] > every["parameters"]
    assert adapters["hbm_arguments_gib"] < every["hbm_arguments_gib"] / 3
