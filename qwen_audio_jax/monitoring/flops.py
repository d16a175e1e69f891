"""Model FLOPs of a training step: what the arithmetic asks for, not what a machine spends.

Counted are products of matrices (2 a multiply-add) on useful tokens and frames: no padding, no
margins, nothing computed anew. A causal attention is half of a full one, and the head counts where
loss is taken. So useful MFU = `training_step` / (seconds * the machine's rate).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from qwen_audio_jax.audio.lengths import audio_tokens, encoder_positions
from qwen_audio_jax.models.presets import ModelConfig


@dataclasses.dataclass(frozen=True)
class Counts:
    """What is useful in a batch.

    Attributes:
        frames: mel frames of all clips, margins not counted.
        positions: encoder positions of all clips, 50 per second.
        positions_squared: the sum over clips of the square of that.
        audio_tokens: 25 per second.
        tokens: of the decoder, audio and text.
        tokens_squared: the sum over examples of the square of that.
        loss_positions: where a token is learned.
    """

    frames: int
    positions: int
    positions_squared: int
    audio_tokens: int
    tokens: int
    tokens_squared: int
    loss_positions: int


def counts(clip_frames: Sequence[int], tokens: Sequence[int], loss_positions: int) -> Counts:
    """Of clips with these mel frames, and examples with these tokens, audio and text."""
    positions = [encoder_positions(n) for n in clip_frames]
    return Counts(
        frames=sum(clip_frames),
        positions=sum(positions),
        positions_squared=sum(n * n for n in positions),
        audio_tokens=sum(audio_tokens(n) for n in clip_frames),
        tokens=sum(tokens),
        tokens_squared=sum(n * n for n in tokens),
        loss_positions=loss_positions,
    )


def counts_of(batch: Mapping[str, np.ndarray]) -> Counts:
    """Of a Batch, or of the rows of it that a process has; they add up."""
    clips = np.where(np.asarray(batch["mel_positions"]) >= 0, batch["mel_segments"], 0)
    learned = int(np.count_nonzero(batch["loss_weights"]))
    return counts(_lengths(clips), _lengths(np.asarray(batch["segments"])), learned)


def sums_of(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The same inside `jax.jit`, of a batch that may lie on many devices: Counts, by name.

    A stretch of n positions has n squared = 1 + 3 + 5 + ... to its end.
    """
    token = batch["segments"] > 0
    frame = (batch["mel_segments"] > 0) & (batch["mel_positions"] >= 0)
    position = frame & (batch["mel_positions"] % 2 == 0)
    sums = {
        "frames": frame,
        "positions": position,
        "positions_squared": position * (batch["mel_positions"] // 2 * 2 + 1),
        "audio_tokens": batch["audio_index"] >= 0,
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
        "conv1": of.frames * 2 * 3 * E.mel_bins * E.width,
        "conv2": of.positions * 2 * 3 * E.width**2,
        "encoder_linears": E.layers * of.positions * 2 * 12 * E.width**2,
        "encoder_attention": E.layers * of.positions_squared * 4 * E.width,
        "projector": of.audio_tokens * 2 * E.width * D.width,
        "embedding": 0,
        "decoder_linears": D.layers * of.tokens * 2 * decoder_block,
        "decoder_attention": D.layers * of.tokens_squared * 4 * heads // 2,
        "head": of.loss_positions * 2 * D.width * D.vocab_size,
    }


KERNELS = {
    "conv1": "encoder/conv1/kernel",
    "conv2": "encoder/conv2/kernel",
    "encoder_linears": "encoder/blocks/query/kernel",
    "projector": "projector/kernel",
    "embedding": "decoder/embedding",
    "decoder_linears": "decoder/blocks/query/kernel",
    "head": "decoder/head",
}
"""A parameter of each part, which stands for the others; products of activations have none."""


def training_step(config: ModelConfig, of: Counts, frozen: Sequence[str] = ()) -> int:
    """FLOPs of the forward and the backward pass.

    A part costs its forward pass once, once more for the gradient by its parameters if they are
    trained, and once for the gradient by its input (twice where both factors are activations) if
    anything before it is trained.

    Args:
        config: the model's.
        of: what is useful in the batch.
        frozen: `OptimizerConfig.frozen`, regular expressions over parameter paths.
    """
    total, trained_before = 0, False
    for part, flops in forward(config, of).items():
        kernel = KERNELS.get("embedding" if part == "head" and config.decoder.tied else part)
        if kernel is None:
            total += flops * (3 if trained_before else 1)
            continue
        trained = not any(re.search(pattern, kernel) for pattern in frozen)
        # In a stack of blocks, each but the first has trained ones before it.
        needed = trained_before or (trained and part.endswith("linears"))
        total += flops * (1 + trained + needed)
        trained_before |= trained
    return total
