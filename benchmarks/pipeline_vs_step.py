"""How fast batches are made beside how fast the tiny model trains on them.

    python benchmarks/pipeline_vs_step.py --corpus=data/synthetic

Prints one table: audio-seconds per second of the data pipeline alone, of the training step alone on
the same machine, one after the other, and their ratio. The pipeline has to outrun the step by 3 at
least, so that it takes little from the step when both share the cores. Also what is useful in a
batch.
"""

import argparse
import importlib.util
import pathlib
import statistics
import time

import jax
from rich.console import Console
from rich.table import Table

from data_pipelines.examples import Preprocessor
from data_pipelines.pipeline import PackedBatches, batches, make_plan, open_mixture
from qwen_audio_jax import run_config
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.parallel.sharding import local_rows, make_mesh, place_rows
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.start import choose_model, recipe_of
from qwen_audio_jax.training.step import make_init, make_step

ROOT = pathlib.Path(__file__).parents[1]


def configuration(corpus: pathlib.Path) -> run_config.RunConfig:
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "configs" / "pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config().to_dict()
    values["data"] |= {"root": str(corpus.absolute().parent), "mixture": {corpus.name: 1.0}}
    return run_config.from_mapping(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("data/synthetic"))
    parser.add_argument("--batches", type=int, default=30)
    arguments = parser.parse_args()
    config = configuration(arguments.corpus)
    mesh = make_mesh(config.mesh)
    corpora = open_mixture(config.data.root, config.data.mixture)
    tokenizer = load_tokenizer(arguments.corpus / "tokenizer")
    model = choose_model(config, tokenizer, Parts())
    preprocessor = Preprocessor(
        tokenizer,
        model.family,
        config.data.conditioning,
        model.encoder.mel_bins,
        model.frame_rounding,
    )
    shapes = config.data.row_shapes
    plan = make_plan(corpora, config.data.mixture, preprocessor, shapes, config.data.seed)
    rows = {shape: local_rows(shape.rows, mesh) for shape in shapes}
    source = PackedBatches(corpora, preprocessor, plan, rows)

    stream = batches(source, config.data.workers)
    warm = [next(stream) for _ in range(10)]  # more than are prefetched
    start = time.perf_counter()
    made = [next(stream) for _ in range(arguments.batches)]
    pipeline = (time.perf_counter() - start) / len(made)
    stream.close()

    recipe = recipe_of(config, model, config.train.steps)
    graph, init = make_init(recipe)
    state = jax.jit(init)()
    step = jax.jit(make_step(graph, recipe, mesh), donate_argnums=0)
    seconds, audio = [], []
    for batch in warm[:3] + made:
        batch, _ = loop.split_data_position(batch, plan.components)
        start = time.perf_counter()
        state, metrics = step(state, place_rows(batch, mesh))
        audio.append(float(metrics["useful"]["frames"]) / 100)
        seconds.append(time.perf_counter() - start)
    training = statistics.median(seconds[3:])
    per_batch = statistics.mean(audio[3:])

    useful_tokens = statistics.mean((b["segments"] > 0).mean() for b in made)
    useful_frames = statistics.mean((b["mel_segments"] > 0).mean() for b in made)
    table = Table("", "s a batch", "audio-s/s")
    table.add_row("pipeline", f"{pipeline:.3f}", f"{per_batch / pipeline:,.0f}")
    table.add_row("training step", f"{training:.3f}", f"{per_batch / training:,.0f}")
    table.add_row("ratio", f"{training / pipeline:.1f}", "")
    Console().print(table)
    print(f"useful tokens {useful_tokens:.1%}, useful frames {useful_frames:.1%}")


if __name__ == "__main__":
    main()
