"""A training step beside transformers' Qwen2-Audio, float32 on the CPU.

    python benchmarks/train_step_vs_transformers.py

A model of 37 million parameters with random weights, made by transformers and imported here; both
take the same clips and texts, by turns in one process and with the same threads: forward, loss,
backward, AdamW (ours also measures and clips the gradient). Loss and gradient norm must agree
first. transformers gets what its processor makes, 30-second windows and padded texts; ours, rows
that the pack plan fills. Compilation is not counted. `useful` is `flops.training_step` a second.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
import torch
from generation_vs_transformers import AUDIO, MEL_BINS, PAD, WINDOW, peer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipelines.examples import Example, empty_batch, fill_row
from data_pipelines.packing import PackPlan, RowShape
from qwen_audio_jax.audio.lengths import audio_tokens, packed_frames
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.monitoring import flops
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.step_config import OptimizerConfig
from qwen_audio_jax.training.step import Recipe, first_state, make_init, make_step

TEXT, LEARNED = 32, 16
CASES = {
    "16 clips of 3 to 5 s": (np.linspace(300, 500, 16).astype(int).tolist(), RowShape(8, 288, 896)),
    "4 clips of 30 s": ([3000] * 4, RowShape(4, 784, 3008)),
}
"""Frames of each clip, and the row shape: no longer than it takes to be full."""

RATE, DECAY, BETAS, EPS = 1e-4, 0.01, (0.9, 0.999), 1e-8
LOSS, NORM = 1e-5, 1e-4
"""How far the two may be apart: absolutely, and as a fraction."""


def examples(frames: list[int]) -> list[Example]:
    """Clips of noise, before random texts whose second half is learned."""
    random = np.random.default_rng(0)
    made = []
    for length in frames:
        words, places = random.integers(3, PAD, TEXT), np.arange(audio_tokens(length))
        tokens = np.concatenate([words[:4], np.full(len(places), AUDIO), words[4:]])
        audio = np.concatenate([np.full(4, -1), places, np.full(TEXT - 4, -1)])
        weights = (np.arange(len(tokens)) >= len(tokens) - LEARNED).astype(np.float32)
        # As silence looks behind the clip's end, and as the window's edge does behind 30 s.
        mel = np.full((max(WINDOW, packed_frames(length)), MEL_BINS), -0.6, np.float32)
        mel[:length] = 0.4 * random.standard_normal((length, MEL_BINS))
        mel[WINDOW:] = 0
        text = Tokens(tokens.astype(np.int32), weights, audio.astype(np.int32))
        made.append(Example(text, (mel,), (length,)))
    return made


def padded(made: list[Example]) -> dict[str, torch.Tensor]:
    """What transformers is given."""
    longest = max(len(example.text.tokens) for example in made)

    def rows(arrays, filling):
        return torch.tensor([[*row.tolist(), *[filling] * (longest - len(row))] for row in arrays])

    texts = [example.text for example in made]
    frames = np.array([[n] for example in made for n in example.clip_frames])
    return dict(
        input_ids=rows([text.tokens for text in texts], PAD),
        attention_mask=rows([np.ones(len(text.tokens), int) for text in texts], 0),
        labels=rows([np.where(text.loss_weights, text.tokens, -100) for text in texts], -100),
        input_features=torch.from_numpy(
            np.stack([clip[:WINDOW].T for example in made for clip in example.clips])
        ),
        feature_attention_mask=torch.from_numpy((np.arange(WINDOW) < frames).astype(np.int64)),
    )


def packed(made: list[Example], shape: RowShape) -> dict[str, np.ndarray]:
    """The same in rows of the pack plan."""
    lengths = [(len(e.text.tokens), sum(map(packed_frames, e.clip_frames))) for e in made]
    plan = PackPlan({"": np.array(lengths)}, {"": 1.0}, [shape], seed=0)
    (planned,) = plan.window(0).batches
    batch = empty_batch(shape.rows, shape.tokens, shape.frames, MEL_BINS)
    for row, members in enumerate(planned.rows):
        here = [made[record] for _, record in members]
        fill_row(batch, row, list(map(cut, here)))
    return batch


def cut(example: Example) -> Example:
    """Its clips without the silence behind their margins."""
    both = zip(example.clips, example.clip_frames, strict=True)
    return dataclasses.replace(example, clips=tuple(mel[: packed_frames(n)] for mel, n in both))


class Ours:
    """The project's step on an imported model."""

    def __init__(self, folder: str, made: list[Example], shape: RowShape):
        parts, parameters = load_original(pathlib.Path(folder))
        optimizer = OptimizerConfig(RATE, RATE, 0, *BETAS, EPS, DECAY, clip_norm=1.0)
        model, parameters, optimizer = self.prepared(parts.model(), parameters, optimizer)
        recipe = Recipe(model, optimizer, steps=1000, seed=0)
        mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1})
        graph, _ = make_init(recipe)
        parameters = jax.tree.map(jax.device_put, parameters)
        self.state = first_state(recipe, parameters)
        batch = packed(made, shape)
        counts = flops.counts_of(batch)
        self.flops = flops.training_step(model, counts, optimizer.frozen)
        self.batch = jax.tree.map(jax.device_put, batch)
        self.step = jax.jit(make_step(graph, recipe, mesh), donate_argnums=0)

    def prepared(self, model: ModelConfig, parameters: dict, optimizer: OptimizerConfig):
        """(model, parameters, optimizer) of what is trained: here all weights."""
        return model, parameters, optimizer

    def __call__(self) -> tuple[float, float]:
        """Loss and gradient norm of a step."""
        self.state, metrics = self.step(self.state, self.batch)
        return float(metrics["loss"]), float(metrics["gradient_norm"])


