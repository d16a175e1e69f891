"""Our Qwen2-Audio is the original's: goldens made by transformers (tests/golden).

Rows are compared unpadded, on whichever side the original padded them, and packed together.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from qwen_audio_jax.audio.lengths import audio_tokens
from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.parts import path_name

NEVER = 999
"""An id that no golden answer holds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Golden:
    """The imported model and the reference arrays beside it."""

    folder: object
    parts: object
    parameters: dict

    @functools.cached_property
    def model(self):
        return parity.build(self.parts.model(), self.parameters)

    def read(self, name):
        arrays = dict(np.load(self.folder / f"golden_{name}.npz"))
        if "input_features" not in arrays:
            arrays["input_features"] = self.read("right")["input_features"]
        return arrays

    def examples(self, arrays):
        """The rows of a case, unpadded, each with its own clips."""
        numbers = iter(range(len(arrays["input_features"])))
        lengths = arrays["feature_attention_mask"].sum(axis=1)
        examples = []
        for ids, mask, labels in zip(
            arrays["input_ids"], arrays["attention_mask"], arrays["labels"], strict=True
        ):
            tokens, labels = ids[mask == 1], labels[mask == 1]
            missing = int(np.sum(tokens == self.parts.audio_token))
            clips, frames = [], []
            while missing:
                number = next(numbers)
                frames.append(int(lengths[number]))
                clips.append(parity.clip(arrays["input_features"][number], frames[-1]))
                missing -= audio_tokens(frames[-1])
            examples.append(
                parity.example(tokens, labels != -100, self.parts.audio_token, clips, frames)
            )
        return examples

    def batch(self, arrays, *, packed=False):
        """A case as a Batch: a row an example, or all in one row."""
        longest = arrays["feature_attention_mask"].shape[1]
        # Shapes that hold any case, so that everything is compiled once a model.
        tokens, frames, bins = (176, 360, 128) if longest == 200 else (1008, 3792, 128)
        examples = self.examples(arrays)
        rows = [examples] if packed else [[example] for example in examples]
        return parity.batch_of(rows + [[]] * (3 - len(rows)), tokens, frames, bins)


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(
    scope="module", params=["two_seconds", slow("two_seconds_whole"), slow("thirty_seconds")]
)
def golden(request):
    if request.param == "two_seconds":
        folder = request.path.parents[1] / "golden/qwen2_audio"
    else:
        name = "tiny" if request.param == "thirty_seconds" else "tiny_short"
        folder = request.getfixturevalue("references") / "golden/qwen2_audio" / name
    return Golden(folder, *load_original(folder))


CASES = ["right", "left", "multi", "single_full"]


def agrees(golden, arrays, batch):
    """Encoder, spliced embeddings, logits and loss of all tokens, in order."""
    ours = parity.forward(*golden.model, batch)
    lengths = arrays["feature_attention_mask"].sum(axis=1)
    encoded = [
        clip[: audio_tokens(int(frames))]
        for clip, frames in zip(arrays["encoder_last_hidden_state"], lengths, strict=True)
    ]
    rows = parity.audio_rows(ours["encoded"], batch)
    assert parity.deviation(rows, np.concatenate(encoded)) < parity.ENCODER
    mask, used = arrays["attention_mask"] == 1, batch["segments"] > 0
    if "inputs_embeds_merged" in arrays:
        embedded = ours["embedded"][used]
        expected = arrays["inputs_embeds_merged"][mask]
        assert parity.deviation(embedded, expected) < parity.ENCODER
    logits = ours["logits"][used]
    assert parity.deviation(logits, arrays["logits"][mask]) < parity.LOGITS
    assert parity.deviation(ours["loss"], arrays["loss"]) < parity.LOSS


@pytest.mark.parametrize("name", CASES)
def test_encoder_logits_and_loss_agree(golden, name):
    arrays = golden.read(name)
    agrees(golden, arrays, golden.batch(arrays))


