"""Log-mel features, beside transformers' WhisperFeatureExtractor (its torch path).

    python benchmarks/log_mel_vs_transformers.py

Clips of 3 s (which transformers pads to 30 s, as the originals do) and of 30 s, one thread each, by
turns in one process. Prints audio-seconds per core-second: medians over the turns. The peer
takes its clips in batches of 8, where it is at its fastest.
"""

import argparse
import os

# Before numpy is loaded: core-seconds are of one core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import WhisperFeatureExtractor

from qwen_audio_jax.audio.lengths import mel_frames, packed_frames
from qwen_audio_jax.audio.log_mel import log_mel

SAMPLE_RATE = 16_000
BATCH = 8


def core_seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(seconds: int, mel_bins: int, turns: int) -> tuple[float, float, float]:
    """(ours, transformers', largest difference): audio-seconds per core-second."""
    random = np.random.default_rng(0)
    clips = [
        (0.1 * random.standard_normal(seconds * SAMPLE_RATE)).astype(np.float32)
        for _ in range(BATCH)
    ]
    frames = packed_frames(mel_frames(len(clips[0]), "floor"))
    extractor = WhisperFeatureExtractor(feature_size=mel_bins)

    def ours() -> list[np.ndarray]:
        return [log_mel(clip, mel_bins, frames) for clip in clips]

    def theirs() -> np.ndarray:
        return extractor(clips, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"]

    length = min(frames, 3000)
    difference = max(
        float(np.abs(one[:length] - other.T[:length]).max())
        for one, other in zip(ours(), theirs(), strict=True)
    )
    times = [(core_seconds(ours), core_seconds(theirs)) for _ in range(turns)]
    rates = seconds * BATCH / np.median(times, axis=0)
    return float(rates[0]), float(rates[1]), difference


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(
        "clip", "mel bins", "ours", "transformers", "ratio", "difference", title="audio-s/core-s"
    )
    for seconds in (3, 30):
        for mel_bins in (80, 128):
            ours, theirs, difference = compare(seconds, mel_bins, options.turns)
            table.add_row(
                f"{seconds} s",
                str(mel_bins),
                f"{ours:,.0f}",
                f"{theirs:,.0f}",
                f"{ours / theirs:.2f}",
                f"{difference:.1e}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
