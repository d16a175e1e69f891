"""What it takes to build segments of one long recording, which is decoded once for all of them.

    python benchmarks/segments.py --segments=1000 --minutes=30

Writes a FLAC file of noise at 16 kHz and a manifest of neighbouring segments in a temporary folder,
and builds it with one worker and with two: decodes of the recording, CPU seconds of all processes,
and the same for a recording that is decoded anew for each segment (of which --anew are timed).
"""

import argparse
import json
import pathlib
import resource
import tempfile

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from data_pipelines import build
from data_pipelines.sources import recordings, rows

RATE = 16000


def cpu_seconds() -> float:
    """Of this process and those that it started and that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def write_manifest(folder: pathlib.Path, segments: int, minutes: float) -> pathlib.Path:
    """A recording and its segments, one after another."""
    random, seconds = np.random.default_rng(0), 60 * minutes
    wave = np.cumsum(random.normal(0, 300, int(seconds * RATE))) % 16000 - 8000
    soundfile.write(folder / "long.flac", wave.astype(np.int16), RATE)
    path = folder / "segments.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(segments):
            row = {"audio": "long.flac", "task": "asr", "text": f"number {number}"}
            part = {"offset": number * seconds / segments, "duration": seconds / segments}
            file.write(json.dumps(row | {"language": "en"} | part) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--anew", type=int, default=10, help="segments with a decode each")
    given = parser.parse_args()
    table = Table("", "segments", "decodes", "CPU s", "CPU ms per segment")

    def show(what: str, number: int, decodes: object, seconds: float) -> None:
        each = f"{1000 * seconds / number:.1f}"
        table.add_row(what, f"{number:,}", str(decodes), f"{seconds:.1f}", each)

    with tempfile.TemporaryDirectory() as folder:
        path = write_manifest(pathlib.Path(folder), given.segments, given.minutes)
        work = build.manifest_work(path, "train")
        decoded = []
        read_samples = recordings.read_samples
        recordings.read_samples = lambda data: decoded.append(data) or read_samples(data)
        for workers in (1, 2):
            start = cpu_seconds()
            build.build_corpus(pathlib.Path(folder) / f"out{workers}", work, workers=workers)
            decodes = len(decoded) if workers == 1 else f"at most {workers}"
            show(f"built, --workers={workers}", given.segments, decodes, cpu_seconds() - start)
        start = cpu_seconds()
        for row in work["train"].jobs[: given.anew]:
            recordings._RECORDINGS = recordings.Recordings()
            rows.make(row)
        show("decoded anew, no shard written", given.anew, given.anew, cpu_seconds() - start)
    Console().print(table)


if __name__ == "__main__":
    main()
