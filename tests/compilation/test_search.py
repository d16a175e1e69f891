"""What is tried, and what is found; the compiler is stood in for by arithmetic."""

import dataclasses
import pathlib
import runpy

import pytest

from qwen_audio_jax import run_config
from qwen_audio_jax.compilation.search import search
from qwen_audio_jax.compilation.topology import parse_topology
from qwen_audio_jax.compilation.verdict import Verdict
from qwen_audio_jax.monitoring.chips import GIB

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "pretrain.py"
KEPT = {"none": 400, "dots": 100, "attention": 60, "full": 30}
"""GiB per chip of all rows of a step at tensor 1."""

SPEED = {"none": 0.9, "dots": 0.8, "attention": 0.7, "full": 0.6}


def compiler(limit, speed=lambda tensor, parts: 1.0):
    """A compiler that takes 4 GiB for parameters, and the configurations that it was given."""
    seen = []

    def compile_step(config, topology):
        remat, parts = config.model.remat, config.train.accumulate
        tensor = config.mesh["tensor"]
        seen.append((remat, parts, tensor))
        total = 4 + KEPT[remat] / parts
        found = SPEED[remat] * speed(tensor, parts)
        verdict = Verdict(topology, f"{seen[-1]}", 1, 1, 0, total * GIB, limit * GIB, True, 1.0)
        fits = total <= limit
        return dataclasses.replace(verdict, fits=fits, mfu_bound=found if fits else 0.0)

    return compile_step, seen


def config(**mesh):
    values = runpy.run_path(str(CONFIG))["get_config"]("tiny")
    values.data.shapes = ((256, 144, 352),)
    values.mesh.update(mesh)
    return run_config.from_mapping(values.to_dict())


V5E = parse_topology("v5e:4x4")


def test_each_remat_gets_as_few_micro_batches_as_fit():
    compile_step, seen = compiler(limit=16)
    told = []
    best = search(config(), V5E, told.append, compile_step)
    assert best.flags == (
        "--config.mesh.replica=1 --config.mesh.fsdp=-1 --config.mesh.tensor=1 "
        "--config.train.accumulate=16 --config.model.remat=dots"
    )
    # 404 GiB of 16 cannot do with fewer than 32 parts, of which 256 rows on 16 devices have none.
    assert seen == [
        *(("none", 1, 1), ("dots", 1, 1), ("dots", 8, 1), ("dots", 16, 1)),
        *(("attention", 1, 1), ("attention", 4, 1), ("attention", 8, 1)),
        *(("full", 1, 1), ("full", 4, 1)),
        *(("dots", 1, 2), ("dots", 8, 2), ("dots", 16, 2)),
    ]
    assert len(told) == len(seen)
    assert "does not fit" in told[0]
    assert "80.0%" in told[3]


def test_tensor_is_doubled_while_it_helps():
    compile_step, seen = compiler(16, speed=lambda tensor, parts: {1: 0.8, 2: 0.9}.get(tensor, 0.7))
    best = search(config(), V5E, lambda line: None, compile_step)
    assert best.config.mesh == {"replica": 1, "fsdp": -1, "tensor": 2}
    assert {tensor for _, _, tensor in seen} == {1, 2, 4}


def test_slices_have_a_replica_each():
    compile_step, _ = compiler(limit=1000)
    best = search(config(), parse_topology("2x v5e:4x4"), lambda line: None, compile_step)
    assert (best.config.mesh["replica"], best.config.train.accumulate) == (2, 1)


def test_nothing_fits():
    compile_step, _ = compiler(limit=3)
    with pytest.raises(ValueError, match=r"nothing fits on v5e:4x4; fewer rows"):
        search(config(), V5E, lambda line: None, compile_step)
