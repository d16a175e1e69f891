"""Where a run's time goes: events.jsonl, from its first start on and through all its restarts.

A run's time belongs to one kind at a time: `init`, `compile`, `step`, `data_wait`, `references`,
`evaluation`, `checkpoint`. Goodput is the share of the wall time since the first start that went
into steps which count: those done again after a crash count once, and the time between two starts
not at all.

A line of events.jsonl is {"time": unix seconds, "event": "start", "step": steps done} or {"time":
..., "event": "time", "step": steps done, "seconds": {kind: seconds since the line before}}.
"""

import contextlib
import json
import pathlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

EVENTS_FILE = "events.jsonl"
KINDS = (
    "step",
    "data_wait",
    "compile",
    "references",
    "evaluation",
    "checkpoint",
    "init",
    "redone",
    "down",
)


class Clock:
    """Divides this process's time into kinds, and keeps the record of the whole run.

    Times are those of the loop's own thread. A step runs on the devices while the loop waits for an
    earlier one's metrics, so time of no other kind is a step's.
    """

    def __init__(self, started: float | None = None):
        """Args: started: when the process did, unix seconds; `init` lasts from then to `begin`."""
        self._started = time.time() if started is None else started
        self._kind, self._since = "init", time.perf_counter() - (time.time() - self._started)
        self._spent: dict[str, float] = defaultdict(float)
        self._unlogged: dict[str, float] = defaultdict(float)
        self._file = None
        self._totals = dict.fromkeys(KINDS, 0.0)
        self._first = self._started
        self._compiled: set[Any] = set()

    def begin(self, workdir: pathlib.Path, step: int, *, write: bool) -> None:
        """The loop begins.

        Args:
            workdir: the run's folder.
            step: steps already done.
            write: whether this process keeps events.jsonl.
        """
        path = workdir / EVENTS_FILE
        earlier = read_events(path)
        self._totals = totals(earlier, step)
        if earlier:
            self._first = earlier[0]["time"]
            self._totals["down"] += max(self._started - earlier[-1]["time"], 0.0)
        if write:
            _end_last_line(path)
            self._file = path.open("a")
            self._write({"time": self._started, "event": "start", "step": step})
        self._switch("step")

    @contextlib.contextmanager
    def spend(self, kind: str) -> Iterator[None]:
        """The time of the body is of this kind."""
        before = self._switch(kind)
        try:
            yield
        finally:
            self._switch(before)

    def dispatch(self, shape: Any) -> contextlib.AbstractContextManager[None]:
        """For the call of the step: the first one of a shape compiles it."""
        new = shape not in self._compiled
        self._compiled.add(shape)
        return self.spend("compile") if new else contextlib.nullcontext()

    def lap(self, step: int) -> None:
        """Records the time since the last lap. Args: step: steps done."""
        self._switch(self._kind)
        spent, self._spent = self._spent, defaultdict(float)
        for kind, seconds in spent.items():
            self._totals[kind] += seconds
            self._unlogged[kind] += seconds
        rounded = {kind: round(seconds, 6) for kind, seconds in spent.items()}
        self._write({"time": time.time(), "event": "time", "step": step, "seconds": rounded})

    def spent(self) -> float:
        """Seconds of all starts, whatever they went to, but for steps that had to be done again."""
        self._switch(self._kind)
        lost = self._totals["redone"] + self._totals["down"]
        return sum(self._totals.values()) - lost + sum(self._spent.values())

    def values(self) -> dict[str, float]:
        """For metrics.jsonl: seconds since it was last asked, and the goodput so far."""
        spent, self._unlogged = self._unlogged, defaultdict(float)
        values = {"data_wait_seconds": spent["data_wait"]}
        if "checkpoint" in spent:
            values["checkpoint_seconds"] = spent["checkpoint"]
        return values | {"goodput": self._totals["step"] / max(time.time() - self._first, 1e-9)}

    def summary(self) -> str:
        """One line: where the time since the first start went."""
        total = sum(self._totals.values()) or 1.0
        parts = [
            f"{kind.replace('_', ' ')} {self._totals[kind] / total:.1%}"
            for kind in KINDS
            if self._totals[kind] >= total / 1000
        ]
        return f"{total:,.0f} s since the first start: {', '.join(parts)}"

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _switch(self, kind: str) -> str:
        """From now on, time is of this kind. Returns the kind before."""
        now, before = time.perf_counter(), self._kind
        self._spent[before] += now - self._since
        self._kind, self._since = kind, now
        return before

    def _write(self, event: dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()


def read_events(path: pathlib.Path) -> list[dict[str, Any]]:
    """The events of a run, but for a last one that was cut off."""
    events = []
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
    return events


def totals(events: list[dict[str, Any]], step: int) -> dict[str, float]:
    """Seconds by kind up to a step from which a run goes on.

    Time of steps after it, which are going to be done again, is `redone`. So is that of steps which
    were done again already. Time between the last word of a start and the next start is `down`.
    """
    seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    # Steps that count: none after the lowest step that any later start went on from.
    bounds, bound = [], float(step)
    for event in reversed(events):
        bounds.append(bound)
        if event["event"] == "start":
            bound = min(bound, event["step"])
    done, last = 0, None
    for event, bound in zip(events, reversed(bounds), strict=True):
        if event["event"] == "start":
            if last is not None:
                seconds["down"] += max(event["time"] - last, 0.0)
        else:
            for kind, spent in event["seconds"].items():
                lost = 0.0
                if kind == "step" and event["step"] > bound:
                    lost = min((event["step"] - bound) / max(event["step"] - done, 1), 1.0)
                seconds[kind] += spent * (1 - lost)
                seconds["redone"] += spent * lost
        done, last = event["step"], event["time"]
    return seconds


def _end_last_line(path: pathlib.Path) -> None:
    """A line that was cut off shall not swallow the next one."""
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
