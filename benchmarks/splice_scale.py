"""The first losses with a new projector at the scale of word embeddings, and as it is drawn.

    python benchmarks/splice_scale.py --init-from=checkpoints/start --corpus=data/synthetic

Trains the same first steps twice, on the same batches, and prints one table: the loss and the norm
of the gradient before clipping, each the mean of a tenth of the steps. Without `--init-from`, what
scaling would do to a model of which everything is drawn.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import tempfile

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipelines.pipeline import PackedBatches, batches
from qwen_audio_jax import run_config
from qwen_audio_jax.monitoring.goodput import Clock
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.parallel.sharding import place_rows
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.splice_scale import at_word_norm
from qwen_audio_jax.training.start import restore_or_init
from qwen_audio_jax.training.step import make_init

ROOT = pathlib.Path(__file__).parents[1]
FROZEN = ("^encoder/", "^decoder/(embedding|head)$", "^decoder/blocks/(gate|up|down)/")


def configuration(arguments: argparse.Namespace) -> run_config.RunConfig:
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "configs" / "pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config().to_dict()
    corpus = arguments.corpus.absolute()
    values["data"] |= {"root": str(corpus.parent), "mixture": {corpus.name: 1.0}}
    values["optimizer"]["warmup_steps"] = arguments.warmup
    if arguments.init_from:
        values["init_from"] = str(arguments.init_from)
        values["data"]["shapes"] = ((1, arguments.tokens, arguments.frames),)
        values["optimizer"] |= {"learning_rate": 5e-4, "frozen": FROZEN}
    return run_config.from_mapping(values)


def first_steps(run: loop.Run, state, steps: int) -> np.ndarray:
    """Losses and gradient norms, [steps, 2]."""
    data, config = run.data, run.config.data
    source = PackedBatches(
        data.corpora, data.preprocessor, data.plan, data.local_rows, seed=config.seed
    )
    found = []
    for batch in batches(source, config.workers):
        batch, _ = loop.split_data_position(batch, data.plan.components)
        state, metrics = run.step(state, place_rows(batch, run.mesh))
        found.append([float(metrics["loss"]), float(metrics["gradient_norm"])])
        if len(found) == steps:
            return np.array(found)
    raise AssertionError("the batches of a plan are endless")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init-from", type=pathlib.Path, help="what convert import wrote")
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("data/synthetic"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=576)
    parser.add_argument("--frames", type=int, default=1664)
    arguments = parser.parse_args()
    config = configuration(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run, recipe, layout = loop.build_run(config, pathlib.Path(folder), Group(), Clock(), None)
        _, init = make_init(recipe)

        def start(scaled: bool):
            state, _ = restore_or_init(config, run.checkpoints, recipe, layout)
            projector = jax.jit(lambda: init().parameters["projector"])()
            state = dataclasses.replace(
                state, parameters=state.parameters | {"projector": projector}
            )
            new = recipe.model.decoder.first_new_token
            return at_word_norm(state, layout, new) if scaled else state

        found = [first_steps(run, start(scaled), arguments.steps) for scaled in (True, False)]
        run.checkpoints.close()
    table = Table("steps")
    for name in ("scaled", "as drawn"):
        for metric in ("loss", "gradient norm"):
            table.add_column(f"{metric}, {name}", justify="right")
    for part in np.array_split(np.arange(arguments.steps), min(10, arguments.steps)):
        means = [f"{one[part, column].mean():.2f}" for one in found for column in (0, 1)]
        table.add_row(f"{part[0] + 1} to {part[-1] + 1}", *means)
    Console().print(table)


if __name__ == "__main__":
    main()
