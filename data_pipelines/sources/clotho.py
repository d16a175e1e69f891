"""Clotho: sounds of Freesound, five captions each (Drossos et al., 2020; zenodo 4783391).

    clotho_captions_development.csv
    development/Distorted AM Radio noise.wav

Each caption makes a record.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import rows

TASKS = ("audio_captioning",)
LICENSE = "LicenseRef-Clotho"
LAYOUT = "clotho_captions_development.csv"
_PARTS = {"train": "development", "validation": "validation"}
_CAPTIONS = tuple(f"caption_{i}" for i in range(1, 6))


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Captions, clip by clip in the table's order."""
    part = _PARTS[split]
    columns = ("file_name", *_CAPTIONS)
    for row in rows(root / f"clotho_captions_{part}.csv", columns):
        for caption in _CAPTIONS:
            path = root / part / row["file_name"]
            yield path, {"audio_captioning": {"text": row[caption].strip()}}
