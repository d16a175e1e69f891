"""CoVoST 2: Common Voice in translation (Wang et al., 2020; facebookresearch/covost).

    cv-corpus-4-2019-12-10/fr/covost_v2.fr_en.train.tsv
    cv-corpus-4-2019-12-10/fr/clips/common_voice_fr_17299399.mp3

The tables that its `get_covost_splits.py` writes, in the folder of the language that is spoken; as
many target languages as there are tables.
"""

import csv
import pathlib
from collections.abc import Iterator

from data_pipelines.sources.common_voice import language_of
from data_pipelines.sources.tables import rows

TASKS = ("speech_translation", "asr")
LICENSE = "CC0-1.0"
LAYOUT = "covost_v2.*.train.tsv"
_PARTS = {"train": "train", "validation": "dev"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Sentences, by target language; a sentence is transcribed once."""
    transcribed = set()
    for path in sorted(root.glob(f"covost_v2.*.{_PARTS[split]}.tsv")):
        languages = path.name.split(".")[1].split("_")
        source, target = (language_of(language) for language in languages)
        columns = ("path", "sentence", "translation")
        for row in rows(path, columns, "\t", quoting=csv.QUOTE_NONE, escapechar="\\"):
            labels = {
                "speech_translation": {
                    "text": row["translation"].strip(),
                    "language": source,
                    "target_language": target,
                }
            }
            if row["path"] not in transcribed:
                transcribed.add(row["path"])
                labels["asr"] = {"text": row["sentence"].strip(), "language": source}
            yield root / "clips" / row["path"], labels
