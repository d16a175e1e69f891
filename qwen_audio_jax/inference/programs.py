"""The engine's compiled programs, and the arrays that they work on: caches, hidden states."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.audio.lengths import (
    MARGIN_FRAMES,
    WINDOW_FRAMES,
    audio_tokens,
    packed_frames,
)
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.row_sampling import RowSampling, choose_each
from qwen_audio_jax.models.language_model import rope
from qwen_audio_jax.models.long_cache import BufferedCache, LongCache, settled
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import ROWS, place_rows, row_shards
from qwen_audio_jax.rendering import Tokens

PIECES = (32, 64, 128, 192, 256)
"""What programs are compiled for that read tokens of a prompt; a piece takes the next."""

STOPS = 8
"""Ids at most that end a row's answer."""

_FRAMES = (256, 384, 512, 768, 1024, 1536, 2048, packed_frames(WINDOW_FRAMES))
"""What the encoder is compiled for; a clip takes the next."""


def piece_of(tokens: int) -> int:
    """The shape that reads so many tokens of a prompt, `PIECES[-1]` at most."""
    return next(size for size in PIECES if tokens <= size)


def frames_for(most: int) -> int:
    """The shape that encodes clips of so many frames at most."""
    return next(size for size in _FRAMES if most <= size)


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


