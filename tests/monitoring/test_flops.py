"""FLOPs counted by hand, and those of the real model as published for a 30-second clip."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import make_example, tiny_config
from flax import nnx

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.models.presets import (
    DecoderConfig,
    EncoderConfig,
    model_config,
    preset_parts,
)
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.monitoring import flops

BIG = model_config(
    "qwen2_audio",
    *preset_parts("qwen2_audio_7b", "qwen2_audio", 156032),
    audio_begin=0,
    audio_end=1,
)
SMALL = model_config(
    "qwen2_audio",
    EncoderConfig(mel_bins=2, layers=2, width=4, heads=2),
    DecoderConfig(vocab_size=10, layers=3, width=8, heads=4, kv_heads=2, head_dim=2, mlp_width=16),
    audio_begin=0,
    audio_end=1,
)
# One clip of 8 frames makes 4 positions and 2 audio tokens; with 4 of text the example has 6.
ONE = flops.counts([8], [6], loss_positions=3)
BY_HAND = {
    "conv1": 8 * 2 * (3 * 2 * 4),
    "conv2": 4 * 2 * (3 * 4 * 4),
    "encoder_linears": 2 * 4 * 2 * (4 * 16 + 2 * 4 * 16),
    "encoder_attention": 2 * (2 * 2 * 4 * 4 * 4),
    "projector": 2 * 2 * (4 * 8),
    "embedding": 0,
    "decoder_linears": 3 * 6 * 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16),
    "decoder_attention": 3 * (2 * 2 * 6 * 6 * 8) // 2,
    "head": 3 * 2 * (8 * 10),
}


def test_small_by_hand():
    assert flops.forward(SMALL, ONE) == BY_HAND


def test_30_seconds_and_64_tokens_of_the_real_model():
    of = flops.counts([3000], [750 + 64], loss_positions=750 + 64)
    giga = {part: n / 1e9 for part, n in flops.forward(BIG, of).items()}
    assert giga["conv1"] + giga["conv2"] == pytest.approx(17.7, abs=0.05)
    assert giga["encoder_linears"] == pytest.approx(1887, abs=0.5)
    assert giga["encoder_attention"] == pytest.approx(369, abs=0.5)
    assert giga["projector"] == pytest.approx(7.9, abs=0.05)
    assert giga["decoder_linears"] == pytest.approx(10543, abs=0.5)
    assert 2 * giga["decoder_attention"] == pytest.approx(347, abs=0.5)
    assert giga["head"] == pytest.approx(1040, abs=0.5)


@pytest.mark.parametrize(
    ("frozen", "factors"),
    [
        # The mel spectrogram needs no gradient.
        ((), {"conv1": 2}),
        # Qwen-Audio's pre-training: the gradient passes through the decoder.
        (("^decoder/",), {"conv1": 2, "decoder_linears": 2, "head": 2}),
        # Its tuning: no gradient reaches the encoder, nor what the projector reads.
        (
            ("^encoder/",),
            dict(conv1=1, conv2=1, encoder_linears=1, encoder_attention=1, projector=2),
        ),
        (
            ("^encoder/", "^projector/"),
            dict(conv1=1, conv2=1, encoder_linears=1, encoder_attention=1, projector=1),
        ),
        (("",), dict.fromkeys(BY_HAND, 1)),
    ],
)
def test_what_is_frozen_has_no_gradient(frozen, factors):
    expected = sum(n * factors.get(part, 3) for part, n in BY_HAND.items())
    assert flops.training_step(SMALL, ONE, frozen) == expected


def test_a_tied_head_is_trained_with_the_embedding():
    """Frozen by its own name, or by the embedding's, and nothing before it asks for a gradient."""
    tied = dataclasses.replace(SMALL, decoder=dataclasses.replace(SMALL.decoder, tied=True))
    assert flops.forward(tied, ONE) == BY_HAND
    rest = ("^encoder/", "^projector/", "^decoder/blocks/")
    for model, frozen, of_head in (
        (SMALL, (*rest, "^decoder/embedding"), 2),
        (SMALL, (*rest, "^decoder/embedding", "^decoder/head"), 1),
        (tied, (*rest, "^decoder/embedding"), 1),
    ):
        expected = sum(n * (of_head if part == "head" else 1) for part, n in BY_HAND.items())
        assert flops.training_step(model, ONE, frozen) == expected


def test_counts_of_a_batch_add_up():
    batch = empty_batch(3, 64, 128, mel_bins=16)
    examples = [make_example(0, (20, 9)), make_example(1, (31,)), make_example(2, ())]
    fill_row(batch, 0, examples[:2])
    fill_row(batch, 2, examples[2:])
    whole = flops.counts_of(batch)
    assert whole == flops.counts(
        [20, 9, 31],
        [len(example.text.tokens) for example in examples],
        sum(np.count_nonzero(example.text.loss_weights[1:]) for example in examples),
    )
    parts = [flops.counts_of({name: x[i : i + 1] for name, x in batch.items()}) for i in range(3)]
    for field in dataclasses.fields(flops.Counts):
        assert sum(getattr(part, field.name) for part in parts) == getattr(whole, field.name)
    assert {name: int(n) for name, n in jax.jit(flops.sums_of)(batch).items()} == vars(whole)


def test_parts_stand_for_parameters_that_are_there():
    graph = nnx.eval_shape(lambda: QwenAudio(tiny_config("qwen2_audio"), nnx.Rngs(0)))
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.split(graph)[1]))
    assert set(flops.KERNELS.values()) <= {path_name(path) for path, _ in leaves}
    assert set(flops.KERNELS) <= set(BY_HAND)
