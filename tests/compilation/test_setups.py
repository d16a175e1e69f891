"""The TPU's own compiler takes the 7-billion presets on every slice they are set up for."""

import json
import subprocess
import sys

import pytest

from qwen_audio_jax.compilation.hardware import SETUPS

pytest.importorskip("libtpu", reason="needs the extra [tpu]")


def report(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "qwen_audio_jax.compile_report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.tpu_aot
@pytest.mark.parametrize(("preset", "topology"), SETUPS)
def test_it_compiles_and_fits(preset, topology):
    done = report(f"--config=configs/pretrain.py:{preset}@{topology}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["topology"] == topology
    assert found["fits"]
    assert found["hbm_total_gib"] < found["hbm_limit_gib"]
    assert found["tokens"] >= 4e6
