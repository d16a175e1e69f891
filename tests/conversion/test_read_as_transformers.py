"""Folders that say one thing twice are read as transformers reads them: the same logits."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import originals
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.language_model import LanguageModel, rope
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.models.segments import Segments

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity

TOKENS = np.random.default_rng(0).integers(0, 64, (2, 24)).astype(np.int32)


def ours(folder) -> np.ndarray:
    parts, parameters = load_original(folder)
    graph, state = nnx.split(
        nnx.eval_shape(lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)))
    )
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, parameters["decoder"]))

    @jax.jit
    def logits(state):
        model = nnx.merge(graph, state)
        rows = jnp.ones_like(TOKENS)
        rotate = rope(model.config, jnp.cumsum(rows, axis=1) - 1)
        return model.logits(model(model.embed(jnp.asarray(TOKENS)), Segments.of(rows), rotate))

    return np.asarray(logits(state))


def theirs(folder) -> np.ndarray:
    model = transformers.Qwen2ForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        return model.eval()(torch.tensor(TOKENS)).logits.numpy()


def configure(folder, **changes) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "gone"}))


def a_base_in_both_places(folder):
    configure(folder, rope_parameters={"rope_theta": 100.0, "rope_type": "default"})


def both_names_of_the_rotary_group(folder):
    group = {"rope_theta": 100.0, "rope_type": "default"}
    configure(folder, rope_scaling={"type": "default"}, rope_parameters=group, rope_theta=20.0)


def an_empty_older_name(folder):
    configure(folder, rope_scaling={}, rope_parameters={"rope_theta": 100.0}, rope_theta="gone")


def tied_beside_another_head(folder):
    configure(folder, tie_word_embeddings=True)


def tied_without_a_head(folder):
    configure(folder, tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def an_index_of_other_weights_beside_one_file(folder):
    tensors = load_file(folder / "model.safetensors")
    other = {name: 2 * tensor for name, tensor in tensors.items()}
    save_file(other, folder / "shard.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "shard.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def a_file_that_the_configuration_names(folder):
    an_index_of_other_weights_beside_one_file(folder)
    configure(folder, transformers_weights="model.safetensors.index.json")


CHANGES_NOTHING = (tied_beside_another_head, an_index_of_other_weights_beside_one_file)
CASES = (
    a_base_in_both_places,
    both_names_of_the_rotary_group,
    an_empty_older_name,
    tied_without_a_head,
    a_file_that_the_configuration_names,
    *CHANGES_NOTHING,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = originals.qwen2(tmp_path_factory.mktemp("plain") / "qwen2", "float32")
    tensors = load_file(folder / "model-0.safetensors")
    (folder / "model-0.safetensors").unlink()
    # As large as a model's, or sums of float32 would differ by more than the logits' tolerance.
    scaled = {
        name: 1 + tensor / 10 if tensor.ndim == 1 and "norm" in name else tensor / 4
        for name, tensor in tensors.items()
    }
    save_file(scaled, folder / "model.safetensors", {"format": "pt"})
    return folder, ours(folder)


@pytest.mark.parametrize("change", CASES)
def test_logits(plain, tmp_path, change):
    folder, before = plain
    folder = shutil.copytree(folder, tmp_path / "qwen2")
    change(folder)
    logits = ours(folder)
    np.testing.assert_allclose(logits, theirs(folder), atol=2e-4)
    assert (np.abs(logits - before).max() < 1e-3) == (change in CHANGES_NOTHING)
