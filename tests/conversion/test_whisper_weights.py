"""OpenAI's own Whisper tiny.en encoder, imported, on a recorded waveform."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qwen_audio_jax.audio.lengths import packed_frames
from qwen_audio_jax.audio.log_mel import WINDOW_FRAMES, log_mel
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.audio_encoder import AudioEncoder
from qwen_audio_jax.models.presets import Compute

TOLERANCE = 1e-3
"""Outputs are up to 10 large, and the original's window of 3000 frames was float32 throughout."""


def test_its_outputs_are_those_of_the_original(references):
    folder = references / "weights/whisper_tiny_en_encoder"
    golden = np.load(folder / "golden_encoder.npz")
    parts, parameters = load_original(folder)
    assert (parts.encoder.layers, parts.encoder.width, parts.encoder.mel_bins) == (4, 384, 80)
    graph, state = nnx.split(
        nnx.eval_shape(lambda: AudioEncoder(parts.encoder, Compute(), nnx.Rngs(0)))
    )
    nnx.replace_by_pure_dict(
        state, jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), parameters["encoder"])
    )

    # Whisper listens to the silence after the clip too, so the clip here is the whole window.
    waveform = golden["waveform"].astype(np.float32) / 32768
    F = packed_frames(WINDOW_FRAMES)
    mel = log_mel(waveform, 80, F)[None]
    frame = np.arange(F)
    positions = np.where(frame < WINDOW_FRAMES, frame, -1)[None]

    @jax.jit
    def encode(state, mel, positions):
        encoder = nnx.merge(graph, state)
        hidden = encoder.before_pooling(mel, positions, jnp.ones_like(positions))
        return encoder.norm(hidden[:, :100])

    expected = golden["last_hidden_state_first_100"]
    np.testing.assert_allclose(encode(state, mel, positions)[0], expected, atol=TOLERANCE, rtol=0)
