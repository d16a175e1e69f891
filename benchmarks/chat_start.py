"""How long `chat` takes from its start to the first character of an answer to a clip.

    PYTHONPATH=. python benchmarks/chat_start.py --checkpoint=RUN

Each start is a process of its own that is given a clip of two seconds. The first finds no compiled
programs and keeps them; the others find them. CPU seconds are those of the whole process, to its
end: on a busy machine they say more than the clock.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table


def start(checkpoint: pathlib.Path, clip: pathlib.Path, cache: str) -> tuple[float, float]:
    """Seconds to the first character, and of CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "qwen_audio_jax.chat", f"--checkpoint={checkpoint}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"XDG_CACHE_HOME": cache},
    ) as process:
        process.stdin.write(f"/audio {clip}\n\n".encode())
        process.stdin.close()
        if not process.stdout.read(1):
            sys.exit(f"error: {checkpoint} does not answer; start chat with it by hand")
        first = time.perf_counter() - began
        process.stdout.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return first, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="as of chat")
    parser.add_argument("--starts", type=int, default=3, help="with programs kept (default: 3)")
    options = parser.parse_args()
    table = Table("start", "first character, s", "CPU, s", title="chat")
    with tempfile.TemporaryDirectory() as folder:
        clip = pathlib.Path(folder) / "clip.wav"
        noise = np.random.default_rng(0).standard_normal(32000).clip(-3, 3) / 10
        soundfile.write(clip, noise, 16000)
        for number in range(1 + options.starts):
            first, cpu = start(options.checkpoint, clip, folder)
            table.add_row("programs kept" if number else "new", f"{first:.1f}", f"{cpu:.1f}")
    Console(width=60).print(table)


if __name__ == "__main__":
    main()
