"""Parameters of a run are made ready to answer, and stay what they are."""

import jax
import numpy as np
import pytest
from conftest import on_eight_devices, tiny_config
from flax import nnx

from data_pipelines.examples import Preprocessor
from qwen_audio_jax.inference.by_layer import by_layer
from qwen_audio_jax.inference.in_training import loaded_here
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import make_mesh, shardings


def ready(sizes):
    """(what a run has on a mesh, what is made of it, what `by_layer` makes of it)."""
    config = tiny_config("qwen_audio")
    parameters = nnx.to_pure_dict(nnx.split(QwenAudio(config, nnx.Rngs(0)))[1])
    _, expected = by_layer(config, parameters)
    placed = jax.device_put(parameters, shardings(parameters, make_mesh(sizes)))
    preprocessor = Preprocessor(None, config.family, "tags", 16, "floor")
    return placed, loaded_here("run", config, placed, preprocessor, tuned=False), expected


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_it_has_the_values_of_the_run_which_keeps_its_arrays():
    placed, loaded, expected = ready({"replica": 1, "fsdp": 1, "tensor": -1})
    assert_same(loaded.parameters, expected)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(placed))
    assert (loaded.name, loaded.family, loaded.tuned) == ("run", "qwen_audio", False)


@pytest.mark.slow
@on_eight_devices
def test_on_another_mesh_than_the_run_s():
    placed, loaded, expected = ready({"replica": 2, "fsdp": 2, "tensor": 2})
    assert loaded.mesh.shape == {"replica": 1, "fsdp": 8, "tensor": 1}
    assert_same(loaded.parameters, expected)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(placed))
    query = loaded.parameters["decoder"]["blocks"][0]["query"]["kernel"]
    assert len(query.sharding.device_set) == 8
