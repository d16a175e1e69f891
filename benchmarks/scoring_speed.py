"""How long the interval of a word error rate takes, from stored counts and from answers.

    python benchmarks/scoring_speed.py

Prints one table, for 100,000 answers of about ten words and 1,000 draws: seconds on one core of the
interval by clip and by speaker, of the comparison of two models, and of a plain loop that scores
the drawn answers anew. The loop takes hours, so a few of its draws are timed, and the table says
that its seconds are extrapolated.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from qwen_audio_jax.evaluation.statistics import bootstrap, paired
from qwen_audio_jax.evaluation.summed_scores import ratio
from qwen_audio_jax.metrics.error_rate import word_edits

Pairs = list[tuple[str, str, str]]


def spoken(answers: int, random: np.random.Generator) -> Pairs:
    """References of 5 to 15 words, and answers with one word in ten wrong."""
    pairs = []
    for length in random.integers(5, 16, answers):
        words = random.integers(5000, size=length)
        heard = np.where(random.random(length) < 0.1, 5000, words)
        texts = (" ".join(f"w{word}" for word in side) for side in (words, heard))
        pairs.append((*texts, "en"))
    return pairs


def loop(pairs: Pairs, draws: int, random: np.random.Generator) -> None:
    """The bootstrap as one would write it down: every draw is scored from its texts."""
    for _ in range(draws):
        word_edits([pairs[n] for n in random.integers(len(pairs), size=len(pairs))])


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--speakers", type=int, default=2000)
    parser.add_argument("--loop-draws", type=int, default=3)
    options = parser.parse_args()
    random = np.random.Generator(np.random.PCG64(0))
    pairs = spoken(options.answers, random)
    counts = np.array([word_edits([pair]) for pair in pairs], float)
    speakers = random.integers(options.speakers, size=len(pairs)).tolist()
    other = counts[random.permutation(len(counts))]
    draws = options.draws
    rows = [
        ("interval, by clip", seconds(lambda: bootstrap(counts, ratio, draws=draws))),
        (
            f"interval, by {options.speakers:,} speakers",
            seconds(lambda: bootstrap(counts, ratio, clusters=speakers, draws=draws)),
        ),
        (
            "two models compared, by clip",
            seconds(lambda: paired(counts, other, ratio, draws=draws)),
        ),
        (
            f"plain loop, extrapolated from {options.loop_draws} draws",
            seconds(lambda: loop(pairs, options.loop_draws, random)) * draws / options.loop_draws,
        ),
    ]
    table = Table(f"{options.answers:,} answers, {draws:,} draws", "seconds")
    for name, took in rows:
        table.add_row(name, f"{took:,.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
