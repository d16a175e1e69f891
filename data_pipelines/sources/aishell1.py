"""AISHELL-1: read Mandarin (Bu et al., 2017; openslr.org/33).

    data_aishell/transcript/aishell_transcript_v0.8.txt
    data_aishell/wav/train/S0002/BAC009S0002W0122.wav

The speakers' archives inside `wav/` must be unpacked too. Transcripts have spaces between words,
which are left out, as Mandarin is written. A recording without a transcript is dropped; the
corpus has some.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import lines

TASKS = ("asr",)
LICENSE = "Apache-2.0"
LAYOUT = "transcript/aishell_transcript_v0.8.txt"
_PARTS = {"train": "train", "validation": "dev"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Utterances, by speaker and name."""
    texts = {}
    for line in lines(root / LAYOUT):
        name, _, text = line.partition(" ")
        texts[name] = "".join(text.split())
    for path in sorted((root / "wav" / _PARTS[split]).glob("*/*.wav")):
        if path.stem in texts:
            yield path, {"asr": {"text": texts[path.stem], "language": "zh"}}
