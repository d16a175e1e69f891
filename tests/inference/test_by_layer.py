"""A decoder's layers apart hold what their stack held, and memory holds them once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from flax import nnx
from stacked_layers import stacked

from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.inference.by_layer import by_layer
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.models.qwen_audio import QwenAudio


@pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])
def test_nothing_is_lost_and_no_stack_stays(family):
    config = dataclasses.replace(tiny_config(family), compute=Compute(dtype="bfloat16"))
    graph, state = nnx.split(QwenAudio(config, nnx.Rngs(0)))
    parameters = nnx.to_pure_dict(state)
    expected = {
        path: np.asarray(leaf.astype(jnp.bfloat16) if path.startswith("decoder/") else leaf)
        for path, leaf in by_path(parameters).items()
    }
    apart, found = by_layer(config, parameters, delete=True)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(parameters["decoder"]["blocks"]))
    here = by_path(stacked(config, found)[1])
    assert here.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(here[path], array)
    assert nnx.merge(apart, found).decoder.blocks[1].query.kernel.dtype == jnp.bfloat16
    assert graph != apart
