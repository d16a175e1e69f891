"""What an encoder of Whisper's makes of clips with and without the silence behind them.

    python benchmarks/whisper_window.py --whisper=whisper-base --corpus=data/mine

Takes recorded clips of a built corpus, evenly over its split, and encodes them under each window.
Prints a table: the cosine between each output and that of the whole window, which is Whisper's own,
before pooling (50 per second) and after it (25), on average, in the lowest twentieth and at least;
and what it costs: frames that the encoder takes for a second of sound, FLOPs against "clip", and
seconds of sound encoded in a second of processor time, packed into rows as training packs them.
"""

import argparse
import os

# Before numpy and JAX are loaded: the figures are of one core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NPROC": "1"}
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import dataclasses
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from data_pipelines.examples import Example, empty_batch, fill_row
from data_pipelines.packing import best_fit
from data_pipelines.records import Corpus
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import (
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    encoder_positions,
    mel_frames,
    packed_frames,
)
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.audio.silence import CLIP, WINDOW, seen_frames, silence_frames
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.audio_encoder import AudioEncoder
from qwen_audio_jax.models.presets import Compute, EncoderConfig, model_config, preset_parts
from qwen_audio_jax.monitoring import flops
from qwen_audio_jax.rendering import Tokens

ENCODER = ("conv1", "conv2", "encoder_linears", "encoder_attention")
NO_TEXT = Tokens(np.zeros(1, np.int32), np.zeros(1, np.float32), np.full(1, -1, np.int32))


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Clips under one window.

    Attributes:
        halves, tokens: of each clip, outputs at 50 per second [T, D] and at 25 [N, D].
        frames: taken in rows, padding not counted.
        seconds: of processor time.
    """

    halves: list[np.ndarray]
    tokens: list[np.ndarray]
    frames: int
    seconds: float


def clips_of(corpus: pathlib.Path, split: str, number: int) -> list[np.ndarray]:
    """Waveforms of up to 30 s of records with one clip, evenly over the split."""
    opened = Corpus(corpus)
    index = opened.index(split)
    fitting = [i for i in range(len(index)) if _one_window(index[i].samples)]
    if not fitting:
        raise SystemExit(f"error: {corpus}: split {split!r} has no record of one clip up to 30 s")
    chosen = np.unique(np.linspace(0, len(fitting) - 1, number).round().astype(int))
    return [decode(opened.record(split, fitting[i]).audio[0]) for i in chosen]


def _one_window(samples: tuple[int, ...]) -> bool:
    return len(samples) == 1 and samples[0] <= WINDOW_SAMPLES


def encode(config: EncoderConfig, parameters: dict, waves: list[np.ndarray]) -> Encoded:
    """Clips in as few rows as hold them, each row as long as the longest clip takes."""
    silence = silence_frames(config.window)
    valid = [mel_frames(len(wave), "ceil") for wave in waves]
    taken = [packed_frames(seen_frames(n, silence)) for n in valid]
    F = max(taken)
    rows = best_fit(np.array([[1, n] for n in taken]), (len(taken), F))
    graph, state = nnx.split(nnx.eval_shape(lambda: AudioEncoder(config, Compute(), nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, parameters)

    @functools.partial(jax.jit, static_argnums=0)
    def compiled(graph, state, *inputs):
        encoder, kept = nnx.merge(graph, state), []
        before = encoder.before_pooling
        encoder.before_pooling = lambda *given: kept.append(before(*given)) or kept[0]
        pooled = encoder(*inputs)
        return encoder.norm(kept[0]), pooled

    halves, tokens, seconds = {}, {}, 0.0
    for number, row in enumerate(rows):
        batch = empty_batch(1, len(row), F, config.mel_bins)
        mels = (log_mel(waves[i], config.mel_bins, taken[i]) for i in row)
        examples = [
            Example(NO_TEXT, (mel,), (valid[i],), silence) for i, mel in zip(row, mels, strict=True)
        ]
        fill_row(batch, 0, examples)
        inputs = [jnp.asarray(batch[f"mel{name}"]) for name in ("", "_positions", "_segments")]
        if number == 0:
            jax.block_until_ready(compiled(graph, state, *inputs))
        start = time.process_time()
        outputs = jax.block_until_ready(compiled(graph, state, *inputs))
        seconds += time.process_time() - start
        at_50, at_25 = (np.asarray(x)[0] for x in outputs)
        first = 0
        for i in row:
            positions = encoder_positions(valid[i])
            halves[i] = at_50[first // 2 :][:positions]
            tokens[i] = at_25[first // 4 :][: positions // 2]
            first += taken[i]
    order = range(len(waves))
    return Encoded([halves[i] for i in order], [tokens[i] for i in order], sum(taken), seconds)


def cosines(ours: list[np.ndarray], whispers: list[np.ndarray]) -> np.ndarray:
    """Between outputs at the same place of the same clip."""
    a, b = np.concatenate(ours), np.concatenate(whispers)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def work(config: EncoderConfig, waves: list[np.ndarray]) -> float:
    """FLOPs of the encoder on these clips."""
    valid = [mel_frames(len(wave), "ceil") for wave in waves]
    of = flops.counts(valid, [1], 0, silence_frames(config.window))
    _, decoder = preset_parts("tiny", "qwen2_audio", vocab_size=1)
    model = model_config("qwen2_audio", config, decoder, audio_begin=0, audio_end=0)
    return sum(n for part, n in flops.forward(model, of).items() if part in ENCODER)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--whisper", type=pathlib.Path, required=True, help="PyTorch folder")
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="a built corpus")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--windows", default=f"{CLIP} clip+0.5s clip+1s clip+3s {WINDOW}")
    given = parser.parse_args()
    parts, parameters = load_original(given.whisper)
    parameters = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), parameters["encoder"])
    waves = clips_of(given.corpus, given.split, given.clips)
    sound = sum(map(len, waves)) / SAMPLE_RATE

    def under(window: str) -> tuple[EncoderConfig, Encoded]:
        config = dataclasses.replace(parts.encoder, window=window)
        return config, encode(config, parameters, waves)

    _, whispers = under(WINDOW)
    least = work(dataclasses.replace(parts.encoder, window=CLIP), waves)
    lengths = sorted(len(wave) / SAMPLE_RATE for wave in waves)
    table = Table(title=f"{len(waves)} clips of {lengths[0]:.1f} to {lengths[-1]:.1f} s")
    for name in ("window", "cosine at 50/s: mean, 5 %, least", "at 25/s"):
        table.add_column(name)
    for name in ("frames a second", "FLOPs", "seconds of sound a core-second"):
        table.add_column(name, justify="right")
    for window in given.windows.split():
        config, encoded = under(window)
        likeness = (
            cosines(encoded.halves, whispers.halves),
            cosines(encoded.tokens, whispers.tokens),
        )
        table.add_row(
            window,
            *(f"{x.mean():.3f} {np.quantile(x, 0.05):.3f} {x.min():.3f}" for x in likeness),
            f"{encoded.frames / sound:,.0f}",
            f"{work(config, waves) / least:.1f}",
            f"{sound / encoded.seconds:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
