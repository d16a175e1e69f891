"""tests/golden is what its script makes of the whole references."""

import pathlib
import runpy

import numpy as np
from safetensors.numpy import load_file

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def contents(path):
    if path.suffix == ".npz":
        return dict(np.load(path))
    if path.suffix == ".safetensors":
        return load_file(path)
    return {"text": np.array(path.read_text())}


def test_golden_files_are_what_the_script_makes(references, tmp_path, monkeypatch):
    monkeypatch.setenv("QWEN_AUDIO_REFERENCES", str(references))
    runpy.run_path(str(GOLDEN / "make_golden.py"))["main"](tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    kept = {path.relative_to(GOLDEN) for path in GOLDEN.glob("*/*.*") if "_audio" in str(path)}
    assert made == kept
    for path in made:
        new, old = contents(tmp_path / path), contents(GOLDEN / path)
        assert new.keys() == old.keys()
        for key, array in new.items():
            np.testing.assert_array_equal(array, old[key], err_msg=f"{path}: {key}")


def test_golden_files_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*.*")) < 4.5e6
