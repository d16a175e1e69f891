"""The audio-language model: encoder, projector, splice, decoder. One class for both families."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.adapters import attach
from qwen_audio_jax.models.audio_encoder import AudioEncoder
from qwen_audio_jax.models.language_model import LanguageModel, rope
from qwen_audio_jax.models.layers import linear
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.segments import Segments

Constrain = Callable[[jax.Array], jax.Array]


class QwenAudio(nnx.Module):
    """Qwen-Audio or Qwen2-Audio, as the configuration says.

    Parameters are float32; compute is in `config.compute.dtype`; norms, softmax, rotary positions
    and logits are float32.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        D = config.decoder.width
        self.encoder = AudioEncoder(config.encoder, config.compute, rngs)
        self.projector = linear(config.encoder.width, D, config.compute, rngs, bias=True)
        if config.delimiter_embeddings:
            self.delimiters = nnx.Param(jax.random.normal(rngs.params(), (2, D)) * 0.02)
        self.decoder = LanguageModel(config.decoder, config.compute, rngs)
        attach(self, config.adapters, rngs)  # last, so that all else is drawn as without

    def embed(self, batch: dict[str, jax.Array], constrain: Constrain = lambda x: x) -> jax.Array:
        """Word embeddings with the audio put in: [B, L, D].

        Args:
            batch: `tokens`, `audio_index`, `mel`, `mel_positions`, `mel_segments` of the Batch
                contract (docs/design.md).
            constrain: keeps an activation's rows on the mesh's data axes.
        """
        audio = self.encoder(constrain(batch["mel"]), batch["mel_positions"], batch["mel_segments"])
        audio = constrain(self.projector(audio))
        tokens, index = batch["tokens"], batch["audio_index"]
        x = self.decoder.embed(tokens)
        if self.config.delimiter_embeddings:
            begin, end = self.delimiters[...].astype(x.dtype)
            x = jnp.where((tokens == self.config.audio_begin)[..., None], begin, x)
            x = jnp.where((tokens == self.config.audio_end)[..., None], end, x)
        # A gather inside the row: it never crosses devices.
        spliced = jnp.take_along_axis(audio, jnp.maximum(index, 0)[..., None], axis=1)
        return constrain(jnp.where((index >= 0)[..., None], spliced, x))

    def __call__(
        self, batch: dict[str, jax.Array], constrain: Constrain = lambda x: x
    ) -> jax.Array:
        """Hidden states [B, L, D] of packed rows, for training; `next_token_loss` has the head."""
        x = self.embed(batch, constrain)
        rotate = rope(self.config.decoder, batch["positions"])
        segments = Segments.of(batch["segments"], trunks=batch.get("trunks"))
        return constrain(self.decoder(x, segments, rotate))
