"""VocalSound: human sounds that are not speech (Gong et al., 2022; YuanGongND/vocalsound).

    audio_16k/f0003_0_cough.wav
    datafiles/tr.json

The 16 kHz release. A file's name says the speaker's sex, the speaker, a count and the sound.
"""

import json
import pathlib
from collections.abc import Iterator

TASKS = ("vocal_sound_classification", "speaker_gender")
LICENSE = "CC-BY-SA-4.0"
LAYOUT = "datafiles/tr.json"
_PARTS = {"train": "tr.json", "validation": "val.json"}
_SOUNDS = {
    "cough": "Cough",
    "laughter": "Laughter",
    "sigh": "Sigh",
    "sneeze": "Sneeze",
    "sniff": "Sniff",
    "throatclearing": "Throat clearing",
}
_GENDERS = {"f": "female", "m": "male"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Sounds, by name."""
    listed = json.loads((root / "datafiles" / _PARTS[split]).read_text(encoding="utf-8"))
    # The lists hold paths on their authors' machine.
    for name in sorted(row["wav"].rpartition("/")[2] for row in listed["data"]):
        sound = pathlib.PurePath(name).stem.rpartition("_")[2]
        labels = {
            "vocal_sound_classification": {"text": _SOUNDS[sound]},
            "speaker_gender": {"text": _GENDERS[name[0]]},
        }
        yield root / "audio_16k" / name, labels
