"""FLOPs counted by hand, and those of the real model as published for a 30-second clip."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import make_example, tiny_config
from flax import nnx

from data_pipelines.examples import Example, empty_batch, fill_row
from data_pipelines.pairs import lay_out, pair_fields
from qwen_audio_jax.audio.lengths import packed_frames
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.models.presets import (
    Adapter,
    DecoderConfig,
    EncoderConfig,
    model_config,
    preset_parts,
)
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.monitoring import flops
from qwen_audio_jax.rendering import Tokens

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


def test_frozen_layers_have_no_gradient():
    """By hand for a decoder of three layers of which one is trained."""
    others = ("^encoder/", "^projector/", "^decoder/(embedding|head)")
    linears, attention, head = (
        BY_HAND[part] for part in ("decoder_linears", "decoder_attention", "head")
    )

    def extra(*frozen):
        return flops.training_step(SMALL, ONE, (*others, *frozen)) - sum(BY_HAND.values())

    # The last: its gradients, and that of the head by its input.
    assert extra("^decoder/blocks[:2]") == (2 * linears + 2 * attention) // 3 + head
    # The first: the gradient passes through all behind it.
    assert extra("^decoder/blocks[1:]") == linears + linears // 3 + 2 * attention + head
    # One kernel of the last layer.
    kernel = linears * 16 // (3 * (8 + 2 * 4 + 8 + 3 * 16))
    some = "^decoder/blocks/(query|key|value|out|gate|up)"
    assert extra("^decoder/blocks[:2]", some) == (linears + 2 * attention) // 3 + kernel + head


def test_new_tokens_have_a_gradient_though_the_others_are_frozen():
    model = dataclasses.replace(
        SMALL, decoder=dataclasses.replace(SMALL.decoder, first_new_token=6)
    )
    frozen = ("^encoder/", "^projector/", "^decoder/")
    through = BY_HAND["decoder_linears"] + 2 * BY_HAND["decoder_attention"] + BY_HAND["head"]
    once = sum(BY_HAND.values())
    new = BY_HAND["head"] * 4 // 10
    assert flops.training_step(model, ONE, frozen) == once + through + new
    assert flops.training_step(model, ONE, frozen, train_new_tokens=False) == once
    assert flops.training_step(SMALL, ONE, frozen) == once


def test_adapters_come_on_top_of_kernels_that_are_frozen():
    """By hand for adapters of rank 2 on the decoder's query and down, and on the projector."""
    model = dataclasses.replace(
        SMALL,
        adapters=tuple(
            Adapter(path, rank=2, scale=1.0)
            for path in ("decoder/blocks/query", "decoder/blocks/down", "projector")
        ),
    )
    frozen = ("^encoder/", "^projector/", "^decoder/")
    decoder = 3 * 6 * 2 * 2 * ((8 + 8) + (16 + 8))
    projector = 2 * 2 * 2 * (4 + 8)
    through = BY_HAND["decoder_linears"] + 2 * BY_HAND["decoder_attention"] + BY_HAND["head"]
    expected = sum(BY_HAND.values()) + through + 3 * decoder + 2 * projector
    assert flops.training_step(model, ONE, frozen) == expected
    # Without the projector's, the first block's still need what comes to them from behind.
    alone = dataclasses.replace(model, adapters=model.adapters[:2])
    assert flops.training_step(alone, ONE, frozen) == expected - 2 * projector


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


def pair_of(layout, clip_frames, answers, seed=0):
    """A prompt with its clips, and two answers of so many tokens, of which the last is learned."""
    prompt = make_example(seed, clip_frames)
    learned = [np.eye(1, size, size - 1, dtype=np.float32)[0] for size in answers]
    each = [
        Tokens(np.ones(len(one), np.int32), one, np.full(len(one), -1, np.int32)) for one in learned
    ]
    unlearned = dataclasses.replace(
        prompt.text, loss_weights=np.zeros_like(prompt.text.loss_weights)
    )
    text, pair = lay_out(unlearned, each, layout)
    return dataclasses.replace(prompt, text=text, pair=pair)