@pytest.mark.parametrize("name", ["right", "multi"])
def test_rows_packed_into_one_agree(golden, name):
    arrays = golden.read(name)
    agrees(golden, arrays, golden.batch(arrays, packed=True))


def gradients(golden, arrays):
    (loss, _), found = parity.loss_and_gradients(*golden.model, golden.batch(arrays))
    assert parity.deviation(loss, arrays["loss"]) < parity.LOSS
    rows = names.qwen2_audio(golden.parts.decoder, in_memory=True)
    return parity.tensors(rows, found)


def test_gradients_agree(golden):
    ours = gradients(golden, golden.read("right"))
    expected = np.load(golden.folder / "grads_right.npz")
    assert ours.keys() - set(expected) == {"model.audio_tower.embed_positions.weight"}
    assert parity.worst_gradient(ours, expected) < parity.GRADIENT


@pytest.mark.parametrize("name", CASES)
def test_norms_of_all_gradients_agree(golden, name):
    arrays = golden.read(name)
    ours = gradients(golden, arrays)
    norms = {key.removeprefix("pgradnorm."): norm for key, norm in arrays.items() if "pgrad" in key}
    assert ours.keys() - norms.keys() == {"model.audio_tower.embed_positions.weight"}
    for key, norm in norms.items():
        mine = np.linalg.norm(ours[key].astype(np.float64))
        assert parity.deviation(mine / norm, 1.0) < parity.GRADIENT, key


@pytest.mark.parametrize("name", ["left", "multi", "single_full"])
def test_greedy_ids_agree(golden, name):
    """Not of the batch padded right: there the original writes on behind the padding."""
    arrays = golden.read(name)
    batch, ids = golden.batch(arrays), arrays["greedy_new_ids"]
    ours = np.asarray(parity.greedy(*golden.model, batch, NEVER, ids.shape[1]))
    np.testing.assert_array_equal(ours[: len(ids)], ids)
    last = batch["segments"].sum(axis=1)[: len(ids)] - 1
    logits = parity.forward(*golden.model, batch)["logits"]
    first = logits[np.arange(len(ids)), last]
    assert parity.deviation(first, arrays["greedy_first_logits"]) < parity.LOGITS


@jax.jit
def adamw(parameters, gradients, moments, rate, second_correction):
    """One step of PyTorch's AdamW with decay 0.01 of everything but the frozen positions.

    Its bias corrections come as float64 made them: optax takes 1 - 0.999 in float32, which makes
    the first steps 6e-6 too long, and that alone moves these losses by 1.3e-5.
    """

    def update(path, w, g, m, v):
        if path_name(path) == "encoder/positions":
            return w, m, v
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        return w * (1 - 1e-5) - rate * m / (jnp.sqrt(v) / second_correction + 1e-8), m, v

    updated = jax.tree_util.tree_map_with_path(update, parameters, gradients, *moments)
    return jax.tree.transpose(jax.tree.structure(parameters), None, updated)


@pytest.mark.parametrize("name", ["right", "left"])
def test_losses_of_six_adamw_steps_agree(golden, name):
    arrays = golden.read(name)
    graph, parameters = golden.model
    batch = golden.batch(arrays)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    moments = [zeros, zeros]
    for step, expected in enumerate(arrays["adamw_losses"], start=1):
        (loss, _), found = parity.loss_and_gradients(graph, parameters, batch)
        assert parity.deviation(loss, expected) < parity.LOSS
        rate, correction = 1e-3 / (1 - 0.9**step), (1 - 0.999**step) ** 0.5
        parameters, *moments = adamw(parameters, found, moments, rate, correction)


def test_full_thirty_seconds_agree(references):
    """A clip of 30 s in its window of 30 s, beside shorter ones."""
    folder = references / "golden/qwen2_audio/tiny"
    golden = Golden(folder, *load_original(folder))
    arrays = golden.read("right")
    agrees(golden, arrays, golden.batch(arrays))
