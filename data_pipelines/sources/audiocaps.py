"""AudioCaps: sounds of YouTube videos in words (Kim et al., 2019; cdjkim/audiocaps).

    dataset/train.csv
    audio/train/-0Gj8-vB1q4.wav

The repository has the captions; the ten seconds of each video have to be fetched into
`audio/train` and `audio/val`, named by `youtube_id`, `youtube_id_start_time`, `Yyoutube_id` or
`audiocap_id`, as the tools that do so name them. Those that are gone are rejected, one by one.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import first_file, rows

TASKS = ("audio_captioning",)
LICENSE = "LicenseRef-AudioCaps"
LAYOUT = "dataset/train.csv"
_PARTS = {"train": "train", "validation": "val"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Captions, in the table's order; validation clips have five."""
    part = _PARTS[split]
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    for row in rows(root / "dataset" / f"{part}.csv", columns):
        video = row["youtube_id"]
        stems = (video, f"{video}_{row['start_time']}", f"Y{video}", row["audiocap_id"])
        path = first_file(root / "audio" / part, stems)
        yield path, {"audio_captioning": {"text": row["caption"].strip()}}
