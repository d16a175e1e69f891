"""The line between processes: whoever is missing, differs, fails or dies is named by all others.

Real processes, without JAX: a script enters the group and does one thing.
"""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from qwen_audio_jax.parallel.distributed import ProcessInfo, process_info
from qwen_audio_jax.parallel.group import Group, GroupError

HOST = socket.gethostname()
PRELUDE = """
import os, signal, sys, threading, time
from qwen_audio_jax.parallel.group import Group, GroupError
address, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def connect(**waits):
    waits = {"start_timeout": 20, "timeout": 20} | waits
    try:
        return Group.connect(address, number, count, **waits)
    except GroupError as error:
        sys.exit(f"error: {error}")
"""


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def together(body, numbers=(0, 1), count=2, said=None):
    """Runs a script as several processes; returns (exit status, what it printed) of each."""
    address = f"localhost:{free_port()}"
    script = PRELUDE + textwrap.dedent(body)
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                script,
                address,
                str(number),
                str((said or {}).get(number, count)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in numbers
    ]
    return [(p.wait(timeout=60), p.stdout.read()) for p in processes]


def test_all_wait_for_the_last_and_are_told_for_whom():
    done = together(
        """
        group = connect()
        time.sleep(6 * (number == 2))
        group.barrier("checkpoint 350", {"config.train.steps": "12"})
        print("together")
        group.close()
        """,
        numbers=(0, 1, 2),
        count=3,
    )
    waiting = f"waiting at 'checkpoint 350' for process 2 ({HOST}) of 3\ntogether\n"
    assert done == [(0, waiting), (0, waiting), (0, "together\n")]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "group = connect()\ntime.sleep(9 * (number == 1))\n"
            "group.barrier('checkpoint 350', timeout=1)",
            f"waited 1 s at 'checkpoint 350' for process 1 ({HOST}) of 3",
        ),
        (
            "connect().barrier('the data', {'corpus': 'AB'[number == 1], 'other': 'same'})",
            f"process 1 ({HOST}) of 3 differs from process 0 ({HOST}): corpus is B there and A on "
            "process 0; start all processes with the same command, code and data",
        ),
        (
            "connect().barrier('the data', {'corpus': 'A'} if number != 1 else {})",
            f"process 1 ({HOST}) of 3 differs from process 0 ({HOST}): corpus is missing there and "
            "A on process 0",
        ),
    ],
)
def test_who_is_late_or_differs_is_named_on_every_process(body, sentence):
    for status, text in together(body, numbers=(0, 1, 2), count=3):
        assert status == 1
        assert text.count("error: ") == text.count("\n") == 1
        assert sentence in text


@pytest.mark.parametrize("number", [0, 1])
def test_a_failure_is_told_to_the_others(number):
    done = together(
        f"""
        group = connect()
        if number == {number}:
            group.fail("data/x: no corpus there")
        time.sleep(30)  # stands for an exchange that never ends
        """,
        numbers=(0, 1, 2),
        count=3,
    )
    for other, (status, text) in enumerate(done):
        told = "" if other == number else f"process {number} ({HOST}) of 3: "
        assert (status, text) == (1, f"error: {told}data/x: no corpus there\n")


def test_what_all_find_wrong_is_said_once_by_each():
    body = "group = connect()\ntime.sleep(0.2 * number)\ngroup.fail('config.mesh: no')"
    for status, text in together(body, numbers=(0, 1, 2), count=3):
        assert status == 1
        assert text.startswith("error: ")
        assert text.endswith("config.mesh: no\n")
        assert text.count("\n") == 1


@pytest.mark.parametrize("number", [0, 1])
def test_a_death_is_told_to_the_others(number):
    done = together(
        f"""
        group = connect()
        time.sleep(1)
        if number == {number}:
            os.kill(os.getpid(), signal.SIGKILL)
        group.barrier("checkpoint 350")
        """,
        numbers=(0, 1, 2),
        count=3,
    )
    for other, (status, text) in enumerate(done):
        if other == number:
            assert status == -signal.SIGKILL
        else:
            assert status == 1
            assert text.startswith(f"error: process {number} ")
            assert "has ended without a word; its own log says why" in text


