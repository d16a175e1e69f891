"""The coordinator, in process 0: barriers and failures of the processes of a run; see group.py."""

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

START = "the start"
_FIRST_REPORT, _NEXT_REPORT = 5.0, 30.0


class Connection:
    """Messages over a connection, each a line of JSON."""

    def __init__(self, connection: socket.socket):
        """Args: connection: an open one."""
        # A machine that loses its power says nothing: the system asks after it, and gives up in
        # about a minute and a half.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
            if hasattr(socket, option) and connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._socket = connection
        self._file = connection.makefile("rb")

    def send(self, **message: Any) -> None:
        """Sends a message. That the other end is gone shows where messages are read."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Messages until the other end is gone, or speaks another language."""
        with contextlib.suppress(OSError, ValueError):
            while text := self._file.readline(1 << 22):
                message = json.loads(text)
                if not isinstance(message, dict):
                    return
                yield message

    def set_timeout(self, seconds: float | None) -> None:
        """How long reading may wait for a message."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._socket.close()


@dataclasses.dataclass
class Barrier:
    """The processes that have arrived, with the facts that each brought."""

    timeout: float
    since: float = dataclasses.field(default_factory=time.monotonic)
    next_report: float = _FIRST_REPORT
    facts: dict[int, dict[str, str]] = dataclasses.field(default_factory=dict)


class Coordinator:
    """Hears all processes, its own included, and answers them. It lives in threads.

    Attributes:
        connection: its own process's end of the connection to it.
    """

    def __init__(self, port: int, count: int, start_timeout: float):
        """Args:
        port: to wait at, until all are there; then it is free again.
        count: of the processes.
        start_timeout: seconds to wait for them.
        """
        self._count = count
        self._connections: dict[int, Connection] = {}
        self._hosts: dict[int, str] = {}
        self._barriers = {START: Barrier(start_timeout)}
        self._changed = threading.Condition()
        self._ending = False
        self._verdict = "the run is over"
        both = socket.has_dualstack_ipv6()
        self._server = socket.create_server(
            ("", port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=count,
        )
        mine, other = socket.socketpair()
        self.connection = Connection(other)
        for work, arguments in (
            (self._hear, (Connection(mine),)),
            (self._accept, ()),
            (self._watch, ()),
        ):
            threading.Thread(target=work, args=arguments, daemon=True).start()

    def wait_until_alone(self, timeout: float) -> None:
        """Waits until the other processes are gone, who have been told to go."""
        with self._changed:
            self._ending = True
            self._changed.wait_for(lambda: not set(self._connections) - {0}, timeout)

    def _accept(self) -> None:
        with self._server:
            self._server.settimeout(0.1)
            while START in self._barriers and len(self._connections) < self._count:
                with contextlib.suppress(TimeoutError):
                    connection = Connection(self._server.accept()[0])
                    threading.Thread(target=self._hear, args=(connection,), daemon=True).start()
        # Only now is the port free for JAX's own service.
        with self._changed:
            if self._barriers.pop(START, None):
                self._tell(self._connections, **{"pass": START})

    def _hear(self, connection: Connection) -> None:
        index = None
        for message in connection:
            with self._changed:
                if index is None:
                    if not (problem := self._greet(connection, message)):
                        index = message["hello"]
                    elif "hello" in message:
                        connection.send(failed=problem)
                        self._fail(problem)
                    else:
                        break
                elif "at" in message:
                    self._arrive(index, message)
                elif "failed" in message:
                    self._fail(f"{self._name([index])}: {message['failed']}", index)
                elif "bye" in message:
                    self._drop(index)
        with self._changed:
            if index in self._connections:
                self._drop(index)
                self._fail(
                    f"{self._name([index])} has ended without a word; its own log says why. The "
                    "same command goes on from the last checkpoint"
                )
        connection.close()

    def _greet(self, connection: Connection, message: dict[str, Any]) -> str:
        """Takes a process in. Returns what is wrong with it, if anything."""
        if self._ending:
            return self._verdict
        index, count = message.get("hello"), message.get("count")
        host = message.get("host", "")
        if count != self._count:
            return (
                f"process {index} ({host}) is one of {count} processes and process 0 one of "
                f"{self._count}; JAX_NUM_PROCESSES must be the same everywhere"
            )
        if index in self._connections:
            return (
                f"there are two processes {index} of {count}, on {self._hosts[index]} and "
                f"{host}; JAX_PROCESS_ID must be another for each"
            )
        self._connections[index], self._hosts[index] = connection, host
        if START in self._barriers:
            self._barriers[START].facts[index] = {}
        return ""

    def _arrive(self, index: int, message: dict[str, Any]) -> None:
        name = message["at"]
        barrier = self._barriers.setdefault(name, Barrier(message["timeout"]))
        barrier.facts[index] = message["facts"]
        if len(barrier.facts) == self._count:
            del self._barriers[name]
            if problem := self._difference(barrier.facts):
                self._fail(problem)
            else:
                self._tell(self._connections, **{"pass": name})

    def _difference(self, facts: dict[int, dict[str, str]]) -> str:
        for index in sorted(facts):
            for key in facts[0] | facts[index]:
                here, there = facts[0].get(key, "missing"), facts[index].get(key, "missing")
                if here != there:
                    return (
                        f"{self._name([index])} differs from process 0 ({self._hosts[0]}): {key} "
                        f"is {there} there and {here} on process 0; start all processes with the "
                        "same command, code and data"
                    )
        return ""

    def _watch(self) -> None:
        """Tells those who wait for whom, and ends what has waited too long."""
        while True:
            time.sleep(0.1)
            with self._changed:
                for name, barrier in list(self._barriers.items()):
                    waited = time.monotonic() - barrier.since
                    missing = sorted(set(range(self._count)) - set(barrier.facts))
                    if waited >= barrier.timeout:
                        self._barriers.pop(name, None)
                        self._fail(
                            f"waited {barrier.timeout:g} s at '{name}' for {self._name(missing)}; "
                            "see its log, and whether it runs at all"
                        )
                    elif waited >= barrier.next_report:
                        barrier.next_report += _NEXT_REPORT
                        sentence = f"waiting at '{name}' for {self._name(missing)}"
                        self._tell(barrier.facts, waiting=sentence)

    def _fail(self, sentence: str, by: int | None = None) -> None:
        """Tells all that it is over, once."""
        if not self._ending:
            self._ending, self._verdict = True, sentence
            self._barriers.clear()
            self._tell(self._connections, failed=sentence, by=by)

    def _tell(self, indices: Collection[int], **message: Any) -> None:
        for index in list(indices):
            if index in self._connections:
                self._connections[index].send(**message)

    def _drop(self, index: int) -> None:
        self._connections.pop(index, None)
        self._changed.notify_all()

    def _name(self, indices: list[int]) -> str:
        names = [
            f"{index} ({self._hosts[index]})" if index in self._hosts else str(index)
            for index in indices[:8]
        ]
        more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
        word = "process" if len(indices) == 1 else "processes"
        return f"{word} {', '.join(names)}{more} of {self._count}"
