"""One run at a time in a run folder.

`run.lock` in the folder says who trains there. Who has it holds `flock` on it, which the system
ends with the process, so a crash leaves nothing that has to be removed by hand. Where the file
system has no such lock, or one that other machines do not see, a beat tells: the holder writes a
number into the file every few seconds, and who finds the file of another machine watches whether
that number still rises.
"""

import contextlib
import errno
import fcntl
import getpass
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.run_config import ConfigError

LOCK_FILE = "run.lock"
BEAT_SECONDS = 5.0
"""Between two beats."""
_DEAD = 4
"""A holder whose beat stands still for so many of them is taken for dead."""

_BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")
_BYTES = 1024
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class WorkdirLock:
    """What this process holds of a run folder."""

    def __init__(self, path: pathlib.Path, handle: int, owner: dict[str, Any]):
        """Args: path: the lock file. handle: open on it. owner: what it says of this process."""
        self._path, self._handle, self._owner = path, handle, owner
        self._lost: dict[str, Any] | None = None
        self._held = time.monotonic()
        self._one = threading.Lock()
        self._over = threading.Event()
        self._write(0)
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def check(self) -> None:
        """Raises ConfigError if another run has taken the folder, as after a long pause."""
        with self._one:
            self._see()
        if self._lost is not None:
            raise ConfigError(
                f"{self._path.parent}: {_name(self._lost)} has taken the run folder over, for this "
                "process had stood still; nothing more is written from here"
            )

    def release(self) -> None:
        """Gives the folder free. It goes too if nothing was written there."""
        if self._over.is_set():
            return
        self._over.set()
        self._beats.join()
        with contextlib.suppress(OSError, ConfigError):
            self.check()
            self._path.unlink()
            self._path.parent.rmdir()
        os.close(self._handle)

    def _see(self) -> None:
        """Finds out whether the folder is still this process's, and keeps it so."""
        owner = _read(self._path)
        if owner and owner.get("token") != self._owner["token"]:
            self._lost = owner
        elif not self._path.exists():
            # Whoever deleted it may have let another run in, which has ended since; but not if
            # this process was awake.
            if time.monotonic() - self._held > _DEAD * BEAT_SECONDS:
                self._lost = {}
            else:
                self._make_again()
        self._held = time.monotonic()

    def _make_again(self) -> None:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError:  # another run was faster, or the folder is gone: the next look tells
            return
        _flock(handle)
        os.close(self._handle)
        self._handle = handle
        self._write(0)

    def _beat(self) -> None:
        number = 0
        while not self._over.wait(BEAT_SECONDS):
            number += 1
            with contextlib.suppress(OSError), self._one:  # a full disk: `check` and saves tell
                self._see()
                if self._lost is None:
                    self._write(number)

    def _write(self, number: int) -> None:
        # In place, for another file of this name would not be the one that is locked; and always of
        # one length, so that who reads meanwhile finds JSON.
        line = json.dumps(self._owner | {"beat": number}).ljust(_BYTES - 1) + "\n"
        os.pwrite(self._handle, line.encode(), 0)


@contextlib.contextmanager
def locked(workdir: pathlib.Path, group: Group) -> Iterator[WorkdirLock | None]:
    """Holds a run folder, which is made if it is not there, until the block ends.

    Process 0 holds it for all of a run; the others see that it is the same folder for them.

    Args:
        workdir: the run folder.
        group: the processes of the run.

    Yields:
        The lock in process 0, None in the others.

    Raises:
        ConfigError: another run holds it, it is no folder, or the processes do not share it.
    """
    lock = _take(workdir) if group.index == 0 else None
    if lock is not None:
        group.at_exit(lock.release)
    try:
        group.barrier("the run folder")
        if not (workdir / LOCK_FILE).is_file():
            raise ConfigError(
                f"{workdir.absolute()}: is not the folder that process 0 writes to; --workdir must "
                "lie on a file system that all processes share"
            )
        yield lock
    finally:
        if lock is not None:
            lock.release()


def _take(workdir: pathlib.Path) -> WorkdirLock:
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"{workdir}: is no folder; --workdir must name one, new or of a run")
    path = workdir / LOCK_FILE
    while True:
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # whose folder went with the run that left nothing there
            continue
        try:
            works = _flock(handle)
            before = _read(path)
            if works is False or not (works and before.get("boot") == _boot()):
                _watch(workdir, path, before, works)
            # Who gives it free deletes the file, and then what was locked here is not it.
            if path.is_file() and os.path.samestat(os.fstat(handle), path.stat()):
                lock = WorkdirLock(path, handle, _owner())
                if works is None:  # two may have come this far at once; one of them wrote last
                    time.sleep(1)
                    lock.check()
                return lock
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _flock(handle: int) -> bool | None:
    """Whether the lock is had; None where the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise


def _watch(
    workdir: pathlib.Path, path: pathlib.Path, before: dict[str, Any], works: bool | None
) -> None:
    """Raises ConfigError if the lock's holder lives."""
    if works is not False:
        if not before:
            return
        print(
            f"{workdir}: {_name(before)} has left its lock there; watching for "
            f"{_DEAD * BEAT_SECONDS:g} s whether that run still goes on",
            flush=True,
        )
        deadline = time.monotonic() + _DEAD * BEAT_SECONDS
        while _read(path) == before:
            if time.monotonic() > deadline:
                return
            time.sleep(BEAT_SECONDS / 10)
        if not (before := _read(path)):
            return
    raise ConfigError(
        f"{workdir}: {_name(before)} trains there now; wait until it ends, stop it, or give "
        "another --workdir"
    )


def _owner() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": user,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "boot": _boot(),
        "token": uuid.uuid4().hex,
    }


def _boot() -> str:
    """Tells this machine, since it was started, from all others."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):  # gone, or in the middle of being written
        return {}
    return owner if isinstance(owner, dict) else {}


def _name(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    known = {key: owner.get(key, "?") for key in ("pid", "host", "user", "since")}
    return "process {pid} on {host} (user {user}, since {since})".format(**known)
