"""What a run tells while it goes: metrics.jsonl, TensorBoard events, the progress bar."""

import json
import os
import pathlib
import sys
import time
from typing import Any

from tqdm import tqdm

from qwen_audio_jax.monitoring.flops import Counts
from qwen_audio_jax.monitoring.progress_bar import bar

SKIPPED_FILE = "skipped.jsonl"

_DECAY = 0.95
"""What a loss's weight in the progress bar is multiplied by with each loss logged after it, so that
the last 20 have about two thirds of the weight."""

_LONGEST = 1 << 20
"""Bytes that a line of metrics.jsonl has at most."""


class RunLog:
    """Writes the metrics of logged steps.

    Metrics of steps after the one that a run resumes from are taken out of metrics.jsonl first:
    those steps are about to be done again.

    The progress bar's loss is an exponentially weighted average of those in metrics.jsonl, since
    batches differ by more than a model learns in a few steps. A run that goes on takes in those
    from before. Everywhere else the loss is that of the step.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        first_step: int,
        steps: int | None,
        peak_flops: float | None = None,
        *,
        write: bool = True,
    ):
        """Args:
        workdir: the run's folder.
        first_step: steps already done.
        steps: steps in all; None if nobody knows.
        peak_flops: of all devices, which the MFU is a share of; None if nobody knows.
        write: whether this process writes; of several, one does, and the others only count.
        """
        self._write, self._peak_flops = write, peak_flops
        self._path = workdir / "metrics.jsonl"
        self._skipped_file = workdir / SKIPPED_FILE
        self._loss_sum = self._loss_weight = 0.0
        if write:
            for row in _keep_until(self._path, first_step):
                self._smoothed(row["loss"])
            _keep_until(self._skipped_file, first_step)
            self._file = self._path.open("a")
            self._events = _event_writer(workdir / "tensorboard", first_step + 1)
        self._bar = bar("training", steps, first_step, unit="step", quiet=not write, stays=True)
        self._dropped, self._held_out = 0.0, ""
        self._skipped = self._last_skipped = 0
        self.restart_clock()

    def count(self, useful: Counts, flops: float, dropped: int) -> None:
        """Counts what was useful of a step, its model FLOPs, and records that were unusable."""
        self._tokens += useful.tokens
        self._audio_seconds += useful.frames / 100
        self._flops += flops
        self._dropped += dropped
        self._bar.update()

    def write(self, step: int, values: dict[str, float], left: float | None = None) -> None:
        """Logs a step, whose loss is finite, with the speed since the last logged one.

        Args:
            step: its number.
            values: of it.
            left: seconds until the run ends, if that is known.
        """
        if not self._write:
            return
        seconds = time.perf_counter() - self._since
        values = values | {
            "tokens_per_second": self._tokens / seconds,
            "audio_seconds_per_second": self._audio_seconds / seconds,
            "audio_hours_per_hour": self._audio_seconds / seconds,
            "model_flops_per_second": self._flops / seconds,
        }
        if self._peak_flops:
            values["mfu"] = self._flops / seconds / self._peak_flops
        if self._dropped:
            values["records_left_out"] = self._dropped
            self._dropped = 0.0
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._bar.set_postfix_str(
            f"loss {self._smoothed(values['loss']):.3f}{self._held_out}, "
            f"{values['tokens_per_second']:,.0f} tokens/s, "
            f"{values['audio_seconds_per_second']:,.0f} audio-s/s"
            + ("" if left is None else f", {tqdm.format_interval(left)} left"),
            refresh=False,
        )
        self.restart_clock()

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds what was found out after a step to its line, which is the last, and to the events.

        A step that was skipped has no line.
        """
        if not self._write:
            return
        _add_to_last_line(self._path, step, values)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        if "validation_loss" in values:
            self._held_out = f", held out {values['validation_loss']:.3f}"

    def _smoothed(self, loss: float) -> float:
        """Takes one more loss into the average, and returns that.

        Dividing by the sum of the weights is Adam's correction: the first average is the first
        loss.
        """
        self._loss_sum = _DECAY * self._loss_sum + loss
        self._loss_weight = _DECAY * self._loss_weight + 1
        return self._loss_sum / self._loss_weight

    def skip(self, step: int, slot: int, ids: list[str]) -> int:
        """Names the batch of a skipped step in skipped.jsonl. Returns how many come in a row."""
        self._skipped = self._skipped + 1 if step == self._last_skipped + 1 else 1
        self._last_skipped = step
        if self._write:
            with self._skipped_file.open("a") as file:
                file.write(json.dumps({"step": step, "slot": slot, "ids": ids}) + "\n")
        return self._skipped

    def restart_clock(self) -> None:
        """Leaves out of the speed what was not training: evaluation, say."""
        self._since = time.perf_counter()
        self._tokens = self._audio_seconds = self._flops = 0.0

    def write_evaluation(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Adds an evaluation's table to the TensorBoard events."""
        for row in rows:
            if self._write and row["value"] is not None:
                self._events.add_scalar(f"{row['task']}/{row['metric']}", row["value"], step)

    def close(self) -> None:
        self._bar.close()
        if self._write:
            self._file.close()
            self._events.close()


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The logged steps of a run."""
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _event_writer(folder: pathlib.Path, purge_step: int):
    """A writer of TensorBoard events.

    tensorboardX loads PyTorch wherever it is installed: a second and 230 MB for nothing used here.
    """
    hidden = {} if "torch" in sys.modules else {"torch": None}
    sys.modules.update(hidden)
    try:
        from tensorboardX import SummaryWriter
    finally:
        for name in hidden:
            del sys.modules[name]
    return SummaryWriter(str(folder), purge_step=purge_step)


def _add_to_last_line(path: pathlib.Path, step: int, values: dict[str, float]) -> None:
    """Writes the last line of metrics.jsonl anew, in place, if it is that of the step."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _LONGEST))
        (*_, line) = file.read().splitlines(keepends=True) or [b"{}"]
        row = json.loads(line)
        if row.get("step") == step:
            file.seek(end - len(line))
            file.write(json.dumps(row | values).encode() + b"\n")
            file.truncate()


def _keep_until(path: pathlib.Path, step: int) -> list[dict[str, Any]]:
    """Takes lines of later steps, and a last line that was cut off, out of metrics.jsonl.

    Returns:
        What is left of it.
    """
    if not path.exists():
        return []
    lines, rows = [], []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            lines.append(line + "\n")
            rows.append(row)
    part = path.with_suffix(".part")
    part.write_text("".join(lines))
    part.replace(path)
    return rows
