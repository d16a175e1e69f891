"""What decoding a clip costs: this project beside libsndfile with soxr, and FFmpeg with soxr.

    python benchmarks/decode_vs_libraries.py --clips=100

Prints, for each kind of file and length, milliseconds of processor time a clip (the least of five
runs) and minor page faults a clip (of the last run). Each figure comes from a process of its own
that decodes one clip after another, as training does. To compare two versions, run it in the
checkout of each.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import time

import av
import numpy as np
import soundfile
import soxr
from audio_seeds import by_libsndfile
from rich.console import Console
from rich.table import Table

from qwen_audio_jax.audio.decode import decode

KINDS = {
    "WAV": dict(format="WAV", subtype="PCM_16"),
    "FLAC": dict(format="FLAC", subtype="PCM_16"),
    "MP3": dict(format="MP3", subtype="MPEG_LAYER_III"),
    "Ogg Vorbis": dict(format="OGG", subtype="VORBIS"),
    "Ogg Opus": dict(format="OGG", subtype="OPUS"),
}


def by_soundfile(data: bytes) -> np.ndarray:
    wave, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return soxr.resample(wave, rate, 16000, quality="HQ") if rate != 16000 else wave


def by_ffmpeg(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate, kind = container.streams.audio[0].rate, frames[0].dtype
    wave = np.concatenate(frames, axis=1)[0].astype(np.float32)
    if kind == np.int16:
        wave /= 32768
    return soxr.resample(wave, rate, 16000, quality="HQ") if rate != 16000 else wave


DECODERS = {"ours": decode, "libsndfile": by_soundfile, "FFmpeg": by_ffmpeg}


def clip(seconds: float, rate: int, kind: str) -> bytes:
    """Harmonics in syllables over a little noise, mono."""
    time_axis = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time_axis) for f in (120, 240, 360, 700, 1200, 2400)) / 12
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time_axis))
    wave = tones * (1 + np.sin(6 * np.pi * time_axis)) / 2 + noise
    return by_libsndfile(wave.astype(np.float32), rate, **KINDS[kind])


def measure(name: str, data: bytes, clips: int) -> tuple[float, float]:
    """Milliseconds and page faults a clip."""
    best = float("inf")
    for _ in range(5):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.process_time()
        for _ in range(clips):
            DECODERS[name](data)
        best = min(best, time.process_time() - start)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return 1000 * best / clips, faults / clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=50, help="decoded one after another in a run")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, kind, seconds, rate = options.one
        clips = max(2, int(options.clips * 4 / float(seconds)))
        print(json.dumps(measure(name, clip(float(seconds), int(rate), kind), clips)))
        return
    table = Table("file", *(f"{name}, {what}" for name in DECODERS for what in ("ms", "faults")))
    for seconds in (4, 30):
        for rate in (16000, 44100):
            for kind in KINDS:
                if kind == "Ogg Opus" and rate == 44100:
                    continue
                cells = []
                for name in DECODERS:
                    command = [sys.executable, __file__, f"--clips={options.clips}", "--one"]
                    command += [name, kind, str(seconds), str(rate)]
                    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                    milliseconds, faults = json.loads(run.stdout)
                    cells += [f"{milliseconds:.2f}", f"{faults:,.0f}"]
                table.add_row(f"{kind}, {seconds} s at {rate} Hz", *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
