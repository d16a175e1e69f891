"""The script that damages audio files runs, and finds nothing."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_a_few_damaged_files():
    command = [sys.executable, "benchmarks/fuzz_audio.py", "--files=150", "--seed=7"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "150" in run.stdout
