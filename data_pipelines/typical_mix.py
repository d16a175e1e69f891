"""Lengths of clips and texts as pre-training corpora have them, where no corpus is at hand."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines.packing import WINDOW, PackPlan, RowShape
from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames, packed_frames
from qwen_audio_jax.audio.silence import seen_frames

PROMPT = 12
"""Text tokens that come before an answer, or around the audio."""


def mix(records: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and text tokens (prompt, answer, tokens around the audio) of each record.

    35 % are as long as LibriSpeech's, 35 % as Common Voice's, 15 % last ten seconds, 15 % from 20
    to 30 s; 11.6 s on average.
    """
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
    # Spoken words make three to four tokens per second, labels and captions ten or twenty at all.
    spoken = seconds * random.uniform(2.8, 4.2, records)
    text = np.where(kind == 2, random.integers(8, 24, records), spoken)
    return seconds, PROMPT + np.ceil(text).astype(int)


def lengths_of(
    seconds: np.ndarray, text: np.ndarray, silence: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Valid frames [n], and tokens and packed frames [n, 2], frames of silence behind clips."""
    valid = [mel_frames(int(s * 16000), "ceil") for s in seconds]
    tokens = [audio_tokens(n) + 2 + t for n, t in zip(valid, text.tolist(), strict=True)]
    packed = [packed_frames(seen_frames(n, silence)) for n in valid]
    return np.array(valid), np.array([tokens, packed]).T


def packed_batches(
    lengths: np.ndarray, shapes: Sequence[RowShape]
) -> Iterator[tuple[RowShape, list[int]]]:
    """The batches of an epoch, whole windows only: their shape and their records' numbers."""
    plan = PackPlan({"mix": lengths}, {"mix": 1.0}, shapes, seed=0)
    for window in range(len(lengths) // WINDOW):
        for batch in plan.window(window).batches:
            yield batch.shape, [record for _, record in itertools.chain(*batch.rows)]
