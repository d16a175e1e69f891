"""How fast batches are planned, and how soon training starts on an index of a million records.

    pip install -e '.[synthetic]' && python benchmarks/planning.py --records=1000000

Builds a corpus of tiny clips (a thousand different ones, over and over, about a gigabyte) in a
temporary folder, or in --keep=DIR. Prints the records that one core plans in a second, reading
index rows, rendering, counting tokens and packing; then trains one step of the tiny preset in a
process of its own, and prints the seconds from its start to that step and its peak memory.
"""

import argparse
import dataclasses
import os

# Before numpy is loaded: core-seconds are of one core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import json
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipelines import build
from data_pipelines.examples import Preprocessor
from data_pipelines.packing import WINDOW, RowShape
from data_pipelines.pipeline import make_plan, open_mixture
from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from data_pipelines.sources.synthetic.clips import flac
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.text.tokenizer import load_tokenizer

DIFFERENT = 1000
SAMPLES = 800
SHAPE = RowShape(4, 448, 352)
ROOT = pathlib.Path(__file__).parents[1]


def write_corpus(folder: pathlib.Path, records: int) -> None:
    """Records of the built-in corpus with all but the first 50 ms of their clips cut off."""
    seeds = folder.with_name("seeds")
    build.build_corpus(seeds, build.synthetic_work(DIFFERENT, 0))
    made = [shortened(Corpus(seeds).record("train", i)) for i in range(DIFFERENT)]
    folder.mkdir()
    numbers = tqdm(range(records), "writing", unit=" records", disable=None)
    copies = (dataclasses.replace(made[i % DIFFERENT], id=f"tiny-{i:08d}") for i in numbers)
    write_split(folder, "train", ((r, (SAMPLES,) * len(r.audio)) for r in copies))
    shutil.copytree(seeds / "tokenizer", folder / "tokenizer")


def shortened(record: Record) -> Record:
    """The record with 50 ms of each clip."""
    clips = tuple(flac(decode(clip)[:SAMPLES]) for clip in record.audio)
    return dataclasses.replace(record, audio=clips)


def records_per_core_second(corpus: pathlib.Path, windows: int) -> float:
    """Records planned in a second of processor time, everything from the index on."""
    corpora = open_mixture(corpus.parent, {corpus.name: 1.0})
    tokenizer = load_tokenizer(corpus / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 128, "ceil")
    plan = make_plan(corpora, {corpus.name: 1.0}, preprocessor, [SHAPE], 0)
    start = time.process_time()
    for window in range(1, 1 + windows):
        plan.window(window)
    return windows * WINDOW / (time.process_time() - start)


def first_step(corpus: pathlib.Path, workdir: pathlib.Path) -> tuple[float, float]:
    """Seconds from the start of `main` to its first step, and the peak memory in GB."""
    options = {
        "data.root": str(corpus.parent),
        "data.mixture": json.dumps({corpus.name: 1.0}),
        "data.shapes": f"(({SHAPE.rows},{SHAPE.tokens},{SHAPE.frames}),)",
        "train.steps": "1",
        "evaluate.every": "0",
    }
    command = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/pretrain.py"]
    flags = [f"--config.{key}={value}" for key, value in options.items()]
    start = time.perf_counter()
    process = subprocess.Popen([*command, f"--workdir={workdir}", *flags], cwd=ROOT)
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    if process.wait():
        raise SystemExit("training failed")
    # Of the largest child, which is this one: kilobytes on Linux.
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--windows", type=int, default=5, help="planned to take the time")
    parser.add_argument("--keep", type=pathlib.Path, help="folder of the corpus, kept or found")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or pathlib.Path(temporary)
        corpus = root.absolute() / "tiny"
        if not corpus.exists():
            root.mkdir(parents=True, exist_ok=True)
            write_corpus(corpus, options.records)
        rate = records_per_core_second(corpus, options.windows)
        seconds, memory = first_step(corpus, pathlib.Path(temporary) / "run")
    table = Table(f"{len(Corpus(corpus).index('train')):,} records" if options.keep else "", "")
    table.add_row("records planned per core-second", f"{rate:,.0f}")
    table.add_row("from start to the first step", f"{seconds:.1f} s")
    table.add_row("peak memory", f"{memory:.2f} GB")
    Console().print(table)


if __name__ == "__main__":
    main()
