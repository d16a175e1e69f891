"""What share of a batch is useful: packed rows, beside clips padded as transformers does.

    python benchmarks/packing_vs_padding.py

No audio is made; lengths are drawn from a mix of clips: 35 % as in LibriSpeech, 35 % as in Common
Voice, 15 % of ten seconds, 15 % of 20 to 30 s. The peer pads every clip to 30 s for the encoder and
every text to the longest of its batch, in the order drawn, as Qwen2-Audio's processor does.
"""

import argparse
import itertools

import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipelines.packing import WINDOW, PackPlan, RowShape
from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames, packed_frames

PADDED_FRAMES = 3000
BATCH = 16


def mix(records: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and text tokens (prompt, answer, tokens around the audio) of each record."""
    random = np.random.default_rng(seed)
    kind = random.choice(4, records, p=[0.35, 0.35, 0.15, 0.15])
    seconds = np.select(
        [kind == 0, kind == 1, kind == 2],
        [
            np.clip(random.gamma(7, 1.95, records), 1.5, 17),  # mean 12.3, as train-960
            np.clip(random.lognormal(1.6, 0.35, records), 1.2, 12),  # mean 5.2
            np.full(records, 10.0),
        ],
        random.uniform(20, 30, records),
    )
    # Spoken words make three to four tokens a second, labels and captions ten or twenty at all.
    spoken = seconds * random.uniform(2.8, 4.2, records)
    text = np.where(kind == 2, random.integers(8, 24, records), spoken)
    return seconds, 12 + np.ceil(text).astype(int)


def lengths_of(seconds: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Valid frames [n], and tokens and packed frames [n, 2]."""
    valid = [mel_frames(int(s * 16000), "ceil") for s in seconds]
    tokens = [audio_tokens(n) + 2 + t for n, t in zip(valid, text.tolist(), strict=True)]
    return np.array(valid), np.array([tokens, [packed_frames(n) for n in valid]]).T


def packed(lengths: np.ndarray, valid: np.ndarray, shapes: list[RowShape]) -> tuple[float, float]:
    """Useful shares of tokens and frames over an epoch; margins count as padding."""
    plan = PackPlan({"mix": lengths}, {"mix": 1.0}, shapes, seed=0)
    used, room = np.zeros(2), np.zeros(2)
    for window in range(len(lengths) // WINDOW):
        for batch in plan.window(window).batches:
            records = [record for _, record in itertools.chain(*batch.rows)]
            used += lengths[records, 0].sum(), valid[records].sum()
            room += batch.shape.rows * np.array([batch.shape.tokens, batch.shape.frames])
    tokens, frames = used / room
    return tokens, frames


def padded(lengths: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """The same of batches of 16, padded."""
    whole = lengths[: len(lengths) // BATCH * BATCH, 0].reshape(-1, BATCH)
    tokens = whole.sum() / (whole.max(axis=1) * BATCH).sum()
    return tokens, valid.sum() / (PADDED_FRAMES * len(valid))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=4 * WINDOW)
    options = parser.parse_args()
    seconds, text = mix(options.records)
    valid, lengths = lengths_of(seconds, text)
    table = Table("rows", "useful tokens", "useful frames")
    for row in ([RowShape(8, 1792, 6016)], [RowShape(8, 1792, 6144)], [RowShape(16, 912, 3072)]):
        (shape,) = row
        tokens, frames = packed(lengths, valid, row)
        table.add_row(f"{shape.tokens} x {shape.frames}", f"{tokens:.1%}", f"{frames:.1%}")
    tokens, frames = padded(lengths, valid)
    table.add_row("padded as transformers does", f"{tokens:.1%}", f"{frames:.1%}")
    Console().print(table)
    print(f"{options.records:,} clips of {seconds.mean():.1f} s on average, windows of {WINDOW:,}")


if __name__ == "__main__":
    main()
