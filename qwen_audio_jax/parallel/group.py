"""The processes of a run, and a connection from each of them to the coordinator in process 0.

JAX connects processes too, but where one never comes, or dies, it aborts the others with a stack
trace, some minutes later. So they connect here first: each opens a connection to process 0, at the
address that JAX's own service takes afterwards, and keeps it until the end. Over it they wait at
barriers, compare what must be equal everywhere, and hear at once that one has failed. Nothing of a
training step passes through here.

A message is a line of JSON. To process 0: {"hello": index, "count": n, "host": name}, {"at":
barrier, "facts": {...}, "timeout": s}, {"failed": sentence}, {"bye": 1}. From there: {"pass":
barrier}, {"waiting": sentence}, {"failed": sentence, "by": index}.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from qwen_audio_jax.parallel.coordinator import Connection, Coordinator

_END = "the end"
_SETTLE_SECONDS = 1.0
"""How long a failure of one's own waits for word that another process has failed first."""
_PARTING_SECONDS = 10.0
"""How long process 0 stays for the others to hear why it ends."""


class GroupError(RuntimeError):
    """The processes cannot work together. The sentence says which one is at fault, and the fix."""


class Group:
    """The processes that train together, as one of them sees them.

    Attributes:
        index: of this process, from 0.
        count: of all.
    """

    def __init__(self, index: int = 0, count: int = 1):
        """A process on its own; `connect` makes the others."""
        self.index, self.count = index, count
        self._connection: Connection | None = None
        self._coordinator: Coordinator | None = None
        self._timeout = 0.0
        self._changed = threading.Condition()
        self._passed: set[str] = set()
        self._told = threading.Event()
        self._leaving = self._failing = False
        self._at_exit: list[Callable[[], None]] = []

    def at_exit(self, call: Callable[[], None]) -> None:
        """What to do as well where this process ends because another one has failed."""
        self._at_exit.append(call)

    @classmethod
    def connect(
        cls, address: str, index: int, count: int, *, start_timeout: float, timeout: float
    ) -> "Group":
        """Waits until all processes are there.

        Args:
            address: host:port of process 0.
            index: of this process, from 0.
            count: of all.
            start_timeout: seconds to wait here.
            timeout: seconds to wait at a later barrier, unless it says otherwise.

        Raises:
            GroupError: not all came, or they disagree on how many they are.
        """
        group = cls(index, count)
        group._timeout = timeout
        host, _, port = address.rpartition(":")
        deadline = time.monotonic() + start_timeout
        try:
            if index:
                group._connection = _call(host.strip("[]"), int(port), group, deadline)
            else:
                group._coordinator = Coordinator(int(port), count, start_timeout)
                group._connection = _greeted(group._coordinator.connection, group, deadline)
            if group._connection is None:  # never, or it would train on its own
                raise GroupError(f"process 0 of {count} has had no word from its own coordinator")
        except OSError as error:
            if index:
                raise GroupError(
                    f"process {index} of {count} waited {start_timeout:g} s for process 0 at "
                    f"{address} ({error.strerror or error}); see whether it runs and can be "
                    "reached from here, and whether JAX_COORDINATOR_ADDRESS names it"
                ) from error
            raise GroupError(
                f"process 0 of {count} cannot wait for the others at port {port} "
                f"({error.strerror}); give another port in JAX_COORDINATOR_ADDRESS"
            ) from error
        except GroupError:
            group._part()
            raise
        threading.Thread(target=group._listen, daemon=True).start()
        return group

    def barrier(
        self, name: str, facts: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> None:
        """Waits until all processes are at this point, and says for whom if that takes long.

        If one does not come in time, or its facts are others than those of process 0, every process
        ends with a sentence that names it.

        Args:
            name: of the barrier, as the sentence has it.
            facts: what must be equal on all processes.
            timeout: seconds; by default the group's.
        """
        if self._connection is None:
            return
        self._connection.send(at=name, facts=dict(facts or {}), timeout=timeout or self._timeout)
        with self._changed:
            self._changed.wait_for(lambda: name in self._passed)
            self._passed.discard(name)

    def fail(self, sentence: str) -> NoReturn:
        """Ends this process with a sentence, and the others, who are told it."""
        if self._connection is None:
            print(f"error: {sentence}", file=sys.stderr)
            sys.exit(1)
        # An exchange between devices breaks when the process at its other end dies. Then that is
        # the sentence to print, and `_listen` does it.
        time.sleep(_SETTLE_SECONDS)
        self._failing = True
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        self._connection.send(failed=sentence)
        self._told.wait(_PARTING_SECONDS)
        self._exit()

    def close(self) -> None:
        """The end of a run that went well: waits for the others, then parts without alarm."""
        if self._connection is None:
            return
        self.barrier(_END)
        self._connection.send(bye=1)
        self._part()

    def _listen(self) -> None:
        """Hears process 0. Runs in a thread, for the main one may be waiting for the devices."""
        for message in self._connection:
            if "pass" in message:
                with self._changed:
                    self._passed.add(message["pass"])
                    self._leaving = message["pass"] == _END
                    self._changed.notify_all()
            elif "waiting" in message:
                print(message["waiting"], file=sys.stderr, flush=True)
            elif message.get("by") == self.index or self._failing:
                self._told.set()
            elif "failed" in message:
                self._stop(message["failed"])
        if not self._leaving and not self._failing:
            self._stop(
                f"process 0 of {self.count} has ended without a word; its own log says why. The "
                "same command goes on from the last checkpoint"
            )

    def _stop(self, sentence: str) -> NoReturn:
        # os.write, for the main thread may hold the lock of sys.stderr.
        os.write(2, f"error: {sentence}\n".encode())
        self._exit()

    def _exit(self) -> NoReturn:
        # Not sys.exit: JAX would wait for the others as it ends, and only the main thread can.
        self._part()
        for call in self._at_exit:
            with contextlib.suppress(Exception):
                call()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(1)

    def _part(self) -> None:
        # The others hear process 0 only while it is there, and JAX aborts them when it is not.
        if self._coordinator is not None:
            self._coordinator.wait_until_alone(_PARTING_SECONDS)


def _call(host: str, port: int, group: Group, deadline: float) -> Connection:
    """Opens the line to process 0 and waits there for all to come. Raises OSError: the last one."""
    reason = OSError("nothing answers")
    while time.monotonic() < deadline:
        try:
            connection = Connection(socket.create_connection((host, port), timeout=5))
        except OSError as error:
            reason = error
        else:
            if greeted := _greeted(connection, group, deadline):
                return greeted
            # Closed, or not our language: the service of a run that is just ending, say.
            connection.close()
            reason = OSError("what answers there is no process of this run")
        time.sleep(0.2)
    raise reason


def _greeted(connection: Connection, group: Group, deadline: float) -> Connection | None:
    """Says who this is and waits for all to come; None if nobody answers.

    Raises:
        GroupError: process 0 says that it is over.
    """
    connection.send(hello=group.index, count=group.count, host=socket.gethostname())
    # Process 0 counts the seconds; the slack is for its word to arrive.
    connection.set_timeout(max(deadline - time.monotonic(), 0.0) + 5)
    for message in connection:
        if "pass" in message:
            connection.set_timeout(None)
            return connection
        if "failed" in message:
            connection.close()
            raise GroupError(message["failed"])
        print(message.get("waiting", ""), file=sys.stderr, flush=True)
    return None
