"""FLEURS: Wikipedia sentences read in 102 languages (Conneau et al., 2022; google/fleurs).

    en_us/train.tsv
    en_us/audio/train/10004088536354799741.wav

The folder of one language, its archives unpacked. The tables have no header.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.tables import lines
from qwen_audio_jax.rendering.languages import LANGUAGES

TASKS = ("asr", "language_identification", "speaker_gender")
LICENSE = "CC-BY-4.0"
LAYOUT = "train.tsv"
_PARTS = {"train": "train", "validation": "dev"}
_COLUMNS = 7  # id, file, raw transcription, transcription, characters, samples, gender
_CODES = {"cmn": "zh"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Sentences, in the table's order, with capitals and punctuation."""
    part = _PARTS[split]
    code = root.resolve().name.partition("_")[0]
    language = _CODES.get(code, code)
    path = root / f"{part}.tsv"
    for number, line in enumerate(lines(path), start=1):
        cells = line.split("\t")
        if len(cells) != _COLUMNS:
            raise RejectedRecord(
                f"{path}, line {number}: has {len(cells)} columns, and FLEURS has {_COLUMNS}"
            )
        _, name, raw, *_, gender = cells
        labels = {"asr": {"text": raw.strip(), "language": language}}
        if language in LANGUAGES:
            labels["language_identification"] = {"text": LANGUAGES[language]}
        if gender.lower() in ("female", "male"):
            labels["speaker_gender"] = {"text": gender.lower(), "language": language}
        yield root / "audio" / part / name, labels
