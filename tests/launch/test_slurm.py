"""launch/gpu_slurm.sh on a real Slurm, whose one node has two CPUs and two things called GPUs."""

import json
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time

import pytest
import slurm_cluster
from conftest import write_corpus

pytestmark = pytest.mark.slow
REPOSITORY = pathlib.Path(__file__).parents[2]
SCRIPT = str(REPOSITORY / "launch" / "gpu_slurm.sh")


@pytest.fixture(scope="module")
def cluster():
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        pytest.skip("this machine's name has no address, and JAX finds process 0 by name")
    # Not pytest's folder: its path is longer than a socket's may be.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slurm"))
    with slurm_cluster.SlurmCluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder / "tones", train=40)
    return folder


class Job:
    """A submitted run of the tiny preset on a corpus of tones."""

    def __init__(self, cluster, root, folder, *sbatch: str, steps: int, environment=None):
        self.cluster, self.folder, self.workdir = cluster, folder, folder / "run"
        flags = {
            "data.root": root,
            "data.mixture": '{"tones": 1.0}',
            "data.shapes": "((4, 64, 128),)",
            "train.steps": steps,
            "train.log_every": 1,
            "optimizer.warmup_steps": 3,
            "checkpoint.every": 1000,
        }
        self.id = cluster.run(
            "sbatch",
            "--parsable",
            f"--output={folder / 'job.log'}",
            *sbatch,
            SCRIPT,
            "--config=configs/pretrain.py",
            f"--workdir={self.workdir}",
            *(f"--config.{name}={value}" for name, value in flags.items()),
            cwd=REPOSITORY,
            env={
                # The interpreter of these tests; a user has VENV.
                "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(REPOSITORY),
                "JAX_PLATFORMS": "cpu",
                "LOGS": str(folder / "logs"),
            }
            | (environment or {}),
        )

    def log(self, name: str = "") -> str:
        path = self.folder / "logs" / self.id / name if name else self.folder / "job.log"
        return path.read_text() if path.exists() else ""

    def ends(self, *states: str, seconds: float = 600) -> None:
        state = self.cluster.wait_for(
            self.id, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", seconds=seconds
        )
        assert state in states, self.log() + self.log("process-0.log") + self.log("process-1.log")

    def trains(self, steps: int, seconds: float = 400) -> None:
        """Waits until it has logged so many steps."""
        end = time.monotonic() + seconds
        while len(self.steps()) < steps:
            state = self.cluster.state(self.id)
            assert state in ("PENDING", "RUNNING", "CONFIGURING"), self.log()
            assert time.monotonic() < end, self.log("process-0.log")
            time.sleep(0.2)

    def is_put_back(self) -> int:
        """Waits until it is in the queue again. Returns the step that it has saved."""
        self.cluster.wait_for(self.id, "PENDING", seconds=200)
        # The state changes before the processes have ended.
        self.cluster.wait_until_idle(seconds=200)
        saved = [path.name for path in (self.workdir / "checkpoints").glob("[0-9]*")]
        assert len(saved) == 1, self.log() + self.log("process-0.log")
        return int(saved[0])

    def steps(self) -> list[int]:
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def test_near_its_time_limit_a_job_saves_and_goes_on_in_its_next_turn(cluster, root, tmp_path):
    job = Job(cluster, root, tmp_path, "--nodes=1", "--gpus-per-node=2", "--exclusive", steps=1000)
    job.trains(5)
    assert (
        "start 1: 1 nodes of 2 processes with 1 CPU cores each; "
        f"logs in {tmp_path}/logs/{job.id}\n" in job.log()
    )
    # What --signal has Slurm send two minutes before the limit.
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    saved = job.is_put_back()
    assert "time is nearly up: saving" in job.log()
    assert "back to the queue" in job.log()
    # Slurm waits two minutes before it starts such a job again; no test has to. But a start in the
    # very second in which the job has ended is refused, as if it were the old one.
    cluster.run("scontrol", "update", f"JobId={job.id}", "StartTime=now+2")
    job.trains(saved + 3)
    assert "start 2: " in job.log()
    assert f"steps: {saved} of 1000 done" in job.log("process-0.log")
    assert job.steps() == list(range(1, len(job.steps()) + 1))
    cluster.run("scancel", job.id)
    job.ends("CANCELLED")
    assert len(list((job.workdir / "checkpoints").iterdir())) == 2, "a cancelled job saves, too"


def test_a_job_that_is_preempted_saves_and_is_put_back(cluster, root, tmp_path):
    job = Job(cluster, root, tmp_path, "--nodes=1", "--ntasks=2", steps=1000)
    job.trains(3)
    cluster.run("scontrol", "requeue", job.id)
    assert job.is_put_back() >= 3
    cluster.run("scancel", job.id)


def test_it_trains_to_its_end(cluster, root, tmp_path):
    job = Job(cluster, root, tmp_path, "--nodes=1", "--ntasks=2", steps=8)
    job.ends("COMPLETED")
    assert job.steps() == list(range(1, 9))
    assert (job.workdir / "checkpoints" / "8").is_dir()
    assert "mesh: replica 1, fsdp 2, tensor 1" in job.log("process-0.log")
    assert not (tmp_path / "logs" / job.id / "process-2.log").exists()


def test_a_failure_is_the_jobs_and_says_where_to_look(cluster, root, tmp_path):
    job = Job(cluster, root / "nowhere", tmp_path, "--nodes=1", "--ntasks=2", steps=8)
    job.ends("FAILED")
    assert "error: a process ended with status 1; see" in job.log()
    assert "no corpus there" in job.log("process-0.log")


def test_tasks_that_do_not_fit_the_gpus_are_refused(cluster, root, tmp_path):
    flags = ("--nodes=1", "--gpus-per-node=2", "--ntasks-per-node=1")
    job = Job(cluster, root, tmp_path, *flags, steps=8)
    job.ends("FAILED")
    assert "error: 1 tasks for 2 GPUs on a node; leave out --ntasks-per-node" in job.log()


def test_too_few_cores_are_refused(cluster, root, tmp_path):
    job = Job(cluster, root, tmp_path, "--nodes=1", "--gpus-per-node=2", steps=8)
    job.ends("FAILED")
    assert "1 CPU cores on a node for 2 processes; add --exclusive" in job.log()


def test_hooks_run_before_the_program(cluster, root, tmp_path):
    (tmp_path / "setup.sh").write_text("export GREETING=hello\n")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text("export GREETING=$GREETING-again\n")
    hooks = {
        "SETUP": str(tmp_path / "setup.sh"),
        "VENV": str(tmp_path / "venv"),
        "WRAP": "echo wrapped",
        "SRUN": "--label",
    }
    job = Job(cluster, root, tmp_path, "--ntasks=1", steps=1, environment=hooks)
    job.ends("COMPLETED")
    assert "0: wrapped python -m qwen_audio_jax.main --config=configs/pretrain.py" in job.log(
        "process-0.log"
    )
