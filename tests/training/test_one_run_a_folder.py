"""Whole runs in a folder that another run has, or whose corpora have become others."""

import errno
import hashlib
import os
import shutil
import signal

import jax
import pytest
from commands import finished, losses, metrics, run, started, wait_for
from conftest import pretrain_values, write_corpus

from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.errors import TrainingError

CHECKPOINTS = {"checkpoint.every": 2, "train.steps": 6}


def content(folder):
    """Digest of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was killed after its fourth step: the corpora's folder and the run's."""
    root = tmp_path_factory.mktemp("data")
    write_corpus(root / "tones", train=12)
    workdir = root / "run"
    finished(root, workdir, **CHECKPOINTS)
    shutil.rmtree(workdir / "checkpoints" / "6")
    return root, workdir


@pytest.fixture
def stopped(begun, tmp_path):
    """A copy of it."""
    shutil.copytree(begun[0], tmp_path / "data")
    return tmp_path / "data", tmp_path / "data" / "run"


def build_anew(root, numbers):
    shutil.rmtree(root / "tones")
    write_corpus(root / "tones", train=numbers, text=("entirely", "other", "words"))


@pytest.mark.slow
def test_a_second_run_is_refused_while_one_trains(begun, tmp_path):
    root, workdir = begun[0], tmp_path / "run"
    process = started(root, workdir, environment={}, **{"checkpoint.every": 2, "train.steps": 40})
    wait_for(process, workdir, 3)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # until all its threads stand still
    before = content(workdir)
    second = run(root, workdir, **{"checkpoint.every": 2, "train.steps": 40})
    assert content(workdir) == before
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert second.returncode == 1
    assert f"process {process.pid} on " in second.stderr
    assert "trains there now; wait until it ends" in second.stderr
    assert "Traceback" not in second.stderr
    assert len(losses(workdir)) == 40


@pytest.mark.slow
def test_a_run_keeps_its_vocabulary_when_records_are_added(stopped):
    root, workdir = stopped
    vocabulary = content(workdir / "tokenizer")
    build_anew(root, range(16))
    assert content(root / "tones" / "tokenizer") != vocabulary
    done = finished(root, workdir, **CHECKPOINTS)
    assert "has 4 records more than when the run last started" in done.stderr
    assert "steps: 4 of 6 done" in done.stdout
    assert content(workdir / "tokenizer") == vocabulary
    after = [row["loss"] for row in metrics(workdir) if row["step"] > 4]
    assert after[0] < metrics(workdir)[0]["loss"] - 0.5  # another vocabulary would be at the start


def test_a_run_whose_records_are_gone_is_refused_and_left_as_it_is(stopped):
    root, workdir = stopped
    build_anew(root, range(4, 16))
    before = content(workdir)
    done = run(root, workdir, **CHECKPOINTS)
    assert done.returncode == 1
    assert "4 of the 12 records that the run in" in done.stderr
    assert f"--config.init_from={workdir}" in done.stderr
    assert "Traceback" not in done.stderr
    assert content(workdir) == before


def test_a_damaged_checkpoint_is_told_and_everything_left_as_it_is(stopped):
    root, workdir = stopped
    # What only the checkpoint's reader finds out, after all that comes before it.
    (path,) = (workdir / "checkpoints" / "4" / "state").glob("manifest*")
    path.write_bytes(b"nonsense")
    before = content(workdir)
    done = run(root, workdir, **CHECKPOINTS | {"evaluate.limit": 7})
    assert done.returncode == 1
    assert f"error: {workdir}/checkpoints/4: cannot be restored (" in done.stderr
    assert len(done.stderr.splitlines()[-1]) < 600
    assert "Traceback" not in done.stderr
    assert content(workdir) == before


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(stopped):
    root, workdir = stopped
    done = run(root, workdir, largest_file=1 << 20, **CHECKPOINTS)
    assert done.returncode == 1
    assert f"error: {workdir}/checkpoints: checkpoint 6 could not be written (" in done.stderr
    assert "it takes 24 MB and " in done.stderr
    assert done.stderr.endswith("the same command goes on from step 4\n")
    assert "Traceback" not in done.stderr
    finished(root, workdir, **CHECKPOINTS)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_that_stops_the_log_is_one_sentence(begun, monkeypatch, number):
    def train(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(TrainingError, match=r"nothing more can be written there .* step 4$"):
        loop.run(from_mapping(pretrain_values()), begun[1])


def test_too_little_memory_is_one_sentence(begun, monkeypatch):
    def train(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmany more lines")

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(TrainingError, match=r"config\.model\.remat=full.*Out of memory\)$"):
        loop.run(from_mapping(pretrain_values()), begun[1])
