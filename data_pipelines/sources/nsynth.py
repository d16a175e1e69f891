"""NSynth: single notes of instruments (Engel et al., 2017; magenta.tensorflow.org/datasets/nsynth).

    nsynth-train/examples.json
    nsynth-train/audio/guitar_acoustic_001-082-050.wav

The folder that holds `nsynth-train` and `nsynth-valid`. The instrument of a note is its family
(`bass`, `synth_lead`).
"""

import json
import pathlib
from collections.abc import Iterator

TASKS = ("note_analysis", "instrument_classification")
LICENSE = "CC-BY-4.0"
LAYOUT = "nsynth-*/examples.json"
_PARTS = {"train": "nsynth-train", "validation": "nsynth-valid"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Notes, by name."""
    folder = root / _PARTS[split]
    listed = folder / "examples.json"
    if not listed.is_file():
        return
    for name, note in sorted(json.loads(listed.read_text(encoding="utf-8")).items()):
        instrument = note["instrument_family_str"].replace("_", " ")
        analysis = {
            "pitch": note["pitch"],
            "velocity": note["velocity"],
            "instrument": instrument,
            "qualities": note["qualities_str"],
        }
        labels = {"note_analysis": analysis, "instrument_classification": {"text": instrument}}
        yield folder / "audio" / f"{name}.wav", labels
