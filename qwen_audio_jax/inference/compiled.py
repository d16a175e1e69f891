"""What the engine computes, as compiled functions of parameters and slots.

They know shapes alone and hold no array. So an engine that answers with other parameters of the
same model, as after more steps of training, finds them compiled.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.inference.row_sampling import RowSampling, choose_each
from qwen_audio_jax.models.language_model import rope
from qwen_audio_jax.models.long_cache import BufferedCache, LongCache, settled
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import ROWS, row_shards

STOPS = 8
"""Ids at most that end a row's answer."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Rows:
    """What the host knows of the slots: arrays of B rows.

    Attributes:
        running: bool [B], whether an answer is written there.
        positions: int32 [B], how many tokens the cache holds.
        lengths: int32 [B], of the prompts.
        steps: int32 [B], how many tokens of the answer are written; the cache lacks the last.
        limits: int32 [B], how many there may be.
        stops: int32 [B, STOPS], ids that end it, else -1.
        sampling: the rules.
    """

    running: np.ndarray
    positions: np.ndarray
    lengths: np.ndarray
    steps: np.ndarray
    limits: np.ndarray
    stops: np.ndarray
    sampling: RowSampling

    @classmethod
    def none(cls, rows: int) -> "Rows":
        """Empty slots."""
        numbers = (np.zeros(rows, np.int32) for _ in range(4))
        stops = np.full((rows, STOPS), -1, np.int32)
        return cls(np.zeros(rows, bool), *numbers, stops, RowSampling.greedy(rows))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Held:
    """What the devices hold of the slots.

    Attributes:
        caches: each layer's, of B rows.
        last: int32 [B], the token that each row has written last, which its cache lacks.
        used: bool [B, V], ids that each row's cache holds.
    """

    caches: list[LongCache]
    last: jax.Array
    used: jax.Array


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A model's functions for B rows; `compiled` makes each once.

    Attributes:
        graph: of the model, see `inference.loading.Loaded`.
        model: its configuration.
        mesh: to run on.
        rows: B.
        lengths: where the parts of the caches end, of which a step reads those that it needs.
        greedy: whether the likeliest tokens are taken, and no rules of sampling are compiled.
    """

    graph: nnx.GraphDef
    model: ModelConfig
    mesh: Mesh
    rows: int
    lengths: tuple[int, ...]
    greedy: bool

    @property
    def _whole(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    @property
    def _by_row(self) -> NamedSharding:
        divided = self.rows % row_shards(self.mesh) == 0
        return NamedSharding(self.mesh, ROWS if divided else P())

    @functools.cached_property
    def empty(self):
        """() -> Held: slots that hold nothing."""
        config, dtype = self.model.decoder, self.model.compute.dtype
        B, G = self.rows, config.kv_heads

        def made():
            caches = [
                LongCache.empty(B, G, config.head_dim, self.lengths, dtype)
                for _ in range(config.layers)
            ]
            last = jnp.zeros(B, jnp.int32)
            return Held(caches, last, jnp.zeros((B, config.vocab_size), bool))

        return jax.jit(made, out_shardings=self._by_row)

    @functools.cached_property
    def encode(self):
        """(parameters, mel fields of a Batch) -> audio tokens [B, N, D]."""
        return jax.jit(self._encoded, out_shardings=self._whole)

    @functools.cached_property
    def read(self):
        """See `_with_piece`."""
        return jax.jit(
            self._with_piece,
            donate_argnames="held",
            out_shardings=(self._by_row, self._whole),
        )

    @functools.cached_property
    def mark(self):
        """(held, used bool [V], row) -> Held with the ids of a row's prompt."""
        return jax.jit(_marked, donate_argnames="held", out_shardings=self._by_row)

    @functools.cached_property
    def write(self):
        """See `_written`."""
        return jax.jit(
            self._written,
            donate_argnames="held",
            static_argnames="steps",
            out_shardings=(self._by_row, self._whole),
        )

    def _encoded(self, parameters: Any, heard: dict[str, jax.Array]) -> jax.Array:
        model = self._model(parameters)
        return model.projector(model.encoder(*heard.values()))

    def _model(self, parameters: Any) -> QwenAudio:
        return nnx.merge(self.graph, parameters)

    def _with_piece(
        self, parameters, held, tokens, audio, is_audio, numbers, sampling
    ) -> tuple[Held, jax.Array]:
        model, config = self._model(parameters), self.model
        decoder = model.decoder
        row, start, n, length = numbers
        x = decoder.embed(tokens)
        if config.delimiter_embeddings:
            begin, end = model.delimiters[...].astype(x.dtype)
            x = jnp.where((tokens == config.audio_begin)[:, None], begin, x)
            x = jnp.where((tokens == config.audio_end)[:, None], end, x)
        x = jnp.where(is_audio[:, None], audio.astype(x.dtype), x)[:, None]
        positions = start + jnp.arange(len(tokens))
        rotate = rope(config.decoder, positions[:, None], jnp.full(len(tokens), length))
        hidden, caches = decoder.read(decoder.blocks, x, rotate, held.caches, row, start, n)

        def first():
            logits = decoder.logits(jax.lax.dynamic_slice_in_dim(hidden, n - 1, 1)[:, 0])
            used, rules = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(jnp.asarray(x), row, 1),
                (held.used, sampling),
            )
            return self._chosen(logits, jnp.zeros(1, jnp.int32), used, rules)[0]

        token = jax.lax.cond(start + n == length, first, lambda: jnp.int32(0))
        return Held(caches, held.last.at[row].set(token), held.used), token

    def _written(self, parameters, held, rows, *, steps) -> tuple[Held, jax.Array]:
        decoder, B = self._model(parameters).decoder, self.rows

        def unfinished(carry):
            number, running, *_ = carry
            return (number < steps) & jnp.any(running)

        def body(carry):
            number, running, count, written, last, used, caches = carry
            # Other rows go on where they stand, in slots that nobody sees.
            step, position = rows.steps + count, rows.positions + count
            used = used.at[jnp.arange(B), last].max(running)
            rotate = rope(self.model.decoder, position[:, None], rows.lengths)
            longest = jnp.max(jnp.where(running, rows.positions, 0))
            seen = functools.partial(
                BufferedCache.attend, lengths=rows.positions, longest=longest, number=number
            )
            x = decoder.embed(last[:, None])
            hidden, caches = decoder.decode(decoder.blocks, x, rotate, caches, number, seen)
            chosen = self._chosen(decoder.logits(hidden[:, 0]), step, used, rows.sampling)
            written = written.at[:, number].set(jnp.where(running, chosen, -1))
            last = jnp.where(running, chosen, last)
            ended = jnp.any(chosen[:, None] == rows.stops, axis=1) | (step + 1 >= rows.limits)
            return number + 1, running & ~ended, count + running, written, last, used, caches

        caches = [BufferedCache.over(cache, steps) for cache in held.caches]
        written = jnp.full((B, steps), -1, jnp.int32)
        nothing = jnp.zeros(B, jnp.int32)
        carry = jnp.int32(0), rows.running, nothing, written, held.last, held.used, caches
        carry = jax.lax.while_loop(unfinished, body, carry)
        _, _, count, written, last, used, caches = carry
        return Held(settled(caches, rows.positions, count), last, used), written

    def _chosen(
        self, logits: jax.Array, steps: jax.Array, used: jax.Array, sampling: RowSampling
    ) -> jax.Array:
        """See `choose_each`."""
        if self.greedy:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return choose_each(logits, steps, used, sampling)


def _marked(held: Held, used: jax.Array, row: jax.Array) -> Held:
    marked = jax.lax.dynamic_update_index_in_dim(held.used, used, row, 0)
    return Held(held.caches, held.last, marked)


@functools.lru_cache(maxsize=8)
def compiled(
    graph: nnx.GraphDef,
    model: ModelConfig,
    mesh: Mesh,
    rows: int,
    lengths: tuple[int, ...],
    greedy: bool,
) -> Compiled:
    """See `Compiled`; the same one for the same arguments, with what it has compiled."""
    return Compiled(graph, model, mesh, rows, lengths, greedy)
