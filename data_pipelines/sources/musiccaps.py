"""MusicCaps: music described by musicians (Agostinelli et al., 2023; google/MusicCaps).

    musiccaps-public.csv
    audio/-0Gj8-vB1q4.wav

It has the descriptions; the ten seconds of each video have to be fetched into `audio`, named by
`ytid`. Validation is what belongs to AudioSet's evaluation set.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import first_file, rows

TASKS = ("music_captioning",)
LICENSE = "CC-BY-SA-4.0"
LAYOUT = "musiccaps-public.csv"


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Descriptions, in the table's order."""
    columns = ("ytid", "start_s", "caption", "is_audioset_eval")
    for row in rows(root / LAYOUT, columns):
        if (row["is_audioset_eval"].lower() == "true") == (split == "validation"):
            path = first_file(root / "audio", (row["ytid"], f"{row['ytid']}_{row['start_s']}"))
            yield path, {"music_captioning": {"text": " ".join(row["caption"].split())}}
