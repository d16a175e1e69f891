"""What holds for every launch script."""

import os
import pathlib
import shutil
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_reads_it(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        ["shellcheck", *map(str, SCRIPTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_outside_slurm_the_slurm_script_says_so():
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
    script = str(LAUNCH / "gpu_slurm.sh")
    done = subprocess.run(["bash", script, "--config=a.py"], env=environment, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: this is not a Slurm job; submit it: sbatch ")
    done = subprocess.run(["bash", script, "--help"], env=environment, capture_output=True)
    assert b"sbatch --nodes=2" in done.stdout
    assert b"#SBATCH" not in done.stdout