def test_who_does_not_come_is_named():
    for status, text in together("connect(start_timeout=2)", numbers=(0, 1), count=3):
        assert status == 1
        assert "waited 2 s at 'the start' for process 2 of 3; see its log" in text
    ((status, text),) = together("connect(start_timeout=2)", numbers=(1,))
    assert status == 1
    assert "process 1 of 2 waited 2 s for process 0 at localhost:" in text
    assert "(Connection refused); see whether it runs and can be reached from here" in text


def test_processes_that_are_counted_differently_or_twice_are_named():
    for status, text in together("connect()", said={1: 3}):
        assert status == 1
        assert f"process 1 ({HOST}) is one of 3 processes and process 0 one of 2" in text
    for status, text in together("connect()", numbers=(0, 1, 1), count=3):
        assert status == 1
        assert f"there are two processes 1 of 3, on {HOST} and {HOST}; JAX_PROCESS_ID" in text


def test_a_stranger_at_the_port_does_no_harm():
    done = together(
        """
        import socket
        if number:
            time.sleep(1)
            host, port = address.split(":")
            stranger = socket.create_connection((host, int(port)))
            stranger.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
        group = connect()
        group.close()
        """
    )
    assert done == [(0, ""), (0, "")]


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with pytest.raises(GroupError, match=rf"wait for the others at port {port} \(Address alre"):
            Group.connect(f"localhost:{port}", 0, 2, start_timeout=1, timeout=1)
        # One who calls there finds something else.
        with pytest.raises(GroupError, match=r"waited 1 s for process 0"):
            Group.connect(f"localhost:{port}", 1, 2, start_timeout=1, timeout=1)


def test_the_port_is_free_for_jax_afterwards():
    done = together(
        """
        import socket
        group = connect()
        if not number:
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("", int(address.split(":")[1])))
            server.listen()
        group.close()
        """
    )
    assert done == [(0, ""), (0, "")]


def test_alone_nothing_waits(capsys):
    group = Group()
    started = time.monotonic()
    group.barrier("checkpoint 350", {"a": "b"})
    group.close()
    assert time.monotonic() - started < 1
    with pytest.raises(SystemExit, match="1"):
        group.fail("no")
    assert capsys.readouterr().err == "error: no\n"


THREE = {"JAX_COORDINATOR_ADDRESS": "a:12", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


def test_the_environment_says_which_process_this_is():
    assert process_info(THREE, 1) == ProcessInfo("a:12", 2, 1)
    assert process_info(THREE | {"JAX_LOCAL_DEVICE_IDS": "2,3"}, 1) == ProcessInfo(
        "a:12", 2, 1, [2, 3]
    )
    assert process_info(THREE | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, 1) is None
    assert process_info({}, 1) is None


def test_slurm_says_it_too(monkeypatch):
    for key, value in {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "node[3-4]",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
    }.items():
        monkeypatch.setenv(key, value)
    assert process_info(os.environ, 1) == ProcessInfo(f"node3:{65535 - 2**12 + 1 + 7}", 2, 1, [0])
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert process_info(os.environ, 1) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"JAX_PROCESS_ID": ""},
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES is set and JAX_PROCESS_ID is not",
        ),
        (
            {"JAX_NUM_PROCESSES": "", "JAX_PROCESS_ID": ""},
            "JAX_COORDINATOR_ADDRESS is set and JAX_NUM_PROCESSES and JAX_PROCESS_ID are not",
        ),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES: must be a number, not 'two'"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID: must be from 0 to 1"),
        ({"JAX_COORDINATOR_ADDRESS": "here"}, "must be HOST:PORT, not 'here'"),
    ],
)
def test_a_mistaken_environment_is_one_sentence(changes, sentence):
    with pytest.raises(GroupError) as error:
        process_info(THREE | changes, 1)
    assert sentence in str(error.value)
