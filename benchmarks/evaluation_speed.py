"""Many prompts answered: the engine beside batches of `generate` and of transformers.

    PYTHONPATH=. python benchmarks/evaluation_speed.py --prompts=256

A model of a size of `generation_vs_transformers.py`, random weights, float32 on the CPU. Clips are
of 1 to 30 s, log-uniform, and answers of 2 to 128 tokens, of which each prompt's is known
beforehand. All peers have the prompts sorted by length. Batches write as long as their longest
answer; of several sizes the best counts. Compilation is not counted. RTFx: seconds of audio in a
second.
"""

import argparse
import functools
import os
from collections.abc import Sequence

import conversation_speed as talks
import generation_vs_transformers as peers
import jax
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from data_pipelines.examples import empty_batch, fill_row
from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE
from qwen_audio_jax.evaluation.engine_answers import READ
from qwen_audio_jax.inference.engine import Engine, EngineConfig, Request
from qwen_audio_jax.inference.generate import generate

LENGTHS = (256, 512, 1024)


def requests(number: int) -> list[Request]:
    """Prompts by length."""
    random, found = np.random.default_rng(0), []
    for _ in range(number):
        frames = int(100 * 30 ** random.uniform())
        placeholders, mel = talks.heard(random, frames)
        tokens = np.concatenate([talks.words(random, 4), placeholders, talks.words(random, 28)])
        new = int(random.integers(2, 129))
        found.append(Request(talks.example(tokens, [mel]), talks.STOP, new))
    return sorted(found, key=lambda one: len(one.example.text.tokens))


def by_engine(engine: Engine, some: Sequence[Request]) -> None:
    for answer in [engine.submit(request) for request in some]:
        answer.wait()


def _round_up(length: int, least: int) -> int:
    while least < length:
        least *= 2
    return least


class Batches:
    """Batches of `generate`: few shapes, each as long as its longest answer.

    Attributes:
        used, given: tokens of prompts, and places for them in the batches.
        shapes: that were compiled.
    """

    def __init__(self, graph, parameters, rows: int):
        self._graph, self._parameters, self._rows = graph, parameters, rows
        self.used = self.given = 0
        self.shapes: set[tuple[int, int]] = set()

    def __call__(self, some: Sequence[Request]) -> None:
        for first in range(0, len(some), self._rows):
            group = some[first : first + self._rows]
            examples = [request.example for request in group]
            tokens = _round_up(max(len(one.text.tokens) for one in examples), 64)
            frames = _round_up(max(len(clip) for one in examples for clip in one.clips), 256)
            batch = empty_batch(self._rows, tokens, frames, peers.MEL_BINS)
            for row, one in enumerate(examples):
                fill_row(batch, row, [one])
            longest = max(request.max_new_tokens for request in group)
            np.asarray(self._write(self._parameters, batch, _round_up(longest, 16)))
            self.used += sum(len(one.text.tokens) for one in examples)
            self.given += self._rows * tokens
            self.shapes.add((tokens, frames))

    @functools.cached_property
    def _write(self):
        return jax.jit(
            lambda parameters, batch, new: generate(
                self._graph, parameters, batch, stop=talks.STOP, max_new_tokens=new
            ),
            static_argnums=2,
        )


def by_transformers(original, some: Sequence[Request], rows: int) -> None:
    for first in range(0, len(some), rows):
        group = some[first : first + rows]
        given = talks.theirs([request.example for request in group])
        longest = max(request.max_new_tokens for request in group)
        original.generate(**given, max_new_tokens=longest, do_sample=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=64, help="default: 64")
    parser.add_argument("--slots", type=int, default=8, help="of the engine (default: 8)")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16], help="default: 8 16")
    parser.add_argument("--size", choices=peers.SIZES, default="30m", help="default: 30m")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    original = peers.peer(options.size)
    graph, state = peers.ours_of(original)
    some = requests(options.prompts)
    tokens = sum(request.max_new_tokens for request in some)
    heard = sum(n for one in some for n in one.example.clip_frames) * HOP / SAMPLE_RATE
    # As evaluation has it.
    config = EngineConfig(options.slots, LENGTHS, waiting=len(some), read=READ, greedy=True)
    engine = Engine(talks.loaded_of(graph, state), config)
    for compile_program in engine.warm_ups():
        compile_program()
    ours = talks.seconds(lambda: by_engine(engine, some))
    engine.close()
    print(f"engine: {ours:.0f} s", flush=True)
    found = [(f"engine, {options.slots} slots", ours, "no padding")]
    for rows in options.rows:
        batches = Batches(graph, state, rows)
        batches(some)  # compiles
        batches.used = batches.given = 0
        took = talks.seconds(lambda b=batches: b(some))
        padding = f"{1 - batches.used / batches.given:.0%} padding, {len(batches.shapes)} shapes"
        print(f"generate, batches of {rows}: {took:.0f} s", flush=True)
        found.append((f"generate, batches of {rows}", took, padding))
    with torch.inference_mode():
        for rows in options.rows:
            took = talks.seconds(lambda n=rows: by_transformers(original, some, n))
            print(f"transformers, batches of {rows}: {took:.0f} s", flush=True)
            found.append((f"transformers, batches of {rows}", took, "30 s a clip"))
    table = Table("", "tokens/s", "RTFx", "engine is", "", title=f"{len(some)} prompts")
    for name, took, told in found:
        rate = f"{tokens / took:.1f}"
        table.add_row(name, rate, f"{heard / took:.1f}", f"{took / ours:.2f} x", told)
    Console().print(table)


if __name__ == "__main__":
    main()
