"""AISHELL-2: read Mandarin (Du et al., 2018; aishelltech.com/aishell_2).

    iOS/data/trans.txt
    iOS/data/wav.scp
    iOS/data/wav/C0001/IC0001W0001.wav
    iOS/dev/...

The folder of one channel. The development set comes in an archive of its own; its `iOS/dev` is to
be put beside `data`, where the authors' recipe looks for it.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import lines

TASKS = ("asr",)
LICENSE = "LicenseRef-AISHELL-2"
LAYOUT = "data/trans.txt"
_PARTS = {"train": "data", "validation": "dev"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Utterances, by name."""
    folder = root / _PARTS[split]
    paths = dict(_pairs(folder / "wav.scp"))
    for name, text in sorted(_pairs(folder / "trans.txt")):
        if name in paths:
            yield folder / paths[name], {"asr": {"text": text, "language": "zh"}}


def _pairs(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """A name, and after the first blank what is said of it."""
    for line in lines(path):
        name, *rest = line.split(maxsplit=1) or [""]
        if rest:
            yield name, rest[0].strip()
