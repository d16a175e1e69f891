"""One run at a time in a run folder, whatever becomes of the one before."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.run_config import ConfigError
from qwen_audio_jax.training import workdir_lock
from qwen_audio_jax.training.workdir_lock import LOCK_FILE, locked

HOLD = """
import pathlib, sys, time
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.run_config import ConfigError
from qwen_audio_jax.training.workdir_lock import locked
try:
    with locked(pathlib.Path(sys.argv[1]), Group()):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except ConfigError as error:
    print(error, flush=True)
"""


def holder(workdir, seconds=60.0):
    command = [sys.executable, "-c", HOLD, str(workdir), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def other(tmp_path):
    """Another process that holds tmp_path / "run"."""
    process = holder(tmp_path / "run")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(workdir_lock, "BEAT_SECONDS", 0.05)


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks."""

    def flock(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(workdir_lock.fcntl, "flock", flock)


def test_a_second_run_is_told_who_trains_there(other, tmp_path):
    with (
        pytest.raises(ConfigError, match=rf"process {other.pid} on \S+ \(user .*trains there now"),
        locked(tmp_path / "run", Group()),
    ):
        pass
    assert json.loads((tmp_path / "run" / LOCK_FILE).read_text())["pid"] == other.pid


def test_one_that_stands_still_holds_it_and_one_that_is_killed_does_not(other, tmp_path):
    other.send_signal(signal.SIGSTOP)
    with pytest.raises(ConfigError, match="trains there now"), locked(tmp_path / "run", Group()):
        pass
    other.kill()
    other.wait()
    began = time.monotonic()
    with locked(tmp_path / "run", Group()) as lock:
        lock.check()
    assert time.monotonic() - began < workdir_lock.BEAT_SECONDS  # it did not have to watch


def test_of_many_that_start_at_once_one_gets_it(tmp_path):
    processes = [holder(tmp_path / "run", seconds=3) for _ in range(4)]
    said = [process.communicate()[0] for process in processes]
    assert sum(text == "held\n" for text in said) == 1, said


def test_a_folder_where_nothing_was_written_goes_with_the_lock(tmp_path):
    with locked(tmp_path / "new" / "run", Group()):
        assert (tmp_path / "new" / "run" / LOCK_FILE).is_file()
    assert not (tmp_path / "new" / "run").exists()
    with locked(tmp_path / "run", Group()):
        (tmp_path / "run" / "config.json").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_an_error_gives_it_free(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path, Group()):
        raise ZeroDivisionError
    with locked(tmp_path, Group()):
        pass


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"file: is no folder; --workdir must name one"),
        locked(tmp_path / "file", Group()),
    ):
        pass


def write_lock(workdir, **owner):
    (workdir / LOCK_FILE).write_text(json.dumps({"host": "far", "pid": 7, "token": "x"} | owner))


class Beating:
    """A run on another machine whose locks are not seen here."""

    def __init__(self, workdir: pathlib.Path):
        code = (
            "import json, sys, time\n"
            "for beat in range(10000):\n"
            "    owner = {'host': 'far', 'pid': 7, 'token': 'x', 'boot': 'far', 'beat': beat}\n"
            "    open(sys.argv[1], 'w').write(json.dumps(owner)); time.sleep(0.02)\n"
        )
        write_lock(workdir, boot="far", beat=-1)
        self._process = subprocess.Popen([sys.executable, "-c", code, str(workdir / LOCK_FILE)])
        while '"beat": -1' in (workdir / LOCK_FILE).read_text():  # it may take seconds to start
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


@pytest.mark.parametrize("locks", ["its own", "none"])
def test_a_beat_from_another_machine_holds_it(tmp_path, monkeypatch, request, locks):
    monkeypatch.setattr(workdir_lock, "BEAT_SECONDS", 1.0)
    if locks == "none":
        request.getfixturevalue("no_flock")
    with (
        Beating(tmp_path),
        pytest.raises(ConfigError, match=r"process 7 on far .* trains there now"),
        locked(tmp_path, Group()),
    ):
        pass


@pytest.mark.parametrize("locks", ["its own", "none"])
def test_a_beat_that_stands_still_does_not(tmp_path, capsys, quick, request, locks):
    if locks == "none":
        request.getfixturevalue("no_flock")
    write_lock(tmp_path, boot="far", beat=3)
    with locked(tmp_path, Group()) as lock:
        lock.check()
    assert "process 7 on far" in capsys.readouterr().out
    assert not (tmp_path / LOCK_FILE).exists()


def test_without_locks_the_beat_holds_it(tmp_path, monkeypatch, no_flock):
    monkeypatch.setattr(workdir_lock, "BEAT_SECONDS", 0.5)  # two seconds to be seen in
    with (
        locked(tmp_path, Group()),
        pytest.raises(ConfigError, match="trains there now"),
        locked(tmp_path, Group()),
    ):
        pass


def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path, quick):
    with locked(tmp_path, Group()) as lock:
        write_lock(tmp_path)
        with pytest.raises(ConfigError, match=r"process 7 on far .* has taken the run folder over"):
            lock.check()
        time.sleep(0.2)  # some beats
    assert json.loads((tmp_path / LOCK_FILE).read_text())["token"] == "x"


def test_a_lock_file_that_somebody_deletes_comes_back(tmp_path):
    with locked(tmp_path, Group()) as lock:
        (tmp_path / LOCK_FILE).unlink()
        lock.check()
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
        with pytest.raises(ConfigError, match="trains there now"), locked(tmp_path, Group()):
            pass
    assert not (tmp_path / LOCK_FILE).exists()


def test_one_that_stood_still_while_another_came_and_went_has_lost_it(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, "BEAT_SECONDS", 0.2)
    with locked(tmp_path, Group()) as lock, lock._one:  # so that nobody looks meanwhile
        (tmp_path / LOCK_FILE).unlink()
        with locked(tmp_path, Group()):
            pass
        time.sleep(1)
        lock._see()
        assert lock._lost == {}
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00" * 9, '{"host": null}', "\xff"])
def test_a_damaged_lock_file_is_no_holder(tmp_path, quick, text):
    (tmp_path / LOCK_FILE).write_text(text, encoding="latin-1")
    with locked(tmp_path, Group()) as lock:
        lock.check()


def test_other_processes_need_the_same_folder(tmp_path):
    with (
        pytest.raises(ConfigError, match="is not the folder that process 0 writes to"),
        locked(tmp_path, Group(index=1, count=2)),
    ):
        pass
