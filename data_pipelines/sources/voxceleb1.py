"""VoxCeleb 1: interviews of celebrities (Nagrani et al., 2017; robots.ox.ac.uk/~vgg/data/voxceleb).

    vox1_meta.csv
    wav/id10003/na8-QEFmj44/00001.wav

The development speakers; those of the test set are left alone. Every twentieth speaker is for
validation. Of each speaker, each clip is paired with the next video's clip of the same place, and
in turn with one of the speaker that follows in the list, so that there are as many pairs of one
speaker as of two, and never two clips of one video.
"""

import itertools
import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import rows

TASKS = ("speaker_verification", "speaker_gender")
LICENSE = "LicenseRef-VoxCeleb"
LAYOUT = "vox1_meta.csv"
_GENDERS = {"f": "female", "m": "male"}
_EVERY = 20

Clips = tuple[pathlib.Path, ...]


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path | Clips, dict[str, dict]]]:
    """Clips and pairs of clips, by speaker, video and number."""
    listed = rows(root / LAYOUT, ("VoxCeleb1 ID", "Gender", "Set"), "\t")
    genders = {r["VoxCeleb1 ID"]: _GENDERS[r["Gender"]] for r in listed if r["Set"] == "dev"}
    mine = [
        name
        for number, name in enumerate(sorted(genders))
        if (number % _EVERY == 0) == (split == "validation") and (root / "wav" / name).is_dir()
    ]
    for name in mine:
        for path in itertools.chain(*_videos(root, name)):
            yield path, {"speaker_gender": {"text": genders[name]}}
    for name, following in zip(mine, [*mine[1:], *mine[:1]], strict=True):
        others = list(itertools.chain(*_videos(root, following)))
        for number, (one, same) in enumerate(_pairs(_videos(root, name))):
            yield (one, same), {"speaker_verification": {"text": "same"}}
            if name != following:
                pair = (one, others[number % len(others)])
                yield pair, {"speaker_verification": {"text": "different"}}


def _videos(root: pathlib.Path, speaker: str) -> list[list[pathlib.Path]]:
    """The clips of each of a speaker's videos."""
    videos = sorted((root / "wav" / speaker).iterdir())
    return [found for video in videos if (found := sorted(video.glob("*.wav")))]


def _pairs(videos: list[list[pathlib.Path]]) -> Iterator[Clips]:
    for video, following in itertools.pairwise([*videos, *videos[:1]] if videos[1:] else []):
        for number, path in enumerate(video):
            yield path, following[number % len(following)]
