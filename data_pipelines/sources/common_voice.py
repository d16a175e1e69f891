"""Common Voice: sentences read by volunteers (Ardila et al., 2020; commonvoice.mozilla.org).

    cv-corpus-17.0-2024-03-15/de/train.tsv
    cv-corpus-17.0-2024-03-15/de/clips/common_voice_de_17298952.mp3

The folder of one language. Sex and age are what some volunteers said of themselves; releases
before 17 write "female" where later ones write "female_feminine".
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import tab_separated
from qwen_audio_jax.rendering.languages import LANGUAGES

TASKS = ("asr", "language_identification", "speaker_gender", "speaker_age")
LICENSE = "CC0-1.0"
LAYOUT = "validated.tsv"
_PARTS = {"train": "train.tsv", "validation": "dev.tsv"}
_GENDERS = {
    "female": "female",
    "female_feminine": "female",
    "male": "male",
    "male_masculine": "male",
}
_MISSPELT = {"fourties": "forties"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Sentences, in the table's order."""
    columns = ("path", "sentence", "age", "gender", "locale")
    for row in tab_separated(root / _PARTS[split], columns):
        language = language_of(row["locale"])
        labels = {"asr": {"text": row["sentence"].strip(), "language": language}}
        if language in LANGUAGES:
            labels["language_identification"] = {"text": LANGUAGES[language]}
        if gender := _GENDERS.get(row["gender"]):
            labels["speaker_gender"] = {"text": gender, "language": language}
        if age := row["age"]:
            labels["speaker_age"] = {"text": _MISSPELT.get(age, age), "language": language}
        yield root / "clips" / row["path"], labels


def language_of(locale: str) -> str:
    """`zh-CN` is zh, and the Chinese of Hong Kong is Cantonese."""
    return "yue" if locale == "zh-HK" else locale.partition("-")[0]
