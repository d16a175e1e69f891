"""Random decoders of each known type compute here what they compute in transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from flax import nnx
from random_originals import LLAMA3, VOCABULARY, gradients_of, randomised

from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.language_model import LanguageModel, head_of, rope
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training.next_token import next_token_loss

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity


def text_loss(graph, state, tokens):
    """(mean loss, logits) of whole rows of text."""
    model = nnx.merge(graph, state)
    rows = jnp.ones_like(tokens)
    rotate = rope(model.config, jnp.cumsum(rows, axis=1) - 1)
    hidden = model(model.embed(tokens), Segments.of(rows), rotate)
    weights = rows.at[:, -1].set(0).astype(jnp.float32)
    targets = jnp.roll(tokens, -1, axis=1)
    head, axes = head_of(vars(model))
    loss, weight = next_token_loss(hidden, head[...], targets, weights, axes=axes)
    return loss / weight, model.logits(hidden)


text_loss_and_gradients = jax.jit(
    jax.value_and_grad(text_loss, argnums=1, has_aux=True),
    static_argnums=0,
    compiler_options=parity.QUICK,
)


DECODERS = {
    "qwen2": ("Qwen2", dict(tie_word_embeddings=False)),
    "qwen2 tied": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(head_dim=12, tie_word_embeddings=True)),
    "qwen3 untied": ("Qwen3", dict(hidden_size=36, num_attention_heads=8, head_dim=6)),
    "llama": ("Llama", dict(tie_word_embeddings=False)),
    "llama 3": ("Llama", dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),
}
"""The class in transformers, and what the configuration has beside the usual."""


def text_original(kind: str):
    name, own = DECODERS[kind]
    usual = dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=40,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=None,
        eos_token_id=None,
    )
    config = getattr(transformers, f"{name}Config")(**usual | own)
    made = getattr(transformers, f"{name}ForCausalLM")
    return randomised(made._from_config(config, attn_implementation="eager"))


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_computes_the_same(kind, tmp_path):
    original = text_original(kind)
    original.save_pretrained(tmp_path)
    parts, parameters = load_original(tmp_path)
    tied = parts.decoder.tied
    assert tied == original.config.tie_word_embeddings != ("head" in parameters["decoder"])
    graph, state = parity.fill(
        lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)), parameters["decoder"]
    )
    tokens = np.random.default_rng(4).integers(0, VOCABULARY, (2, 33))
    (loss, logits), gradients = text_loss_and_gradients(graph, state, tokens.astype(np.int32))
    expected = original(torch.tensor(tokens), labels=torch.tensor(tokens))
    expected.loss.backward()
    assert parity.deviation(logits, expected.logits.detach()) < parity.LOGITS
    assert parity.deviation(loss, expected.loss.item()) < parity.LOSS
    rows = names.distinct(names.transformers_decoder(parts.decoder))
    ours = parity.tensors(rows, {"decoder": gradients})
    wanted = gradients_of(original)
    assert ours.keys() == wanted.keys()
    assert parity.worst_gradient(ours, wanted) < parity.GRADIENT


@pytest.mark.slow
def test_the_real_smollm2_computes_the_same(references):
    """Published as Llama; in the references as Qwen2 with biases of 0. Its head is tied."""
    folder = references / "real_start" / "smollm2-135m"
    if not folder.is_dir():
        pytest.skip(f"put SmolLM2-135M-Instruct at {folder} to run this")
    parts, parameters = load_original(folder)
    assert parts.decoder.tied
    graph, state = parity.fill(
        lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)), parameters["decoder"]
    )
    tokens = load_tokenizer(folder).encode("The capital of France is Paris.\n\nIt has 1234 狗 😀.")
    tokens = np.array([tokens], np.int32)

    @jax.jit
    def ours(state):
        model = nnx.merge(graph, state)
        rows = jnp.ones_like(tokens)
        rotate = rope(model.config, jnp.cumsum(rows, axis=1) - 1)
        return model.logits(model(model.embed(tokens), Segments.of(rows), rotate))

    original = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        expected = original.eval()(torch.tensor(tokens).long()).logits.numpy()
    logits = np.asarray(ours(state))
    # They are up to 36, ten times those of the random models.
    assert parity.deviation(logits, expected) < 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(logits.argmax(-1), expected.argmax(-1))
