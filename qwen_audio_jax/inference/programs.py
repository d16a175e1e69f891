"""The engine's programs as it calls them: arrays of the host in and out, caches kept between."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.audio.lengths import (
    MARGIN_FRAMES,
    WINDOW_FRAMES,
    audio_tokens,
    packed_frames,
)
from qwen_audio_jax.inference.compiled import Rows, compiled
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.row_sampling import RowSampling
from qwen_audio_jax.parallel.sharding import place_rows, row_shards
from qwen_audio_jax.rendering import Tokens

PIECES = (32, 64, 128, 192, 256)
"""What programs are compiled for that read tokens of a prompt; a piece takes the next."""

_FRAMES = (256, 384, 512, 768, 1024, 1536, 2048, packed_frames(WINDOW_FRAMES))
"""What the encoder is compiled for; a clip takes the next."""


def piece_of(tokens: int) -> int:
    """The shape that reads so many tokens of a prompt, `PIECES[-1]` at most."""
    return next(size for size in PIECES if tokens <= size)


def frames_for(most: int) -> int:
    """The shape that encodes clips of so many frames at most."""
    return next(size for size in _FRAMES if most <= size)


class Programs:
    """A model's programs for B rows.

    Attributes:
        audio_dtype: of audio tokens.
        compiled: seconds until the first call of a program was under way, by its name and shape:
            those that tracing and compiling took, or reading it from where it is kept.
    """

    def __init__(self, loaded: Loaded, rows: int, lengths: tuple[int, ...], greedy: bool = False):
        """Args:
        loaded: the model.
        rows: B.
        lengths: where the parts of the caches end, of which a step reads those that it needs.
        greedy: whether all rows take the likeliest token, whatever their rules.
        """
        self._loaded, self._rows, self._lengths = loaded, rows, lengths
        self._decoder = loaded.model.decoder
        self.audio_dtype = np.dtype(loaded.model.compute.dtype)
        shape = rows, lengths, greedy
        self._compiled = compiled(loaded.graph, loaded.model, loaded.mesh, *shape)
        self.held = self._compiled.empty()
        self.compiled: dict[tuple[str, int], float] = {}

    def forget(self) -> None:
        """Empties all slots, as after an error in which their arrays were lost."""
        self.held = self._compiled.empty()

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
        parameters = self._loaded.parameters
        with self._called("encode", frames):
            made = self._compiled.encode(parameters, place_rows(heard, self._loaded.mesh))
        made = np.asarray(made)
        return [made[row, : audio_tokens(valid)] for row, (_, valid, _) in enumerate(clips)]

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
        parameters = self._loaded.parameters
        with self._called("read", size):
            self.held, first = self._compiled.read(
                parameters, self.held, tokens, audio, is_audio, numbers, sampling
            )
        return int(first) if start + n == length else None

    def mark(self, row: int, tokens: np.ndarray) -> None:
        """Notes the ids of a row's prompt, int32 [n], for the repetition penalty."""
        used = np.zeros(self._decoder.vocab_size, bool)
        used[tokens] = True
        with self._called("mark", 1):
            self.held = self._compiled.mark(self.held, used, np.int32(row))

    def write(self, rows: Rows, steps: int) -> np.ndarray:
        """Writes some more tokens in every running row.

        Args:
            rows: what is known of them; it stays as it is.
            steps: how many, if an answer does not end before.

        Returns:
            int32 [B, steps]: the tokens, one that ends an answer too, then -1. The caches hold them
            but for each row's last.
        """
        parameters = self._loaded.parameters
        with self._called("write", steps):
            self.held, written = self._compiled.write(parameters, self.held, rows, steps=steps)
        return np.asarray(written)
