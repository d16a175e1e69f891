"""TUT Acoustic Scenes 2017, development set (Mesaros et al., 2016; zenodo 400515).

    TUT-acoustic-scenes-2017-development/audio/b020_90_100.wav
    TUT-acoustic-scenes-2017-development/evaluation_setup/fold1_train.txt

The first of its four folds: recordings of one place are all in training or all in validation.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import lines

TASKS = ("acoustic_scene_classification",)
LICENSE = "LicenseRef-TUT-acoustic-scenes"
LAYOUT = "evaluation_setup/fold1_train.txt"
_PARTS = {"train": "fold1_train.txt", "validation": "fold1_evaluate.txt"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Recordings, in the list's order: `audio/b020_90_100.wav`, a tab and `cafe/restaurant`."""
    for line in lines(root / "evaluation_setup" / _PARTS[split]):
        name, _, scene = line.partition("\t")
        if scene := scene.split("\t")[0].strip():
            labels = {"text": scene.replace("_", " ").replace("/", " or ")}
            yield root / name, {"acoustic_scene_classification": labels}