class Theirs:
    """transformers' model under torch's AdamW."""

    def __init__(self, folder: str, made: list[Example]):
        model = type(peer()).from_pretrained(folder).train()
        # Lost on loading; fixed in both originals.
        model.model.audio_tower.embed_positions.requires_grad_(False)
        self.model = self.prepared(model)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY
        )
        self.inputs = padded(made)

    def prepared(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model with what is trained of it: here all weights."""
        return model

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        loss = self.model(**self.inputs, use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def norm(self) -> float:
        """Of the last step's gradient."""
        return float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters]))


def compare(
    folder: str,
    made: list[Example],
    shape: RowShape,
    turns: int,
    bar: tqdm,
    sides: tuple[type[Ours], type[Theirs]] = (Ours, Theirs),
):
    """Seconds of each turn (ours, transformers'), float [turns, 2], and FLOPs of a step."""
    ours, theirs = sides[0](folder, made, shape), sides[1](folder, made)
    (loss, norm), their_loss = ours(), theirs()
    their_norm = theirs.norm()
    if abs(loss - their_loss) > LOSS or abs(norm - their_norm) > NORM * their_norm:
        raise SystemExit(
            f"the two differ: loss {loss} and {their_loss}, gradient norm {norm} and {their_norm}"
        )
    ours()  # compiled once more, for the state as a step leaves it
    times = []
    for _ in range(turns):
        times.append([seconds(step) for step in (ours, theirs)])
        bar.update()
    return np.array(times), ours.flops


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7, help="default: 7")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    table = Table("", "", "ours", "transformers", "ratio", "useful", title="seconds per step")
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=len(CASES) * options.turns, disable=None) as bar,
    ):
        peer().save_pretrained(folder)
        for name, (frames, shape) in CASES.items():
            times, work = compare(folder, examples(frames), shape, options.turns, bar)
            for what, of in (("best", min), ("median", statistics.median)):
                ours, theirs = (of(side.tolist()) for side in times.T)
                rate = f"{work / ours / 1e9:.0f} GFLOP/s"
                table.add_row(
                    name, what, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}", rate
                )
    Console().print(table)


if __name__ == "__main__":
    main()
