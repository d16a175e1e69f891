"""CochlScene: places, recorded by volunteers in Korea (Jeong and Park, 2022; zenodo 7080122).

CochlScene/Train/SubwayStation/SubwayStation_user0001_14864960_001.wav
"""

import pathlib
import re
from collections.abc import Iterator

TASKS = ("acoustic_scene_classification",)
LICENSE = "LicenseRef-CochlScene"
LAYOUT = "Train/*/*.wav"
_PARTS = {"train": "Train", "validation": "Val"}
_WORD = re.compile(r"[A-Z][a-z]+")


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Recordings, by place and name: `SubwayStation` is "subway station"."""
    for path in sorted((root / _PARTS[split]).glob("*/*.wav")):
        scene = " ".join(_WORD.findall(path.parent.name)).lower()
        yield path, {"acoustic_scene_classification": {"text": scene}}
