"""Speech Commands: single English words (Warden, 2018), version 1 or 2.

    validation_list.txt    testing_list.txt
    bed/00176480_nohash_0.wav

The lists name validation and test clips; the rest is for training. `_background_noise_` has
recordings of minutes without a word and is left alone.
"""

import pathlib
from collections.abc import Iterator

TASKS = ("keyword_spotting",)
LICENSE = "CC-BY-4.0"
LAYOUT = "validation_list.txt"


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Words, by word and speaker."""
    validation, test = (
        set((root / f"{name}_list.txt").read_text(encoding="utf-8").split())
        for name in ("validation", "testing")
    )
    for path in sorted(root.glob("[!_]*/*.wav")):
        name = path.relative_to(root).as_posix()
        part = "validation" if name in validation else "test" if name in test else "train"
        if part == split:
            yield path, {"keyword_spotting": {"text": path.parent.name, "language": "en"}}
