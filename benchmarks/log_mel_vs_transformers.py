"""Log-mel features, beside transformers' WhisperFeatureExtractor and asrfront.

    pip install -e '.[parity]' && python benchmarks/log_mel_vs_transformers.py

Clips of 3 s and of 30 s, one at a time, each result dropped before the next. Each measurement is a
fresh process of one thread, as a training run's reader is one: memory that is asked for anew costs
most there. Prints audio-seconds per core-second of the fastest process, its page faults per clip,
and the largest difference from the same features in float64. All give the originals' window of
30 s, of which ours computes what the clip reaches; "asrfront, as it is" pads nothing, so its last
frames are others.
"""

import argparse
import os

# Before numpy is loaded: core-seconds are of one core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import concurrent.futures
import dataclasses
import importlib.metadata
import multiprocessing
import resource
import time
from collections.abc import Callable

import librosa
import numpy as np
from rich.console import Console
from rich.table import Table

RATE = 16_000
CLIPS = 8
"""Different clips, taken by turns."""

Extractor = Callable[[np.ndarray], np.ndarray]


def ours(mel_bins: int, samples: int) -> Extractor:
    """[samples] -> [F, M], with the two margin frames that the model looks at."""
    from qwen_audio_jax.audio.lengths import mel_frames, packed_frames
    from qwen_audio_jax.audio.log_mel import log_mel

    frames = packed_frames(mel_frames(samples, "floor"))
    return lambda clip: log_mel(clip, mel_bins, frames)


def asrfront(mel_bins: int, samples: int) -> Extractor:
    """[samples] -> [M, 3000]."""
    from asrfront import whisper

    return lambda clip: whisper.log_mel(clip, mel_bins)


def asrfront_as_it_is(mel_bins: int, samples: int) -> Extractor:
    """[samples] -> [M, samples // 160]."""
    from asrfront import whisper

    return lambda clip: whisper.log_mel(clip, mel_bins, pad_or_trim=False)


def transformers(mel_bins: int, samples: int) -> Extractor:
    """[samples] -> [M, 3000]."""
    import torch
    from transformers import WhisperFeatureExtractor

    torch.set_num_threads(1)
    extractor = WhisperFeatureExtractor(feature_size=mel_bins)
    options = {"sampling_rate": RATE, "return_tensors": "np"}
    return lambda clip: extractor(clip, **options)["input_features"][0]


EXTRACTORS = {
    "ours": ours,
    "asrfront": asrfront,
    "asrfront, as it is": asrfront_as_it_is,
    "transformers": transformers,
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of one process: processor time and page faults per clip, and the features of one clip."""

    seconds: float
    faults: float
    features: np.ndarray


def clips(seconds: int) -> list[np.ndarray]:
    """Noise, float32."""
    random = np.random.default_rng(0)
    shape = (CLIPS, seconds * RATE)
    return list((0.1 * random.standard_normal(shape)).astype(np.float32))


def measure(who: str, seconds: int, mel_bins: int, audio_seconds: int) -> Measured:
    """Runs in a process of its own, whose first clip is not counted."""
    waves = clips(seconds)
    extract = EXTRACTORS[who](mel_bins, len(waves[0]))
    features = extract(waves[0])
    if who != "ours":
        features = features.T
    count = max(audio_seconds // seconds, 1)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    start = time.process_time()
    for i in range(count):
        extract(waves[i % CLIPS])
    spent = time.process_time() - start
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return Measured(spent / count, faults / count, features[: seconds * 100])


def truth(waveform: np.ndarray, mel_bins: int) -> np.ndarray:
    """float64 [F, M] of the clip's own frames, plainly."""
    padded = np.zeros(30 * RATE)
    padded[: len(waveform)] = waveform
    spectrum = librosa.stft(padded, n_fft=400, hop_length=160, pad_mode="reflect")
    bank = librosa.filters.mel(sr=RATE, n_fft=400, n_mels=mel_bins, dtype=np.float64)
    mel = np.log10(np.maximum(bank @ np.abs(spectrum[:, :-1]) ** 2, 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4).T[: len(waveform) // 160]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5, help="processes for each figure")
    parser.add_argument("--audio-seconds", type=int, default=600, help="to go through in each")
    options = parser.parse_args()
    versions = ", ".join(
        f"{n} {importlib.metadata.version(n)}" for n in ("asrfront", "transformers")
    )
    table = Table(
        *("clip", "mel bins", "", "audio-s/core-s", "ours is", "faults", "off by"),
        title=f"Log-mel, clip by clip ({versions})",
    )
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as fresh:
        for seconds in (3, 30):
            for mel_bins in (80, 128):
                turns: dict[str, list[Measured]] = {who: [] for who in EXTRACTORS}
                for _ in range(options.turns):
                    for who, done in turns.items():
                        task = (measure, who, seconds, mel_bins, options.audio_seconds)
                        done.append(fresh.submit(*task).result())
                expected = truth(clips(seconds)[0], mel_bins)
                # Other work on the machine only ever adds to a time.
                best = {who: min(done, key=lambda one: one.seconds) for who, done in turns.items()}
                for who, one in best.items():
                    table.add_row(
                        f"{seconds} s",
                        str(mel_bins),
                        who,
                        f"{seconds / one.seconds:,.0f}",
                        f"{one.seconds / best['ours'].seconds:.2f} x",
                        f"{one.faults:,.0f}",
                        f"{np.abs(one.features - expected).max():.0e}",
                    )
                table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
