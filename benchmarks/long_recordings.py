"""Speech written down in windows: cut where it is quiet, cut every 30 s, and clip by clip.

    PYTHONPATH=. python benchmarks/long_recordings.py --whisper=DIR --list=train.jsonl --language=nl

Clips of a list of our own form are joined, with a pause between each two, to recordings of about
two minutes. A Whisper model of transformers (float32, greedy) writes down the windows of each. Word
error rates are of the protocol "plain", over all recordings; of near cuts and away from them of v1.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE, windows
from qwen_audio_jax.audio.quiet_cuts import quiet_windows
from qwen_audio_jax.evaluation.recordings import joined
from qwen_audio_jax.evaluation.seams import seam_counts
from qwen_audio_jax.metrics.protocols import PROTOCOLS

Transcriber = Callable[[np.ndarray], str]
Recording = tuple[np.ndarray, list[int], str]
"""Samples, the lengths of its clips (each with the pause behind it), the text."""


def recordings(
    path: pathlib.Path, language: str, seconds: float, pause: float
) -> Iterator[Recording]:
    waves: list[np.ndarray] = []
    texts: list[str] = []
    for row in map(json.loads, path.read_text().splitlines()):
        if (row["task"], row.get("language")) != ("asr", language):
            continue
        waves += [decode((path.parent / row["audio"]).read_bytes())]
        texts += [row["text"]]
        waves[-1] = np.pad(waves[-1], (0, round(pause * SAMPLE_RATE)))
        if sum(map(len, waves)) >= seconds * SAMPLE_RATE:
            yield np.concatenate(waves), list(map(len, waves)), " ".join(texts)
            waves, texts = [], []


def whisper(folder: str, language: str) -> Transcriber:
    torch.manual_seed(0)
    processor = transformers.WhisperProcessor.from_pretrained(folder)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).float()

    def transcribed(wave: np.ndarray) -> str:
        heard = processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(
                heard.input_features, language=language, task="transcribe", num_beams=1
            )
        return processor.batch_decode(ids, skip_special_tokens=True)[0]

    return transcribed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--whisper", required=True, help="folder of a Whisper model")
    parser.add_argument("--list", required=True, type=pathlib.Path)
    parser.add_argument("--language", default="en", help="default: en")
    parser.add_argument("--seconds", type=float, default=120, help="of a recording (default: 120)")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds (default: 0.3)")
    parser.add_argument("--number", type=int, default=2, help="of recordings (default: 2)")
    options = parser.parse_args()
    found = recordings(options.list, options.language, options.seconds, options.pause)
    some = [one for one, _ in zip(found, range(options.number), strict=False)]
    transcribed, language = whisper(options.whisper, options.language), options.language
    seconds = ", ".join(f"{len(wave) / SAMPLE_RATE:.0f} s" for wave, _, _ in some)
    title = f"{len(some)} recordings of {seconds}"
    table = Table("", "windows", "WER", "near cuts", "away from them", title=title)
    ways = {
        "cut where it is quiet": lambda wave, _: quiet_windows(wave),
        "cut every 30 s": lambda wave, _: windows(len(wave)),
        "clip by clip": lambda _, clips: clips,
    }
    for name, lengths_of in ways.items():
        cut = edits = words = 0
        sides = np.zeros((2, 2))
        for wave, clips, text in some:
            lengths = lengths_of(wave, clips)
            said = list(map(transcribed, np.split(wave, np.cumsum(lengths[:-1], dtype=int))))
            counts = PROTOCOLS["plain"].edit_counts(text, joined(said, language), language)
            cut += len(lengths)
            edits += counts.edits
            words += counts.reference_length
            sides += np.array(seam_counts(text, said, language))
        near, away = (f"{over / max(1, under):.1%} of {under:.0f}" for over, under in sides)
        table.add_row(name, str(cut), f"{edits / words:.1%} of {words}", near, away)
        print(f"{name}: {edits / words:.1%}", flush=True)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
