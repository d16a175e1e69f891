"""The Whisper-type audio encoder, on packed clips.

Clips lie one after another in a row. Each starts at a multiple of four frames and keeps at least
two margin frames past its end, because the convolutions look that far; margins are never attended.
Convolutions, attention and pooling never cross from one clip into the next, so a clip gives the
same result wherever it lies (and the same as in the originals' 30-second window).

Where the encoder sees all of the silence behind a clip, as Whisper does, every clip takes the same
number of frames. So a row is cut into those, and no attention is computed across them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qwen_audio_jax.audio.lengths import WINDOW_FRAMES, packed_frames
from qwen_audio_jax.audio.silence import silence_frames
from qwen_audio_jax.models.attention import attend
from qwen_audio_jax.models.layers import gelu, layer_norm, linear, scan_layers, stack_layers
from qwen_audio_jax.models.presets import Compute, EncoderConfig
from qwen_audio_jax.models.segments import Segments


def sinusoids(positions: int, width: int) -> np.ndarray:
    """Whisper's position table, float32 [positions, width]: sines, then cosines."""
    step = np.log(10000.0) / (width // 2 - 1)
    angles = np.arange(positions)[:, None] * np.exp(-step * np.arange(width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Convolution(nnx.Module):
    """A convolution of kernel size 3, as a product with the three taps side by side."""

    def __init__(self, features_in: int, features_out: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        init = jax.nn.initializers.lecun_normal(in_axis=(0, 1))
        self.kernel = nnx.Param(init(rngs.params(), (3, features_in, features_out)))
        self.bias = nnx.Param(jnp.zeros((features_out,)))
        self.dtype = dtype

    def __call__(self, before: jax.Array, here: jax.Array, after: jax.Array) -> jax.Array:
        taps = jnp.concatenate([before, here, after], axis=-1).astype(self.dtype)
        kernel = self.kernel[...].reshape(-1, self.kernel.shape[-1])
        return taps @ kernel.astype(self.dtype) + self.bias[...].astype(self.dtype)


class EncoderBlock(nnx.Module):
    """Pre-norm self-attention and MLP; the key projection has no bias."""

    def __init__(self, config: EncoderConfig, compute: Compute, rngs: nnx.Rngs):
        width, heads = config.width, config.heads
        self.backend = compute.attention
        self.head_shape = (heads, width // heads)
        residual = (2 * config.layers) ** -0.5
        self.attention_norm = layer_norm(width, rngs)
        self.query = linear(width, width, compute, rngs, bias=True)
        self.key = linear(width, width, compute, rngs, bias=False)
        self.value = linear(width, width, compute, rngs, bias=True)
        self.out = linear(width, width, compute, rngs, bias=True, scale=residual)
        self.mlp_norm = layer_norm(width, rngs)
        self.up = linear(width, 4 * width, compute, rngs, bias=True)
        self.down = linear(4 * width, width, compute, rngs, bias=True, scale=residual)

    def __call__(self, x: jax.Array, segments: Segments) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        y = self.attention_norm(x).astype(x.dtype)
        q, k, v = (
            project(y).reshape(*y.shape[:2], *self.head_shape)
            for project in (self.query, self.key, self.value)
        )
        attended = attend(q, k, v, segments, causal=False, backend=self.backend)
        x = x + self.out(attended.reshape(x.shape))
        y = self.mlp_norm(x).astype(x.dtype)
        return x + self.down(gelu(self.up(y)))


class AudioEncoder(nnx.Module):
    """Log-mel frames at 100 per second to encoder outputs at 25 per second."""

    def __init__(self, config: EncoderConfig, compute: Compute, rngs: nnx.Rngs):
        self.dtype = dtype = jnp.dtype(compute.dtype)
        self.remat = compute.remat
        whole = silence_frames(config.window) == WINDOW_FRAMES
        self.window_frames = packed_frames(WINDOW_FRAMES) if whole else None
        self.conv1 = Convolution(config.mel_bins, config.width, dtype, rngs)
        self.conv2 = Convolution(config.width, config.width, dtype, rngs)
        # Part of the originals' checkpoints, never trained (optimizer.FROZEN).
        self.positions = nnx.Param(jnp.asarray(sinusoids(config.max_positions, config.width)))
        self.blocks = stack_layers(
            lambda rngs: EncoderBlock(config, compute, rngs), config.layers, rngs
        )
        self.norm = layer_norm(config.width, rngs)

    def __call__(
        self, mel: jax.Array, mel_positions: jax.Array, mel_segments: jax.Array
    ) -> jax.Array:
        """Encodes packed clips.

        Args:
            mel: [B, F, M], 0 in padding. F is a multiple of 4.
            mel_positions: int32 [B, F], frame within its clip; -1 in a clip's margin; -2 - frame in
                silence behind the clip that is to be seen.
            mel_segments: int32 [B, F], clip number from 1; 0 is padding.

        Returns:
            [B, F // 4, width] in the compute dtype: one vector per audio token, at the clip's first
            frame // 4 onward. Slots of margins and padding hold finite values that nobody reads.
            Behind a row's last whole window there are none.
        """
        x = self.before_pooling(mel, mel_positions, mel_segments)
        # Pool, then norm, as both originals do. A clip's odd last position is dropped.
        x = x.reshape(len(x), -1, 2, x.shape[-1]).mean(axis=2)
        return self.norm(x).astype(self.dtype)

    def before_pooling(
        self, mel: jax.Array, mel_positions: jax.Array, mel_segments: jax.Array
    ) -> jax.Array:
        """The same up to the last block: [B, F // 2, width], 50 per second, not normalised."""
        rows, F, _ = mel.shape
        W = min(F, self.window_frames or F)
        mel, mel_positions, mel_segments = (
            x[:, : F // W * W].reshape(-1, W, *x.shape[2:])
            for x in (mel, mel_positions, mel_segments)
        )
        x = gelu(self.conv1(*_neighbours(mel, mel_segments)))
        # Stride 2: a position reads frames 2t-1, 2t, 2t+1, and only 2t-1 can be another clip's.
        pairs = x.reshape(len(x), W // 2, 2, -1)
        segments, positions = mel_segments[:, ::2], frame_of(mel_positions[:, ::2])
        before = jnp.pad(pairs[:, :-1, 1], ((0, 0), (1, 0), (0, 0)))
        before = before * _same_as_before(segments)[..., None]
        x = gelu(self.conv2(before, pairs[:, :, 0], pairs[:, :, 1]))
        table = jax.lax.stop_gradient(self.positions[...])  # spares its gradient, a slow scatter
        x = x + table[positions // 2].astype(self.dtype)
        seen = Segments.of(segments, hidden=positions < 0)
        x = scan_layers(self.blocks, x, seen, remat=self.remat)
        return x.reshape(rows, -1, x.shape[-1])


def frame_of(mel_positions: jax.Array) -> jax.Array:
    """Frame of its window, in the clip and in the silence behind it alike; -1 in margins."""
    return jnp.abs(mel_positions + 1) - 1


def _same_as_before(segments: jax.Array) -> jax.Array:
    """Whether the frame before belongs to the same clip, bool [B, F]."""
    return jnp.pad(segments[:, 1:] == segments[:, :-1], ((0, 0), (1, 0)))


def _neighbours(x: jax.Array, segments: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each frame's predecessor, itself and successor; 0 where those are another clip's."""
    same = _same_as_before(segments)[..., None]
    before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) * same
    after = jnp.pad((x * same)[:, 1:], ((0, 0), (0, 1), (0, 0)))
    return before, x, after
