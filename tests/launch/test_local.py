"""launch/local.sh: several processes that begin, speak and end together."""

import contextlib
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import write_corpus

REPOSITORY = pathlib.Path(__file__).parents[2]
LOCAL = REPOSITORY / "launch" / "local.sh"

# In the place of `python -m qwen_audio_jax.main`; anything else goes to the real python.
STAND_IN = """#!{python} -SE
import json, os, pathlib, signal, sys, time
if sys.argv[1] != "-m":
    os.execv("{python}", ["{python}", *sys.argv[1:]])
number = int(os.environ.get("JAX_PROCESS_ID", 0))
folder = pathlib.Path("{folder}")
names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "CUDA_VISIBLE_DEVICES")
environment = {{name: os.environ.get(name) for name in names}}
stopped = []
for name in ("SIGINT", "SIGTERM"):
    signal.signal(getattr(signal, name), lambda number, _: stopped.append(number))
part = folder / f"{{number}}.part"
part.write_text(json.dumps([sys.argv[1:], environment, os.getcwd()]))
part.rename(folder / f"{{number}}.json")
print("half a line\\rthe line again\\nprocess", number, flush=True)
{body}
"""
UNTIL_STOPPED = """
while not stopped:
    time.sleep(0.05)
time.sleep(0.3)
print("saved after", signal.Signals(stopped[0]).name, "times", len(stopped), flush=True)
"""


@pytest.fixture
def local(tmp_path):
    """Begins local.sh with a stand-in whose body is given."""

    def begin(body: str, *words: str, **environment: str) -> subprocess.Popen:
        python = tmp_path / "bin" / "python"
        python.parent.mkdir(exist_ok=True)
        python.write_text(STAND_IN.format(python=sys.executable, folder=tmp_path, body=body))
        python.chmod(0o755)
        return subprocess.Popen(
            ["bash", str(LOCAL), *words],
            env=os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    begin.calls = lambda: [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    begin.python = tmp_path / "bin" / "python"
    return begin


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_process_is_the_program_itself(local):
    odd = "--config.data.mixture={\"it's\": 1.0,  '$HOME': `x`}"
    process = local("sys.exit(7)", odd, "", "--workdir=a b")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert output == "half a line\rthe line again\nprocess 0\n".replace("\r", "\n")
    ((arguments, environment, folder),) = local.calls()
    assert arguments == [
        *("-m", "qwen_audio_jax.main", "--config=configs/pretrain.py"),
        *(odd, "", "--workdir=a b"),
    ]
    assert set(environment.values()) <= {None, os.environ.get("CUDA_VISIBLE_DEVICES")}
    assert folder == str(REPOSITORY)


@pytest.mark.parametrize("count", ["-n 3", "-n3"])
def test_several_are_told_of_one_another(local, count):
    odd = "--config.data.mixture={\"it's\": 1.0,  '$HOME': `x`}"
    process = local("", *count.split(), odd, "--config=a.py", CUDA_VISIBLE_DEVICES="4,5,6")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    lines = output.splitlines()
    for expected in (
        "half a line",
        "process 0",
        "[1] half a line",
        "[1] process 1",
        "[2] process 2",
    ):
        assert expected in lines
    calls = local.calls()
    assert len(calls) == 3
    for number, (arguments, environment, _) in enumerate(calls):
        assert arguments == ["-m", "qwen_audio_jax.main", odd, "--config=a.py"]
        assert environment["JAX_PROCESS_ID"] == str(number)
        assert environment["JAX_NUM_PROCESSES"] == "3"
        assert environment["CUDA_VISIBLE_DEVICES"] == str(4 + number)
        assert environment["JAX_COORDINATOR_ADDRESS"] == calls[0][1]["JAX_COORDINATOR_ADDRESS"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", calls[0][1]["JAX_COORDINATOR_ADDRESS"])


def test_when_one_dies_the_others_are_ended_and_its_status_returned(local):
    process = local("if number == 1: sys.exit(5)" + UNTIL_STOPPED, "-n", "3")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "error: process 1 ended with status 5; ending the others" in output
    assert "saved after SIGTERM times 1\n" in output
    assert "[2] saved after SIGTERM times 1\n" in output


def test_one_that_is_killed_counts_as_dead_and_one_that_hangs_is_killed(local):
    body = "if number == 0: os.kill(os.getpid(), 9)\nwhile True: time.sleep(1)"
    process = local(body, "-n", "2", GRACE_SECONDS="1")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_all_once_and_they_end_in_order(local, number):
    process = local(UNTIL_STOPPED, "-n", "2")
    wait_for(lambda: len(local.calls()) == 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"saved after {number.name} times 1\n" in output
    assert f"[1] saved after {number.name} times 1\n" in output


def test_ctrl_c_at_a_terminal_is_handed_on_once(local):
    local(UNTIL_STOPPED, "--help").communicate(timeout=60)  # puts the stand-in there
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PATH"] = f"{local.python.parent}:{os.environ['PATH']}"
        os.execvp("bash", ["bash", str(LOCAL), "-n", "2"])
    try:
        wait_for(lambda: len(local.calls()) == 2)
        os.write(terminal, b"\x03")
        output = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while chunk := os.read(terminal, 1000):
                output += chunk
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"saved after SIGINT times 1" in output
    assert b"[1] saved after SIGINT times 1" in output


@pytest.mark.parametrize("count", ["0", "two", "-1", ""])
def test_a_number_that_is_none_is_told(local, count):
    process = local("", "-n", count)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == f"error: -n takes the number of processes, 1 or more, not '{count}'\n"


def test_help_shows_how(local):
    output, _ = local("", "--help").communicate(timeout=60)
    assert "launch/local.sh -n 2 --workdir=runs/two" in output
    assert "set -e" not in output
    assert not local.calls()


@pytest.mark.slow
def test_two_real_processes_train_one_model(tmp_path):
    write_corpus(tmp_path / "data" / "tones", train=40)
    done = subprocess.run(
        [
            *("bash", str(LOCAL), "-n", "2", f"--workdir={tmp_path / 'run'}"),
            f"--config.data.root={tmp_path / 'data'}",
            '--config.data.mixture={"tones": 1.0}',
            "--config.data.shapes=((4, 64, 128),)",
            "--config.train.steps=6",
            "--config.train.log_every=1",
        ],
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(REPOSITORY),
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "mesh: replica 1, fsdp 2, tensor 1" in done.stdout
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()
