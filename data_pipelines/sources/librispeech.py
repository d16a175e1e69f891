"""LibriSpeech: read English books (Panayotov et al., 2015; openslr.org/12).

    LibriSpeech/SPEAKERS.TXT
    LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac
    LibriSpeech/train-clean-100/103/1240/103-1240.trans.txt

Whatever `train-*` and `dev-*` parts are there are read; `test-*` is left alone. The transcripts are
in capitals without punctuation; they are lower-cased, as the originals score them.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import lines

TASKS = ("asr", "speaker_gender")
LICENSE = "CC-BY-4.0"
LAYOUT = "SPEAKERS.TXT"
_PARTS = {"train": "train-*", "validation": "dev-*"}
_GENDERS = {"F": "female", "M": "male"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Utterances, by part, speaker, chapter and number."""
    genders = _genders(root / "SPEAKERS.TXT")
    for transcript in sorted(root.glob(f"{_PARTS[split]}/*/*/*.trans.txt")):
        for line in lines(transcript):
            name, _, text = line.partition(" ")
            labels = {"asr": {"text": text.lower(), "language": "en"}}
            if gender := genders.get(name.partition("-")[0]):
                labels["speaker_gender"] = {"text": gender, "language": "en"}
            yield transcript.with_name(f"{name}.flac"), labels


def _genders(path: pathlib.Path) -> dict[str, str]:
    """`14   | F | train-clean-360  | 25.03 | Kristin LeMoine`; comments begin with `;`."""
    genders = {}
    for line in lines(path):
        if not line.startswith(";"):
            speaker, sex, *_ = (part.strip() for part in line.split("|"))
            genders[speaker] = _GENDERS[sex]
    return genders