@pytest.mark.parametrize("layout", ["branches", "apart"])
def test_the_prompt_of_a_pair_counts_as_often_as_it_is_computed(layout):
    """Against the mask of the model's own attention, and by hand."""
    pairs = [(20, 9), (5, 9)], [(31,), (1, 4)], [(), (8, 2)]
    batch = empty_batch(3, 96, 128, mel_bins=16) | pair_fields(3, 96, layout)
    made = [pair_of(layout, *pair, seed) for seed, pair in enumerate(pairs)]
    fill_row(batch, 0, made[:2])
    fill_row(batch, 2, made[2:])
    of = flops.counts_of(batch)
    segments = Segments.of(batch["segments"], trunks=batch.get("trunks"))
    causal = np.tril(np.ones((96, 96), bool)) & (batch["segments"] > 0)[..., None]
    seen = int(np.sum(np.asarray(segments.seen) & causal))
    assert of.tokens_squared == 2 * seen - of.tokens  # n tokens see n (n + 1) / 2
    prompts = [len(make_example(seed, clips).text.tokens) for seed, (clips, _) in enumerate(pairs)]
    behind = [p + size for p, (_, sizes) in zip(prompts, pairs, strict=True) for size in sizes]
    shared = [p - 1 for p in prompts] if layout == "branches" else []
    assert of == flops.counts([20, 9, 31], behind, 6, shared=shared)
    # The clips are encoded and projected once.
    assert (of.frames, of.audio_tokens) == (60, 5 + 2 + 8)
    assert {name: int(n) for name, n in jax.jit(flops.sums_of)(batch).items()} == vars(of)


@pytest.mark.parametrize("silence", [7, 3000])
def test_silence_is_computed_but_is_no_audio(silence):
    """Of clips with silence behind them, beside one of text; a window ends after 3000 frames."""
    clips, seen = (20, 9), [27, 16] if silence == 7 else [3000, 3000]
    mels = [np.zeros((packed_frames(n), 16), np.float32) for n in seen]
    text = make_example(0, clips).text
    batch = empty_batch(2, 64, 6400, mel_bins=16)
    fill_row(batch, 1, [Example(text, tuple(mels), clips, silence), make_example(2, ())])
    of, alone = flops.counts_of(batch), flops.counts([20, 9], [len(text.tokens), 7], 8)
    assert of == flops.counts([20, 9], [len(text.tokens), 7], 8, silence)
    assert {name: int(n) for name, n in jax.jit(flops.sums_of)(batch).items()} == vars(of)
    assert (of.frames, of.silence, alone.silence) == (29, sum(seen) - 29, 0)
    assert of.positions == sum((n + 1) // 2 for n in seen)
    changed = {"silence", "positions", "positions_squared"}
    kept = [field.name for field in dataclasses.fields(of) if field.name not in changed]
    assert [getattr(of, name) for name in kept] == [getattr(alone, name) for name in kept]
    costs = flops.forward(SMALL, of)
    assert costs["conv1"] == sum(seen) * 2 * (3 * 2 * 4)
    assert costs["conv2"] > flops.forward(SMALL, alone)["conv2"]
    for part in ("projector", "decoder_linears", "decoder_attention", "head"):
        assert costs[part] == flops.forward(SMALL, alone)[part]


def test_parts_stand_for_parameters_that_are_there():
    graph = nnx.eval_shape(lambda: QwenAudio(tiny_config("qwen2_audio"), nnx.Rngs(0)))
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.split(graph)[1]))
    kernels = flops.kernels(tiny_config("qwen2_audio"))
    assert {name for part in kernels.values() for name in part} <= {
        path_name(path) for path, _ in leaves
    }
    assert set(kernels) <= set(BY_HAND)
