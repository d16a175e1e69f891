"""The partition rules at the originals' real size, and what a mesh refuses."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType

from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.models.presets import FAMILIES, model_config, preset_parts
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import AXES, local_rows, make_mesh, replicated_size, shardings
from qwen_audio_jax.step_config import OptimizerConfig
from qwen_audio_jax.text.control_tokens import qwen_audio_control_tokens
from qwen_audio_jax.training.optimizer import make_optimizer, split

MESH = AbstractMesh((2, 4, 2), AXES, axis_types=(AxisType.Auto,) * 3)
# Parameters of the originals, position table included.
TOTALS = {"qwen_audio": 8_396_222_464, "qwen2_audio": 8_397_094_912}
VOCABULARIES = {"qwen_audio": 155947, "qwen2_audio": 156032}


def abstract_parameters(family):
    parts = preset_parts(f"{family}_7b", family, VOCABULARIES[family])
    config = model_config(family, *parts, audio_begin=155163, audio_end=155164)
    model = nnx.eval_shape(lambda: QwenAudio(config, nnx.Rngs(0)))
    return nnx.to_pure_dict(nnx.split(model)[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_real_size_has_the_originals_parameters_and_is_split(family):
    parameters = abstract_parameters(family)
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    assert sum(leaf.size for _, leaf in leaves) == TOTALS[family]
    layout = jax.tree.leaves(shardings(parameters, MESH))
    whole = 0
    for (path, leaf), sharding in zip(leaves, layout, strict=True):
        axes = {axis for axis in sharding.spec if axis}
        assert "replica" not in axes, path
        whole += leaf.size * (not axes)
    assert whole < 0.001 * TOTALS[family]


def test_moments_lie_as_their_parameters_do():
    parameters = abstract_parameters("qwen2_audio")
    options = OptimizerConfig(1e-4, 1e-5, 10, 0.9, 0.98, 1e-6, 0.05, 1.0)
    trained, _ = split(options, parameters)
    state = jax.eval_shape(make_optimizer(options, 100, {}).init, trained)
    by_name = {
        path_name(path): sharding.spec
        for path, sharding in jax.tree_util.tree_leaves_with_path(shardings(parameters, MESH))
    }
    moments = 0
    for path, sharding in jax.tree_util.tree_leaves_with_path(shardings(state, MESH)):
        if (name := path_name(path)) in by_name:
            moments += 1
            assert sharding.spec == by_name[name]
    assert moments == 2 * (len(by_name) - 1)  # all but the frozen position table


def test_pieces_of_a_parameter_are_divided_each_for_itself():
    """Qwen-Audio's start: of Qwen-7B's tables the rows of audio tags are trained."""
    _, decoder = preset_parts("qwen_audio_7b", "qwen_audio", VOCABULARIES["qwen_audio"])
    new = decoder.first_new_token
    options = OptimizerConfig(1e-4, 1e-5, 10, 0.9, 0.98, 1e-6, 0.05, 1.0, frozen=("^decoder/",))
    parameters = abstract_parameters("qwen_audio")
    trained, frozen = jax.eval_shape(lambda: split(options, zeros(parameters), new))
    for piece, rows in ((trained, 155947 - 151851), (frozen, 151851)):
        tables, specs = piece["decoder"], shardings(piece, MESH)["decoder"]
        divided = "tensor" if rows % 2 == 0 else None
        assert tables["embedding"].shape == tables["head"].shape[::-1] == (rows, 4096)
        assert specs["embedding"].spec == jax.P(divided, "fsdp")
        assert specs["head"].spec == jax.P("fsdp", divided)
    assert len(jax.tree.leaves(trained["decoder"])) == 2


def zeros(parameters):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), parameters)


def test_the_first_new_token_is_that_behind_qwens_own():
    """Ranks, ChatML and extras are Qwen-7B's; what follows was added for audio."""
    ranks, names = 151643, qwen_audio_control_tokens()
    _, decoder = preset_parts("qwen_audio_7b", "qwen_audio", VOCABULARIES["qwen_audio"])
    assert decoder.first_new_token == ranks + names.index("[[[AUDIO:modality]]]")
    assert names[decoder.first_new_token - ranks - 1] == "<|extra_204|>"
    for preset, family, rows in (
        ("qwen2_audio_7b", "qwen2_audio", VOCABULARIES["qwen2_audio"]),
        ("qwen_audio_7b", "qwen_audio", 5000),
        ("tiny", "qwen_audio", VOCABULARIES["qwen_audio"]),
    ):
        assert preset_parts(preset, family, rows)[1].first_new_token == 0


def test_an_axis_that_does_not_divide_is_left_whole():
    odd = {"decoder": {"head": jax.ShapeDtypeStruct((64, 33), "float32")}}
    assert shardings(odd, MESH)["decoder"]["head"].spec == jax.P("fsdp", None)
    assert replicated_size(odd, MESH) == 0
    assert (
        replicated_size({"decoder": {"head": jax.ShapeDtypeStruct((63, 33), "float32")}}, MESH)
        == 63 * 33
    )


def test_the_encoder_is_divided_up_to_256_ways():
    parameters = abstract_parameters("qwen2_audio")

    def whole(fsdp):
        mesh = AbstractMesh((1, fsdp, 1), AXES, axis_types=(AxisType.Auto,) * 3)
        return replicated_size(parameters, mesh)

    layer = 4 * 1280 * 1280 + 2 * 1280 * 5120
    convolutions = 3 * 128 * 1280 + 3 * 1280 * 1280
    assert whole(1) == whole(256) == 0
    assert whole(1024) == 32 * layer + convolutions + 1280 * 4096


def test_meshes_that_cannot_be():
    with pytest.raises(ValueError, match=r"config\.mesh: needs exactly the axes"):
        make_mesh({"data": 1})
    with pytest.raises(ValueError, match="does not make 1 devices; -1 fills one axis"):
        make_mesh({"replica": 1, "fsdp": 3, "tensor": 1})
    mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1})
    assert local_rows(6, mesh) == slice(0, 6)


def test_rows_that_cannot_be_divided():
    with pytest.raises(ValueError, match="6 rows cannot be divided over 8 data shards"):
        local_rows(6, MESH)