class Programs:
    """A model's programs for B rows.

    Attributes:
        audio_dtype: of audio tokens.
        compiled: seconds until the first call of a program was under way, by its name and shape:
            those that tracing and compiling took, or reading it from where it is kept.
    """

    def __init__(self, loaded: Loaded, rows: int, lengths: tuple[int, ...]):
        """Args:
        loaded: the model.
        rows: B.
        lengths: where the parts of the caches end, of which a step reads those that it needs.
        """
        self._loaded, self._rows, self._lengths = loaded, rows, lengths
        self._decoder = loaded.model.decoder
        self.audio_dtype = np.dtype(loaded.model.compute.dtype)
        self._whole = NamedSharding(loaded.mesh, P())
        divided = rows % row_shards(loaded.mesh) == 0
        self._by_row = NamedSharding(loaded.mesh, ROWS if divided else P())
        self.held = self._empty()
        self.compiled: dict[tuple[str, int], float] = {}
        self._compile()

    def _empty(self) -> Held:
        config, dtype = self._decoder, self._loaded.model.compute.dtype
        B, G = self._rows, config.kv_heads

        def made():
            caches = [
                LongCache.empty(B, G, config.head_dim, self._lengths, dtype)
                for _ in range(config.layers)
            ]
            last = jnp.zeros(B, jnp.int32)
            return Held(caches, last, jnp.zeros((B, config.vocab_size), bool))

        return jax.jit(made, out_shardings=self._by_row)()

    def forget(self) -> None:
        """Empties all slots, as after an error in which their arrays were lost."""
        self.held = self._empty()

    def _compile(self) -> None:
        whole, by_row = self._whole, self._by_row
        self._encode = jax.jit(self._encoded, out_shardings=whole)
        self._read = jax.jit(
            self._with_piece,
            donate_argnames="held",
            out_shardings=(by_row, whole),
        )
        self._mark = jax.jit(_marked, donate_argnames="held", out_shardings=by_row)
        self._write = jax.jit(
            self._written,
            donate_argnames="held",
            static_argnames="steps",
            out_shardings=(by_row, whole),
        )

    def warm_ups(self, steps: int) -> list[Callable[[], object]]:
        """What compiles all that answers need: a call for each program, for empty slots alone.

        Args:
            steps: of a group, see `write`.
        """
        config, rows = self._loaded.model, Rows.none(self._rows)

        def read(n: int) -> None:
            audio = np.zeros((n, self._decoder.width), self.audio_dtype)
            self.read(0, 0, np.zeros(n, np.int32), audio, np.zeros(n, bool), n + 1, rows.sampling)

        def encode(frames: int) -> None:
            mel = np.zeros((frames, config.encoder.mel_bins), np.float32)
            self.encode([(mel, frames - MARGIN_FRAMES, 0)])

        largest = next((n for n in PIECES if n >= self._lengths[-1]), PIECES[-1])
        return [
            functools.partial(self.mark, 0, np.zeros(0, np.int32)),
            *(functools.partial(read, n) for n in PIECES if n <= largest),
            *(functools.partial(encode, frames) for frames in _FRAMES),
            functools.partial(self.write, rows, steps),
        ]

    @contextlib.contextmanager
    def _called(self, program: str, shape: int) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.compiled.setdefault((program, shape), time.monotonic() - began)

    def together(self) -> int:
        """How many clips are encoded at a time: one on each part of the mesh that has rows."""
        return row_shards(self._loaded.mesh)

    def encode(self, clips: Sequence[tuple[np.ndarray, int, int]]) -> list[np.ndarray]:
        """Audio tokens of clips, [N, D] each.

        Args:
            clips: `together()` of them at most: log-mel, valid frames and silence, see `Example`.
        """
        most = max(len(mel) for mel, _, _ in clips)
        frames = frames_for(most)
        M = self._loaded.model.encoder.mel_bins
        batch = empty_batch(self.together(), 1, frames, M)
        nothing = Tokens(*(np.zeros(1, kind) for kind in (np.int32, np.float32, np.int32)))
        nothing.audio[:] = -1
        for row, (mel, valid, silence) in enumerate(clips):
            fill_row(batch, row, [Example(nothing, (mel,), (valid,), silence)])
        heard = {name: batch[name] for name in ("mel", "mel_positions", "mel_segments")}
        with self._called("encode", frames):
            made = self._encode(self._loaded.parameters, place_rows(heard, self._loaded.mesh))
        made = np.asarray(made)
        return [made[row, : audio_tokens(valid)] for row, (_, valid, _) in enumerate(clips)]

    def _encoded(self, parameters: Any, heard: dict[str, jax.Array]) -> jax.Array:
        model = self._model(parameters)
        return model.projector(model.encoder(*heard.values()))

    def _model(self, parameters: Any) -> QwenAudio:
        return nnx.merge(self._loaded.graph, parameters)

    def read(
        self,
        row: int,
        start: int,
        tokens: np.ndarray,
        audio: np.ndarray,
        is_audio: np.ndarray,
        length: int,
        sampling: RowSampling,
    ) -> int | None:
        """Reads a piece of a row's prompt.

        Args:
            row: which.
            start: how many tokens the row holds.
            tokens: int32 [n], those that follow, PIECES[-1] at most.
            audio: [n, D], audio tokens where `tokens` has their placeholders.
            is_audio: bool [n], where that is.
            length: of the whole prompt.
            sampling: the rules of all rows.

        Returns:
            The answer's first token; None if there is more to read before.
        """
        n = len(tokens)
        size = piece_of(n)
        tokens, audio, is_audio = (
            np.concatenate([x, np.zeros((size - n, *x.shape[1:]), x.dtype)])
            for x in (tokens, audio, is_audio)
        )
        numbers = np.array([row, start, n, length], np.int32)
        with self._called("read", size):
            self.held, first = self._read(
                self._loaded.parameters, self.held, tokens, audio, is_audio, numbers, sampling
            )
        return int(first) if start + n == length else None

    def _with_piece(
        self, parameters, held, tokens, audio, is_audio, numbers, sampling
    ) -> tuple[Held, jax.Array]:
        model, config = self._model(parameters), self._loaded.model
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
            return choose_each(logits, jnp.zeros(1, jnp.int32), used, rules)[0]

        token = jax.lax.cond(start + n == length, first, lambda: jnp.int32(0))
        return Held(caches, held.last.at[row].set(token), held.used), token

    def mark(self, row: int, tokens: np.ndarray) -> None:
        """Notes the ids of a row's prompt, int32 [n], for the repetition penalty."""
        used = np.zeros(self._decoder.vocab_size, bool)
        used[tokens] = True
        with self._called("mark", 1):
            self.held = self._mark(self.held, used, np.int32(row))

    def write(self, rows: Rows, steps: int) -> np.ndarray:
        """Writes some more tokens in every running row.

        Args:
            rows: what is known of them; it stays as it is.
            steps: how many, if an answer does not end before.

        Returns:
            int32 [B, steps]: the tokens, one that ends an answer too, then -1. The caches hold them
            but for each row's last.
        """
        with self._called("write", steps):
            self.held, written = self._write(self._loaded.parameters, self.held, rows, steps=steps)
        return np.asarray(written)

    def _written(self, parameters, held, rows, *, steps) -> tuple[Held, jax.Array]:
        decoder, B = self._model(parameters).decoder, self._rows

        def unfinished(carry):
            number, running, *_ = carry
            return (number < steps) & jnp.any(running)

        def body(carry):
            number, running, count, written, last, used, caches = carry
            # Other rows go on where they stand, in slots that nobody sees.
            step, position = rows.steps + count, rows.positions + count
            used = used.at[jnp.arange(B), last].max(running)
            rotate = rope(self._decoder, position[:, None], rows.lengths)
            longest = jnp.max(jnp.where(running, rows.positions, 0))
            seen = functools.partial(
                BufferedCache.attend, lengths=rows.positions, longest=longest, number=number
            )
            x = decoder.embed(last[:, None])
            hidden, caches = decoder.decode(decoder.blocks, x, rotate, caches, number, seen)
            chosen = choose_each(decoder.logits(hidden[:, 0]), step, used, rows.sampling)
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


def _marked(held: Held, used: jax.Array, row: jax.Array) -> Held:
    marked = jax.lax.dynamic_update_index_in_dim(held.used, used, row, 0)
    return Held(held.caches, held.last, marked)
