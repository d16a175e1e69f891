"""How long the train step takes to trace, lower and compile for a TPU, by the number of layers.

    pip install -e '.[tpu]' && python benchmarks/compile_time.py

Layers are scanned over, so a deep model should take as long as a shallow one. The step is that of
`--preset`, its encoder and decoder cut to as many layers; each is compiled in turn, for `--turns`
turns, and the fastest counts.
"""

import argparse
import os

from qwen_audio_jax.compile_report import WITHOUT_A_TPU

os.environ |= WITHOUT_A_TPU  # before JAX is loaded

import dataclasses
import importlib.util
import pathlib

from rich.console import Console
from rich.table import Table

from qwen_audio_jax import run_config
from qwen_audio_jax.compilation.topology import FRAMES, TOKENS, parse_topology
from qwen_audio_jax.compilation.verdict import compile_step, model_of

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "pretrain.py"


def seconds(config: run_config.RunConfig, topology: str, layers: int) -> float:
    """Tracing, lowering and compiling together."""
    model = model_of(config)
    model = dataclasses.replace(
        model,
        encoder=dataclasses.replace(model.encoder, layers=layers),
        decoder=dataclasses.replace(model.decoder, layers=layers),
    )
    return compile_step(config, parse_topology(topology), model).compile_seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="qwen2_audio_7b")
    parser.add_argument("--topology", default="v5p:2x2x4")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("pretrain", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config(options.preset)
    values.data.shapes = ((64, TOKENS, FRAMES),)
    config = run_config.from_mapping(values.to_dict())
    turns = [
        [seconds(config, options.topology, layers) for layers in options.layers]
        for _ in range(options.turns)
    ]
    fastest = [min(column) for column in zip(*turns, strict=True)]
    table = Table("layers", "seconds", "ratio", title=f"{options.preset}, {options.topology}")
    for layers, took in zip(options.layers, fastest, strict=True):
        table.add_row(str(layers), f"{took:.1f}", f"{took / fastest[0]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
