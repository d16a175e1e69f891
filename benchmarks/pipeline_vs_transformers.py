"""From FLAC bytes to batches, beside transformers' Qwen2-Audio processor.

    pip install -e '.[parity,synthetic]' && python benchmarks/pipeline_vs_transformers.py

Clips of spoken English of 3 to 5 s and of 30 s. Ours: read a record, decode, log-mel, render,
tokenise, pack into rows, planning included. Theirs: soundfile, then the processor (128 mel bins,
the same vocabulary and text) on batches of 8. One thread each, by turns in one process. Prints
audio-seconds per core-second of the fastest turn, and page faults per clip of the median one.
"""

import argparse
import os

# Before numpy is loaded: core-seconds are of one core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import io
import json
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable

import numpy as np
import soundfile
import tokenizers
import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from data_pipelines import build
from data_pipelines.examples import Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.pipeline import PackedBatches, make_plan, open_mixture
from data_pipelines.sources.synthetic.speech import speak
from qwen_audio_jax.conversion.fast_tokenizer import sentencepiece_to_fast
from qwen_audio_jax.text.tokenizer import MODEL_FILE, load_tokenizer

RATE = 16_000
SHAPE = RowShape(8, 1792, 6144)
BATCH = 8
TEXT = "the quick brown fox jumps over the lazy dog while seven wizards count black boxes"
PROMPT = "Detect the language and recognize the speech: "


def write_corpus(root: pathlib.Path, name: str, clips: int, seconds: tuple[float, float]) -> None:
    """Spoken clips as FLAC, and the corpus of them."""
    random = np.random.default_rng(0)
    folder = root / f"{name}-clips"
    folder.mkdir()
    rows = []
    for i in range(clips):
        spoken = speak(" ".join(random.permutation(TEXT.split())), "en", f"m{1 + i % 7}").samples
        length = int(random.uniform(*seconds) * RATE)
        soundfile.write(folder / f"{i}.flac", np.resize(spoken, length), RATE)
        rows.append({"audio": f"{i}.flac", "task": "asr", "text": TEXT, "language": "en"})
    manifest = folder / "train.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if build.main(["--source=manifest", f"--manifest={manifest}", f"--out={root / name}"]):
        raise SystemExit(1)


def cost(work: Callable[[], object]) -> tuple[float, int]:
    """Processor time and page faults of one call."""
    start, faults = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    spent = time.process_time() - start
    return spent, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults


def compare(root: pathlib.Path, name: str, turns: int) -> tuple[np.ndarray, np.ndarray]:
    """[ours, transformers']: audio-seconds per core-second, and page faults per clip."""
    tokenizer = load_tokenizer(root / name / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "prompts", 128, "ceil")

    def ours() -> None:
        corpora = open_mixture(root, {name: 1.0})
        plan = make_plan(corpora, {name: 1.0}, preprocessor, [SHAPE], 0)
        source = PackedBatches(corpora, preprocessor, plan, {SHAPE: slice(0, SHAPE.rows)})
        for number in range(len(plan.window(0).batches)):
            source[number]

    fast = sentencepiece_to_fast((root / name / "tokenizer" / MODEL_FILE).read_bytes())
    processor = Qwen2AudioProcessor(
        WhisperFeatureExtractor(feature_size=128),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(fast), pad_token="<|endoftext|>"
        ),
    )
    text = f"<|audio_bos|><|AUDIO|><|audio_eos|>{PROMPT}<|en|>{TEXT}<|endoftext|>"
    corpus = open_mixture(root, {name: 1.0})[name]
    index = corpus.index("train")
    clips = [corpus.record("train", i).audio[0] for i in range(len(index))]
    seconds = sum(sum(row.samples) for row in index) / RATE

    def theirs() -> None:
        for first in range(0, len(clips), BATCH):
            part = clips[first : first + BATCH]
            waves = [soundfile.read(io.BytesIO(clip), dtype="float32")[0] for clip in part]
            processor(
                text=[text] * len(part),
                audio=waves,
                sampling_rate=RATE,
                return_tensors="np",
                padding=True,
            )

    ours(), theirs()
    costs = np.array([(cost(ours), cost(theirs)) for _ in range(turns)])
    # Other work on the machine only ever adds to a time.
    rates = seconds / costs[:, :, 0].min(axis=0)
    return rates, np.median(costs[:, :, 1], axis=0) / len(clips)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("clips", "ours", "transformers", "ratio", "our faults a clip", "transformers'")
    table = Table(*columns, title="audio-s/core-s")
    kinds = {"3 to 5 s": (256, (3, 5)), "30 s": (64, (30, 30))}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, (clips, seconds) in kinds.items():
            write_corpus(root, name, clips, seconds)
            (ours, theirs), faults = compare(root, name, options.turns)
            cells = f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.1f}"
            table.add_row(name, *cells, *(f"{one:,.0f}" for one in faults))
    Console().print(table)


if __name__ == "__main__":
    main()
