"""What preference tuning changes: hallucinations, counts, recognition, before and after.

    python benchmarks/preference.py --init_from=runs/tuned --out=runs/preference

Tunes the model of `--init_from`, a run of configs/sft.py, by configs/dpo.py on the built-in
preference pairs, with each seed once with and once without the SFT term, and prints the scores of
held-out records before and after: the mean over the seeds, and their standard deviation. Before is
the same for all. Hallucinations are answers that hear a sound which is not there, sounds missed
those that deny one which is; a model that says no to everything has none of the first and all of
the second, and one that answers in fragments has neither, and denies and affirms nothing. A run
that is broken off goes on, and one that is done is not repeated. Flags behind `--` go to each run:
`-- --config.train.steps=100`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from qwen_audio_jax.metrics.scales import scale_of

ROOT = pathlib.Path(__file__).parents[1]
TERMS = {"with the SFT term": (), "without it": ("--config.preference.sft_weight=0.0",)}
"""What is compared, and its flags: the chosen answer's own loss, as the config has it, or none."""
SHOWN = (
    ("preference", "hallucinations"),
    ("preference", "missed_sounds"),
    ("preference", "undecided"),
    ("preference", "wrong_counts"),
    ("preference", "accuracy"),
    ("preference", "ranking_accuracy"),
    ("preference", "reward_accuracy"),
    ("asr", "wer"),
    ("chat", "accuracy"),
    ("chat", "accuracy/voice_chat"),
    ("chat", "accuracy/audio_analysis"),
    ("chat", "accuracy/several_clips"),
    ("chat", "accuracy/several_turns"),
)
"""Task and metric of each row of the table."""

Scores = dict[tuple[str, str], float]


def train(
    workdir: pathlib.Path, seed: int, term: Sequence[str], options: argparse.Namespace
) -> None:
    """Tunes and evaluates a model, unless it was done."""
    if (workdir / "evaluation.json").is_file():
        return
    command = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/dpo.py"]
    values = {
        "init_from": options.init_from.absolute(),
        "data.root": options.data.absolute(),
        "data.seed": seed,
        "train.seed": seed,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    print(workdir.name, flush=True)
    run = [*command, f"--workdir={workdir.absolute()}", *flags, *term, *options.flags]
    subprocess.run(run, cwd=ROOT, check=True)


def scores(workdir: pathlib.Path, name: str) -> Scores:
    """The values of a table that a run wrote, by task and metric."""
    rows = json.loads((workdir / name).read_text())
    return {(row["task"], row["metric"]): row["value"] for row in rows if row["value"] is not None}


def cell(found: list[Scores], row: tuple[str, str]) -> str:
    """A mean, with the spread over the seeds."""
    values = [one[row] for one in found if row in one]
    if not values:
        return "-"
    scale = scale_of(row[1])
    spread = f" ± {scale.text(statistics.stdev(values))}" if len(values) > 1 else ""
    return f"{scale.text(statistics.mean(values))}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--init_from", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/preference"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("flags", nargs="*", help="of each run, behind --")
    options = parser.parse_args()
    before: list[Scores] = []
    after: dict[str, list[Scores]] = {name: [] for name in TERMS}
    for seed in range(options.seeds):
        for name, term in TERMS.items():
            workdir = options.out / f"{name.replace(' ', '-')}-{seed}"
            train(workdir, seed, term, options)
            before = before or [scores(workdir, "evaluation_before.json")]
            after[name].append(scores(workdir, "evaluation.json"))
    table = Table("task", "metric", "before", *after, title=f"{options.seeds} seeds")
    for row in SHOWN:
        arrow = "↓" if scale_of(row[1]).lower_is_better else "↑"
        cells = [cell(found, row) for found in (before, *after.values())]
        table.add_row(row[0], f"{scale_of(row[1]).name} {arrow}", *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
