"""What to train where a Whisper encoder meets a language model: recipes for the same time each.

    python benchmarks/adapt_whisper.py --start=start --corpus=data/speech --minutes=20

`start` is what `convert import` made of a Whisper and a text decoder, the corpus has transcribed
speech and a validation split. Each recipe trains for --minutes (of all that a run does: loading,
compilation, evaluation of the loss), in a run folder under --out; one that was broken off goes on,
and one that is done is not repeated. Prints a table: steps, epochs, the training loss of the last
steps, the held-out loss with the right and with another clip, WER and CER over the whole split.
With --whisper=DIR, the folder that the encoder came from, Whisper's own decoder answers the same
clips by transformers (greedily, padded to 30 s, told the language), and is the table's last row.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipelines.records import Corpus
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.monitoring.run_log import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
ENCODER, WORDS = "^encoder/", "^decoder/embedding"
SLOW = {"^decoder/(?!embedding)": 0.2}
"""A decoder that is trained already, beside a projector and rows of tokens that are new."""

RECIPES: dict[str, dict[str, Any]] = {
    "projector": {"optimizer.frozen": (ENCODER, "^decoder/")},
    "projector, attention": {
        "optimizer.frozen": (ENCODER, WORDS, "^decoder/blocks/(gate|up|down)/"),
        "optimizer.rates": {"^decoder/(?!embedding)": 0.5},
    },
    "projector, decoder": {"optimizer.frozen": (ENCODER, WORDS), "optimizer.rates": SLOW},
    "projector, last 10 layers": {
        "optimizer.frozen": (ENCODER, WORDS, "^decoder/blocks[:-10]"),
    },
    "projector, LoRA": {"lora.rank": 16, "lora.alpha": 32, "lora.train": ("^projector/",)},
    "all": {"optimizer.frozen": (WORDS,), "optimizer.rates": SLOW | {ENCODER: 0.1}},
    "projector, decoder; clip+1s": {
        "optimizer.frozen": (ENCODER, WORDS),
        "optimizer.rates": SLOW,
    },
    "projector, decoder; window": {"optimizer.frozen": (ENCODER, WORDS), "optimizer.rates": SLOW},
}
"""What is trained, at which share of the rate, and adapters; behind a semicolon, the window."""


def train(name: str, workdir: pathlib.Path, options: argparse.Namespace) -> None:
    """Trains and evaluates, unless it was done."""
    if (workdir / "evaluation.json").is_file():
        return
    corpus = options.corpus.absolute()
    window = name.partition("; ")[2] or "clip"
    values = {
        "init_from": options.start.absolute(),
        "model.window": window,
        "data.root": corpus.parent,
        "data.mixture": {corpus.name: 1.0},
        "data.shapes": ((1, options.tokens, 30_040 if window == "window" else options.frames),),
        "optimizer.learning_rate": 1e-3,
        "optimizer.warmup_steps": 30,
        "checkpoint.every": 100,
        "checkpoint.keep": 1,
        "evaluate.loss_every": options.loss_every,
        "evaluate.every": 0,
        "evaluate.limit": options.clips,
        **RECIPES[name],
    }
    if options.steps:
        values["train.steps"] = options.steps
    else:
        values["train.hours"] = options.minutes / 60
    print(name, flush=True)
    command = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/pretrain.py"]
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    subprocess.run([*command, f"--workdir={workdir.absolute()}", *flags], cwd=ROOT, check=True)


def row_of(name: str, workdir: pathlib.Path, corpus: str) -> list[str]:
    """A recipe's row of the table."""
    metrics = read_metrics(workdir)
    rows = json.loads((workdir / "evaluation.json").read_text())
    scores = {row["metric"]: row for row in rows if row["task"] == "asr"}
    loss = scores["loss"]
    return [
        name,
        str(metrics[-1]["step"]),
        f"{metrics[-1][f'epochs/{corpus}']:.2f}",
        f"{statistics.mean(line['loss'] for line in metrics[-20:]):.2f}",
        f"{loss['value']:.2f}",
        f"{loss['baseline']:.2f}",
        *(f"{100 * scores[metric]['value']:.1f} %" for metric in ("wer", "cer")),
    ]


def by_whisper(folder: pathlib.Path, corpus: Corpus) -> list[str]:
    """The row of Whisper's own decoder."""
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    answers = []
    for number in tqdm(range(len(corpus.index("validation"))), "Whisper", disable=None):
        record = corpus.record("validation", number)
        if record.task != "asr":
            continue
        features = processor(decode(record.audio[0]), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            ids = model.generate(
                features.input_features,
                language=record.annotation["language"],
                task="transcribe",
                max_new_tokens=100,
            )
        text = processor.batch_decode(ids, skip_special_tokens=True)[0]
        answers.append(Answer(record.annotation, text))
    scores = {row["metric"]: row["value"] for row in score("asr", answers)}
    return [
        "Whisper's own decoder",
        *"-----",
        *(f"{100 * scores[m]:.1f} %" for m in ("wer", "cer")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", type=pathlib.Path, required=True)
    parser.add_argument("--corpus", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/adapt"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=0, help="train these many, whatever the time")
    parser.add_argument("--clips", type=int, default=0, help="to be answered at the end; 0 is all")
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--tokens", type=int, default=576, help="of a step's one row")
    parser.add_argument("--frames", type=int, default=1664, help="of a step's one row")
    parser.add_argument("--loss_every", type=int, default=100, help="steps; the held-out loss")
    parser.add_argument("--whisper", type=pathlib.Path)
    options = parser.parse_args()
    folders = {name: options.out / name.replace(", ", "-").replace("; ", "-") for name in RECIPES}
    for name in options.only:
        train(name, folders[name], options)
    titles = ("trained", "steps", "epochs", "loss", "held out", "another clip", "WER", "CER")
    table = Table(*titles)
    for name, folder in folders.items():
        if (folder / "evaluation.json").is_file():
            table.add_row(*row_of(name, folder, options.corpus.name))
    if options.whisper:
        table.add_row(*by_whisper(options.whisper, Corpus(options.corpus)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
