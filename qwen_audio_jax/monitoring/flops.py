"""Model FLOPs of a training step: what the arithmetic asks for, not what a machine spends.

Counted are products of matrices (2 a multiply-add) on useful tokens and frames: no padding, no
margins, nothing computed anew. Silence that the encoder is to see behind clips is asked for, and so
is counted; but it is no audio. A causal attention is half of a full one, and the head counts where
loss is taken. Of a pair of answers the prompt counts once, and both answers attend to it; laid out
apart it is two examples on the same clips. So useful MFU = `training_step` / (seconds * the
machine's rate).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from qwen_audio_jax.audio.lengths import FRAMES_PER_TOKEN, audio_tokens, encoder_positions
from qwen_audio_jax.audio.silence import seen_frames
from qwen_audio_jax.models.audio_encoder import frame_of
from qwen_audio_jax.models.frozen_patterns import TOKEN_AXES, frozen_intervals
from qwen_audio_jax.models.presets import ModelConfig


@dataclasses.dataclass(frozen=True)
class Counts:
    """What is useful in a batch.

    Attributes:
        frames: mel frames of all clips, neither silence nor margins counted.
        silence: mel frames of silence that the encoder sees behind them.
        positions: encoder positions of all clips and that silence, 50 per second.
        positions_squared: the sum over clips of the square of that.
        audio_tokens: 25 per second.
        tokens: of the decoder, audio and text.
        tokens_squared: the sum over examples of the square of that; of a prompt with two branches
            what its square and both answers attend to, twice that of a causal attention.
        loss_positions: where a token is learned.
    """

    frames: int
    silence: int
    positions: int
    positions_squared: int
    audio_tokens: int
    tokens: int
    tokens_squared: int
    loss_positions: int


def counts(
    clip_frames: Sequence[int],
    tokens: Sequence[int],
    loss_positions: int,
    silence: int = 0,
    shared: Sequence[int] = (),
) -> Counts:
    """Of clips with these mel frames, and examples with these tokens, audio and text.

    Args:
        clip_frames: of each clip.
        tokens: of each example; a pair with branches is two, each with its prompt.
        loss_positions: of all of them.
        silence: how many frames of it are seen behind each clip, where its 30 s have room.
        shared: of the prompt of each such pair, which is computed once.
    """
    seen = [seen_frames(n, silence) for n in clip_frames]
    squared = sum(n * n for n in tokens) - sum(n * n for n in shared)
    return _counts(clip_frames, seen, sum(tokens) - sum(shared), squared, loss_positions)


def _counts(
    clip_frames: Sequence[int],
    seen: Sequence[int],
    tokens: int,
    tokens_squared: int,
    loss_positions: int,
) -> Counts:
    positions = [encoder_positions(n) for n in seen]
    return Counts(
        frames=sum(clip_frames),
        silence=sum(seen) - sum(clip_frames),
        positions=sum(positions),
        positions_squared=sum(n * n for n in positions),
        audio_tokens=sum(audio_tokens(n) for n in clip_frames),
        tokens=tokens,
        tokens_squared=tokens_squared,
        loss_positions=loss_positions,
    )


def counts_of(batch: Mapping[str, np.ndarray]) -> Counts:
    """Of a Batch, or of the rows of it that a process has; they add up."""
    places = np.asarray(batch["mel_positions"])
    clips, seen = (
        _lengths(np.where(valid, batch["mel_segments"], 0)) for valid in (places >= 0, places != -1)
    )
    learned = int(np.count_nonzero(batch["loss_weights"]))
    positions = np.asarray(batch["positions"], np.int64)[np.asarray(batch["segments"]) > 0]
    squared = int(np.sum(2 * positions + 1))
    return _counts(clips, seen, len(positions), squared, learned)


def sums_of(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The same inside `jax.jit`, of a batch that may lie on many devices: Counts, by name.

    A stretch of n positions has n squared = 1 + 3 + 5 + ... to its end, and the positions of a
    branch go on from its prompt's.
    """
    token = batch["segments"] > 0
    clip = batch["mel_segments"] > 0
    own = clip & (batch["mel_positions"] >= 0)
    frame = frame_of(batch["mel_positions"])
    position = clip & (frame >= 0) & (frame % 2 == 0)
    sums = {
        "frames": own,
        "silence": clip & (batch["mel_positions"] < -1),
        "positions": position,
        "positions_squared": position * (frame // 2 * 2 + 1),
        # Not by their placeholders, of which two prompts may have the same clip's.
        "audio_tokens": own & (frame % FRAMES_PER_TOKEN == FRAMES_PER_TOKEN // 2),
        "tokens": token,
        "tokens_squared": token * (2 * batch["positions"] + 1),
        "loss_positions": batch["loss_weights"] != 0,
    }
    return {name: jnp.sum(x, dtype=jnp.float32) for name, x in sums.items()}


def _lengths(segments: np.ndarray) -> list[int]:
    """How long each segment of each row is."""
    rows = np.arange(len(segments), dtype=np.int64)[:, None] * (int(segments.max()) + 1)
    return np.unique((segments + rows)[segments > 0], return_counts=True)[1].tolist()


def forward(config: ModelConfig, of: Counts) -> dict[str, int]:
    """FLOPs of a forward pass by part, in the order in which it is computed."""
    E, D = config.encoder, config.decoder
    heads, kv_heads = D.heads * D.head_dim, D.kv_heads * D.head_dim
    decoder_block = D.width * (2 * heads + 2 * kv_heads + 3 * D.mlp_width)
    return {
        "conv1": (of.frames + of.silence) * 2 * 3 * E.mel_bins * E.width,
        "conv2": of.positions * 2 * 3 * E.width**2,
        "encoder_linears": E.layers * of.positions * 2 * 12 * E.width**2,
        "encoder_attention": E.layers * of.positions_squared * 4 * E.width,
        "projector": of.audio_tokens * 2 * E.width * D.width,
        "embedding": 0,
        "decoder_linears": D.layers * of.tokens * 2 * decoder_block,
        "decoder_attention": D.layers * of.tokens_squared * 4 * heads // 2,
        "head": of.loss_positions * 2 * D.width * D.vocab_size,
    }


def kernels(config: ModelConfig) -> dict[str, dict[str, tuple[int, int]]]:
    """The parameters by which each part multiplies, and both sides of each, of a layer if stacked.

    Products of activations have none. Of a part that has but one, only its tokens matter.
    """
    E, D = config.encoder, config.decoder
    heads, kv_heads = D.heads * D.head_dim, D.kv_heads * D.head_dim

    def stacked(stack: str, sides: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        return {f"{stack}/{name}/kernel": both for name, both in sides.items()}

    square = dict.fromkeys(("query", "key", "value", "out"), (E.width, E.width))
    wide = dict.fromkeys(("up", "down"), (E.width, 4 * E.width))
    attention = {"query": heads, "key": kv_heads, "value": kv_heads, "out": heads}
    mlp = dict.fromkeys(("gate", "up", "down"), D.mlp_width)
    decoder = {name: (D.width, size) for name, size in (attention | mlp).items()}
    return {
        "conv1": {"encoder/conv1/kernel": (1, 1)},
        "conv2": {"encoder/conv2/kernel": (1, 1)},
        "encoder_linears": stacked("encoder/blocks", square | wide),
        "projector": {"projector/kernel": (E.width, D.width)},
        "embedding": {"decoder/embedding": (1, D.vocab_size)},
        "decoder_linears": stacked("decoder/blocks", decoder),
        "head": {"decoder/embedding" if D.tied else "decoder/head": (1, D.vocab_size)},
    }


def training_step(
    config: ModelConfig, of: Counts, frozen: Sequence[str] = (), *, train_new_tokens: bool = True
) -> int:
    """FLOPs of the forward and the backward pass.

    A part costs its forward pass once, once more for the gradient by its parameters if they are
    trained, and once for the gradient by its input (twice where both factors are activations) if
    anything before it is trained. Of a stack that holds for each layer. What adapters multiply
    comes on top: they are trained, and a kernel beside which they lie passes its gradient on.

    Args:
        config: the model's.
        of: what is useful in the batch.
        frozen, train_new_tokens: those of `OptimizerConfig`.
    """
    new = config.decoder.vocab_size - config.decoder.first_new_token
    new = new if train_new_tokens and config.decoder.first_new_token else 0
    by_part, total, trained_before = kernels(config), 0, False
    ranks = {f"{adapter.path}/kernel": adapter.rank for adapter in config.adapters}
    needed = np.zeros(1, bool)
    for part, flops in forward(config, of).items():
        if part not in by_part:
            # Between the linears of a stack, of which the last were looked at before.
            total += flops * int((1 + 2 * needed).sum()) // len(needed)
            continue
        layers = getattr(config, part.removesuffix("_linears")).layers if "_" in part else 1
        size, added, trained = 0, 0, np.zeros(layers, np.int64)
        for name, (first, second) in by_part[part].items():
            size += first * second
            added += ranks.get(name, 0) * (first + second)
            trained += first * second * _trained_layers(frozen, name, layers)
            if name in TOKEN_AXES and not trained.any():
                trained += new
        # In a stack of blocks, each but the first trained one has trained ones before it.
        behind = np.logical_or.accumulate(trained + added > 0)
        needed = trained_before | (behind if "_" in part else np.zeros(1, bool))
        total += flops * (layers + int(needed.sum())) // layers
        total += flops * int(trained.sum()) // (layers * size)
        total += flops * added * (2 * layers + int(needed.sum())) // (layers * size)
        trained_before |= bool(behind.any())
    return total


def _trained_layers(frozen: Sequence[str], name: str, layers: int) -> np.ndarray:
    """Which layers of a parameter are trained, bool [layers]; 1 where it is not stacked."""
    trained = np.ones(layers, bool)
    for first, end in frozen_intervals(frozen, name, layers):
        trained[first:end] = False
    return trained
