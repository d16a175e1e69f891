"""GTZAN: music in ten genres (Tzanetakis and Cook, 2002).

    genres_original/blues/blues.00000.wav

Its clips last a little over 30 s. It has no split of its own and no licence: the last of every ten
numbers is for validation. Some of its files are the same recording, and one (jazz.00054) is
broken in most copies, which the build finds and rejects (Sturm, 2013).
"""

import pathlib
from collections.abc import Iterator

TASKS = ("genre_classification",)
LICENSE = "LicenseRef-none-given"
LAYOUT = "genres*/blues/blues.00000.*"
_VALIDATION_DIGIT = "9"


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Recordings, by genre and number; the first release has `genres/` and `.au` files."""
    for path in sorted(root.glob("genres*/*/*.[0-9][0-9][0-9][0-9][0-9].*")):
        number = path.name.split(".")[1]
        if number.endswith(_VALIDATION_DIGIT) == (split == "validation"):
            yield path, {"genre_classification": {"text": path.parent.name}}
