"""MELD: dialogues of a television series (Poria et al., 2019; declare-lab/MELD).

    train_sent_emo.csv
    train_splits/dia0_utt3.wav

`MELD.Raw` with its archives unpacked, where they lie or each into a folder of its own (`train/`,
`dev/`). The clips are videos; docs/data.md has the line that takes their sound out.
"""

import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import rows

TASKS = ("emotion_recognition", "asr")
LICENSE = "GPL-3.0-only"
LAYOUT = "**/train_splits"
_PARTS = {
    "train": ("train_sent_emo.csv", "train_splits"),
    "validation": ("dev_sent_emo.csv", "dev_splits_complete"),
}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Utterances, in the table's order."""
    table, folder = (_found(root, name) for name in _PARTS[split])
    columns = ("Utterance", "Emotion", "Dialogue_ID", "Utterance_ID")
    for row in rows(table, columns):
        name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.wav"
        yield (
            folder / name,
            {
                "emotion_recognition": {"text": row["Emotion"].strip(), "language": "en"},
                "asr": {"text": _mended(row["Utterance"]), "language": "en"},
            },
        )


def _found(root: pathlib.Path, name: str) -> pathlib.Path:
    """Where a table or a folder of clips lies."""
    return next(iter(sorted(root.glob(f"*/{name}"))), root / name)


def _mended(text: str) -> str:
    """The tables have Windows-1252 quotes and dashes as if they were control characters."""
    mended = (
        bytes([ord(c)]).decode("cp1252", "ignore") if "\x80" <= c <= "\x9f" else c for c in text
    )
    return " ".join("".join(mended).split())
