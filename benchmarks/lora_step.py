"""A step that trains adapters (LoRA) beside one that trains all weights of the same model.

    python benchmarks/lora_step.py --preset=small

Adapters of rank 16 are on the decoder's seven linears. Both take the same packed rows, by turns in
one process, on the CPU in float32; of each the processor time of a step is told, compilation not
counted, and what it trains and keeps as moments. Their first losses must be equal, to the rounding
of two programs.
"""

import argparse
import dataclasses
import pathlib
import runpy
import statistics
import time

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.audio.lengths import audio_tokens, packed_frames
from qwen_audio_jax.models.presets import PRESETS, model_config, preset_parts
from qwen_audio_jax.parallel.sharding import make_mesh, place_rows
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.step_config import LoraConfig
from qwen_audio_jax.training.lora import optimizer_of, with_adapters
from qwen_audio_jax.training.step import Recipe, make_init, make_step

PRETRAIN = pathlib.Path(__file__).parents[1] / "configs" / "pretrain.py"
VOCABULARY, TEXT, CLIP_FRAMES = 4096, 32, 300
ROWS, IN_A_ROW = 4, 3
RANK = 16
LOSS = 1e-5
"""How far the two may be apart."""


def example(seed: int, mel_bins: int) -> Example:
    """A clip of noise before a random text whose second half is learned."""
    random = np.random.default_rng(seed)
    places = np.arange(audio_tokens(CLIP_FRAMES))
    words = random.integers(3, VOCABULARY, TEXT)
    tokens = np.concatenate([np.zeros(len(places), int), words])
    audio = np.concatenate([places, np.full(TEXT, -1)])
    weights = (np.arange(len(tokens)) >= len(tokens) - TEXT // 2).astype(np.float32)
    text = Tokens(tokens.astype(np.int32), weights, audio.astype(np.int32))
    mel = random.standard_normal((packed_frames(CLIP_FRAMES), mel_bins)).astype(np.float32)
    return Example(text, (mel,), (CLIP_FRAMES,))


def rows(mel_bins: int) -> dict[str, np.ndarray]:
    """A batch whose rows are full."""
    tokens = IN_A_ROW * (audio_tokens(CLIP_FRAMES) + TEXT)
    batch = empty_batch(ROWS, tokens, IN_A_ROW * packed_frames(CLIP_FRAMES), mel_bins)
    for row in range(ROWS):
        fill_row(batch, row, [example(IN_A_ROW * row + n, mel_bins) for n in range(IN_A_ROW)])
    return batch


class Arm:
    """The step of one of the two."""

    def __init__(self, preset: str, lora: LoraConfig):
        parts = preset_parts(preset, "qwen2_audio", VOCABULARY)
        model = with_adapters(lora, model_config("qwen2_audio", *parts, audio_begin=1, audio_end=2))
        values = runpy.run_path(str(PRETRAIN))["get_config"](preset).to_dict()
        config = dataclasses.replace(from_mapping(values), lora=lora)
        recipe = Recipe(model, optimizer_of(config, model), steps=1000, seed=0)
        mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1})
        graph, init = make_init(recipe)
        self.state = jax.jit(init)()
        self.batch = place_rows(rows(model.encoder.mel_bins), mesh)
        self.step = jax.jit(make_step(graph, recipe, mesh), donate_argnums=0)
        self.trained, self.moments = (
            sum(leaf.size for leaf in jax.tree.leaves(tree))
            for tree in (self.state.parameters, self.state.optimizer)
        )

    def __call__(self) -> float:
        """The loss of a step."""
        self.state, metrics = self.step(self.state, self.batch)
        return float(jax.block_until_ready(metrics)["loss"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS[:2], default="small")
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    options = parser.parse_args()
    arms = {
        "all weights": Arm(options.preset, LoraConfig()),
        f"LoRA, rank {RANK}": Arm(options.preset, LoraConfig(rank=RANK)),
    }
    losses = {name: arm() for name, arm in arms.items()}
    if not np.ptp(list(losses.values())) < LOSS:
        raise SystemExit(f"the two do not start from the same model: {losses}")
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.turns):
        for name, arm in arms.items():
            start = time.process_time()
            arm()
            seconds[name].append(time.process_time() - start)
    first = statistics.median(next(iter(seconds.values())))
    table = Table("", "seconds", "ratio", "trained", "moments", title=f"a step, {options.preset}")
    for name, arm in arms.items():
        median = statistics.median(seconds[name])
        table.add_row(
            name, f"{median:.2f}", f"{first / median:.2f}", f"{arm.trained:,}", f"{arm.moments:,}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
