"""Do tags and prompts keep tasks from disturbing each other, as the Qwen-Audio papers say?

    python benchmarks/interference.py --out=runs/interference

Trains the same small model on the same mixture, the built-in corpus of all tasks, three times each
without conditioning, with tags and with prompts, and prints a table: per family of tasks the mean
score, with the standard deviation over the seeds. A task's score is the share of the way that its
first metric goes from the baseline (what one gets without listening) to perfect, so a family's mean
is over tasks alike. A run of 600 steps takes some five minutes on two cores. One that is
broken off goes on, and one that is done is not repeated.
"""

import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from qwen_audio_jax.metrics.scales import gain
from qwen_audio_jax.tasks import CONDITIONINGS, TASKS

ROOT = pathlib.Path(__file__).parents[1]
FAMILIES = ("speech", "sound", "music")


def train(workdir: pathlib.Path, conditioning: str, seed: int, options: argparse.Namespace) -> None:
    """Trains and evaluates a model, unless it was done."""
    if (workdir / "evaluation.json").is_file():
        return
    command = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/pretrain.py"]
    values = {
        "data.root": options.data.absolute(),
        "data.conditioning": conditioning,
        "data.seed": seed,
        "train.seed": seed,
        "train.steps": options.steps,
        "optimizer.learning_rate": 2e-3,  # twice the configuration's, for half of its steps
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    print(f"{conditioning}, seed {seed}", flush=True)
    subprocess.run([*command, f"--workdir={workdir.absolute()}", *flags], cwd=ROOT, check=True)


def scores(workdir: pathlib.Path) -> dict[str, float]:
    """Score of each task, and the mean of each family and of all."""
    rows = json.loads((workdir / "evaluation.json").read_text())
    first = {row["task"]: row for row in reversed(rows)}  # the first metric is the task's own
    values = {task: gain(first[task]) for task in TASKS if task in first}
    found = {task: value for task, value in values.items() if value is not None}
    families = collections.defaultdict(list)
    for task, value in found.items():
        families[TASKS[task].group].append(value)
    means = {family: statistics.mean(families[family]) for family in FAMILIES}
    return found | means | {"all tasks": statistics.mean(found.values())}


def show(title: str, names: list[str], found: dict[str, list[dict[str, float]]]) -> None:
    table = Table(title, *CONDITIONINGS)
    for name in names:
        cells = []
        for conditioning in CONDITIONINGS:
            values = [one[name] for one in found[conditioning] if name in one]
            spread = f" ± {statistics.stdev(values):.1%}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1%}{spread}" if values else "-")
        table.add_row(name, *cells)
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/interference"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = collections.defaultdict(list)
    for seed in range(options.seeds):
        for conditioning in CONDITIONINGS:
            workdir = options.out / f"{conditioning}-{options.steps}-{seed}"
            train(workdir, conditioning, seed, options)
            found[conditioning].append(scores(workdir))
    show("family", [*FAMILIES, "all tasks"], found)
    show("task", list(TASKS), found)


if __name__ == "__main__":
    main()
