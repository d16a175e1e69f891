"""What share of a batch is useful in tuning: conversations packed, beside clips padded to 30 s.

    python benchmarks/packing_talks.py

No audio is made, nor read: lengths are drawn. A conversation has one to five turns and none to
four clips, as long as in `packing_vs_padding.py`; a turn's question has 4 to 40 tokens of text and
its answer 4 to 80, beside what ChatML writes around them. The peer pads every clip to 30 s for the
encoder and every text to the longest of its batch, as Qwen2-Audio's processor does.
"""

import argparse

import numpy as np
from packing_vs_padding import BATCH, PADDED_FRAMES, packed
from rich.console import Console
from rich.table import Table

from data_pipelines.packing import WINDOW, RowShape
from data_pipelines.typical_mix import lengths_of, mix

MOST_CLIPS, MOST_TURNS = 4, 5
SYSTEM, TURN, CLIP = 11, 12, 7
"""Tokens that ChatML takes for the system message, around a turn, around a clip."""

ROWS = ([RowShape(4, 4416, 12288)], [RowShape(4, 5600, 15360)], [RowShape(4, 8960, 24576)])


def talks(number: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens and packed frames [n, 2], valid frames [n], and clips [n] of conversations."""
    random = np.random.default_rng(seed)
    clips = random.integers(0, MOST_CLIPS + 1, number)
    turns = random.integers(1, MOST_TURNS + 1, number)
    seconds, _ = mix(int(clips.sum()))
    valid, lengths = lengths_of(seconds, np.full(len(seconds), CLIP - 2))
    owner = np.repeat(np.arange(number), clips)
    tokens = SYSTEM + np.bincount(owner, lengths[:, 0], number)
    for turn in range(MOST_TURNS):
        text = TURN + random.integers(4, 41, number) + random.integers(4, 81, number)
        tokens += np.where(turn < turns, text, 0)
    frames = np.bincount(owner, lengths[:, 1], number)
    return (
        np.stack([tokens, frames], axis=1).astype(np.int64),
        np.bincount(owner, valid, number).astype(np.int64),
        clips,
    )


def padded(lengths: np.ndarray, valid: np.ndarray, clips: np.ndarray) -> tuple[float, float]:
    """Useful shares of tokens and frames of batches of 16, padded."""
    whole = lengths[: len(lengths) // BATCH * BATCH, 0].reshape(-1, BATCH)
    tokens = whole.sum() / (whole.max(axis=1) * BATCH).sum()
    return tokens, valid.sum() / (PADDED_FRAMES * clips.sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=2 * WINDOW)
    options = parser.parse_args()
    lengths, valid, clips = talks(options.records)
    table = Table("rows", "useful tokens", "useful frames")
    for row in ROWS:
        tokens, frames = packed(lengths, valid, row)
        table.add_row(f"{row[0].tokens} x {row[0].frames}", f"{tokens:.1%}", f"{frames:.1%}")
    tokens, frames = padded(lengths, valid, clips)
    table.add_row("padded as transformers does", f"{tokens:.1%}", f"{frames:.1%}")
    Console().print(table)
    mean = lengths.mean(axis=0)
    print(
        f"{options.records:,} conversations of {clips.mean():.1f} clips, {mean[0]:,.0f} tokens and "
        f"{mean[1]:,.0f} frames on average"
    )


if __name__ == "__main__":
    main()
