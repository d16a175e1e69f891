"""The processes of a run, and a line between each of them and process 0.

JAX connects processes too, but where one never comes, or dies, it aborts the others with a stack
trace, some minutes later. So they meet here first: each opens a connection to process 0, at the
address that JAX's own service takes afterwards, and keeps it until the end. Over it they wait for
one another, compare what must be equal everywhere, and hear at once that one has failed. Nothing
of a training step passes through here.

A message is a line of JSON. To process 0: {"hello": number, "count": n, "host": name}, {"at":
meeting, "facts": {...}, "timeout": s}, {"failed": sentence}, {"bye": 1}. From there: {"pass":
meeting}, {"waiting": sentence}, {"failed": sentence, "by": number}.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import NoReturn

from qwen_audio_jax.parallel.hub import Hub, Line

_END = "the end"
_SETTLE_SECONDS = 1.0
"""How long a failure of one's own waits for word that another process has failed first."""
_PARTING_SECONDS = 10.0
"""How long process 0 stays for the others to hear why it ends."""


class GroupError(RuntimeError):
    """The processes cannot work together. The sentence says which one is at fault, and the mend."""


class Group:
    """The processes that train together, as one of them sees them.

    Attributes:
        number: of this process, from 0.
        count: of all.
    """

    def __init__(self, number: int = 0, count: int = 1):
        """A process on its own; `enter` makes the others."""
        self.number, self.count = number, count
        self._line: Line | None = None
        self._hub: Hub | None = None
        self._timeout = 0.0
        self._changed = threading.Condition()
        self._passed: set[str] = set()
        self._told = threading.Event()
        self._leaving = self._failing = False

    @classmethod
    def enter(
        cls, address: str, number: int, count: int, *, start_timeout: float, timeout: float
    ) -> "Group":
        """Waits until all processes are there.

        Args:
            address: host:port of process 0.
            number: of this process, from 0.
            count: of all.
            start_timeout: seconds to wait here.
            timeout: seconds to wait at a later meeting, unless it says otherwise.

        Raises:
            GroupError: not all came, or they disagree on how many they are.
        """
        group = cls(number, count)
        group._timeout = timeout
        host, _, port = address.rpartition(":")
        deadline = time.monotonic() + start_timeout
        try:
            if number:
                group._line = _call(host.strip("[]"), int(port), group, deadline)
            else:
                group._hub = Hub(int(port), count, start_timeout)
                group._line = _greeted(group._hub.line, group, deadline)
            if group._line is None:  # never, or it would train on its own
                raise GroupError(f"process 0 of {count} has had no word from its own hub")
        except OSError as error:
            if number:
                raise GroupError(
                    f"process {number} of {count} waited {start_timeout:g} s for process 0 at "
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

    def meet(
        self, name: str, facts: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> None:
        """Waits until all processes are at this point, and says for whom if that takes long.

        If one does not come in time, or its facts are others than those of process 0, every process
        ends with a sentence that names it.

        Args:
            name: of the meeting, as the sentence has it.
            facts: what must be equal on all processes.
            timeout: seconds; by default the group's.
        """
        if self._line is None:
            return
        self._line.send(at=name, facts=dict(facts or {}), timeout=timeout or self._timeout)
        with self._changed:
            self._changed.wait_for(lambda: name in self._passed)
            self._passed.discard(name)

    def fail(self, sentence: str) -> NoReturn:
        """Ends this process with a sentence, and the others, who are told it."""
        if self._line is None:
            print(f"error: {sentence}", file=sys.stderr)
            sys.exit(1)
        # An exchange between devices breaks when the process at its other end dies. Then that is
        # the sentence to print, and `_listen` does it.
        time.sleep(_SETTLE_SECONDS)
        self._failing = True
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        self._line.send(failed=sentence)
        self._told.wait(_PARTING_SECONDS)
        self._exit()

    def leave(self) -> None:
        """The end of a run that went well: waits for the others, then parts without alarm."""
        if self._line is None:
            return
        self.meet(_END)
        self._line.send(bye=1)
        self._part()

    def _listen(self) -> None:
        """Hears process 0. Runs in a thread, for the main one may be waiting for the devices."""
        for message in self._line:
            if "pass" in message:
                with self._changed:
                    self._passed.add(message["pass"])
                    self._leaving = message["pass"] == _END
                    self._changed.notify_all()
            elif "waiting" in message:
                print(message["waiting"], file=sys.stderr, flush=True)
            elif message.get("by") == self.number or self._failing:
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
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(1)

    def _part(self) -> None:
        # The others hear process 0 only while it is there, and JAX aborts them when it is not.
        if self._hub is not None:
            self._hub.wait_until_alone(_PARTING_SECONDS)


def _call(host: str, port: int, group: Group, deadline: float) -> Line:
    """Opens the line to process 0 and waits there for all to come. Raises OSError: the last one."""
    reason = OSError("nothing answers")
    while time.monotonic() < deadline:
        try:
            line = Line(socket.create_connection((host, port), timeout=5))
        except OSError as error:
            reason = error
        else:
            if greeted := _greeted(line, group, deadline):
                return greeted
            # Closed, or not our language: the service of a run that is just ending, say.
            line.close()
            reason = OSError("what answers there is no process of this run")
        time.sleep(0.2)
    raise reason


def _greeted(line: Line, group: Group, deadline: float) -> Line | None:
    """Says who this is and waits for all to come; None if nobody answers.

    Raises:
        GroupError: process 0 says that it is over.
    """
    line.send(hello=group.number, count=group.count, host=socket.gethostname())
    # Process 0 counts the seconds; the slack is for its word to arrive.
    line.set_timeout(max(deadline - time.monotonic(), 0.0) + 5)
    for message in line:
        if "pass" in message:
            line.set_timeout(None)
            return line
        if "failed" in message:
            line.close()
            raise GroupError(message["failed"])
        print(message.get("waiting", ""), file=sys.stderr, flush=True)
    return None
