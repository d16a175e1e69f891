"""PEFT, trained for some steps on the same model and rows, has the same losses and adapters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_originals
from conftest import pretrain_values

from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.parallel.sharding import make_mesh, place_rows
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.step_config import LoraConfig, OptimizerConfig
from qwen_audio_jax.training import lora
from qwen_audio_jax.training.step import Recipe, first_state, make_init, make_step

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.parity

STEPS = 6
RATE, BETAS, EPS, DECAY = 1e-2, (0.9, 0.98), 1e-6, 0.05
LINEARS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
CHOSEN = LoraConfig(rank=4, alpha=6.0, rslora=True, rank_pattern={"/up$": 2})


@pytest.fixture
def original(tmp_path):
    """(transformers' model, the same here, a batch of each)."""
    torch.manual_seed(0)
    config = random_originals.original_config("grouped")
    model = transformers.Qwen2AudioForConditionalGeneration._from_config(
        config, attn_implementation="eager"
    )
    random_originals.randomised(model).save_pretrained(tmp_path)
    return model, load_original(tmp_path), random_originals.inputs("grouped", ((37, 80), ()))


def test_the_same_losses_and_adapters(original):
    model, (parts, parameters), (given, batch) = original
    theirs = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=4,
            lora_alpha=6,
            use_rslora=True,
            rank_pattern={r"mlp\.up_proj": 2},
            target_modules=rf".*language_model\.layers\.\d+\.({'|'.join(LINEARS.values())})",
        ),
    )
    adapted = lora.with_adapters(CHOSEN, parts.model())
    ours = with_theirs(parameters, theirs, adapted)
    expected = trained_by_peft(theirs, given)
    losses, after = trained_here(adapted, ours, batch)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-4)
    assert losses[0] - losses[-1] > 0.3
    for path, array in by_path(with_theirs(parameters, theirs, adapted)).items():
        if "lora" in path:
            np.testing.assert_allclose(after[path], array, atol=1e-3 * np.abs(array).max())


def with_theirs(parameters, theirs, model: ModelConfig):
    """Our parameters with the adapters of PEFT."""
    matrices = {name: weight.detach().numpy() for name, weight in theirs.named_parameters()}
    blocks = dict(parameters["decoder"]["blocks"])
    for adapter in model.adapters:
        name = adapter.path.rpartition("/")[2]
        found = dict(blocks[name])
        for ours, its in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
            layers = [
                matrix.T.copy()
                for key, matrix in matrices.items()
                if f".{LINEARS[name]}.{its}.default.weight" in key
            ]
            assert len(layers) == model.decoder.layers
            found[ours] = np.stack(layers)
        assert found["lora_a"].shape[-1] == adapter.rank
        blocks[name] = found
    return {**parameters, "decoder": {**parameters["decoder"], "blocks": blocks}}


def trained_by_peft(theirs, given) -> list[float]:
    weights = [weight for weight in theirs.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = theirs(**given, use_cache=False).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_here(model: ModelConfig, parameters, batch):
    optimizer = OptimizerConfig(RATE, RATE, 0, *BETAS, EPS, DECAY, clip_norm=float("inf"))
    config = from_mapping(pretrain_values())
    config = dataclasses.replace(config, lora=CHOSEN, optimizer=optimizer)
    recipe = Recipe(model, lora.optimizer_of(config, model), steps=1000, seed=0)
    mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1}, jax.devices()[:1])
    step = jax.jit(make_step(make_init(recipe)[0], recipe, mesh))
    state, losses = first_state(recipe, jax.tree.map(jnp.asarray, parameters)), []
    for _ in range(STEPS):
        state, metrics = step(state, place_rows(batch, mesh))
        losses.append(float(metrics["loss"]))
    return losses, by_path(state.parameters)
