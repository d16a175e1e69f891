"""What share of a batch is useful: packed rows, beside clips padded as transformers does.

    python benchmarks/packing_vs_padding.py

No audio is made; lengths are drawn from a mix of clips: 35 % as in LibriSpeech, 35 % as in Common
Voice, 15 % of ten seconds, 15 % of 20 to 30 s. The peer pads every clip to 30 s for the encoder and
every text to the longest of its batch, in the order drawn, as Qwen2-Audio's processor does.
"""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipelines.packing import WINDOW, RowShape
from data_pipelines.typical_mix import lengths_of, mix, packed_batches

PADDED_FRAMES = 3000
BATCH = 16


def packed(lengths: np.ndarray, valid: np.ndarray, shapes: list[RowShape]) -> tuple[float, float]:
    """Useful shares of tokens and frames over an epoch; margins count as padding."""
    used, room = np.zeros(2), np.zeros(2)
    for shape, records in packed_batches(lengths, shapes):
        used += lengths[records, 0].sum(), valid[records].sum()
        room += shape.rows * np.array([shape.tokens, shape.frames])
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
