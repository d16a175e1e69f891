"""Every checked-in setup compiled anew, as a table in a document."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from qwen_audio_jax.compilation.topology import SETUPS, Place, Setup

BEGIN, END = "<!-- setups -->", "<!-- end of setups -->"
AUDIO_HOURS = 100_000

_HEAD = (
    "configuration",
    "slice",
    "replica x fsdp x tensor",
    "micro-batches, remat",
    "GiB per chip",
    "received per chip, GB",
    "MFU at most, bound by",
    "audio-s per chip-s",
    f"chip-hours for {AUDIO_HOURS:,} h",
)


def write(path: pathlib.Path, tell: Callable[[str], None]) -> None:
    """Compiles all setups, some at a time, and puts the table between the marks of a document.

    Args:
        path: the document.
        tell: is told of each that is done.

    Raises:
        ValueError: the document cannot be written or has no marks, or a setup does not compile and
            fit.
    """
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        raise ValueError(
            f"--overview: {path} is no file that can be read and written; name a document of yours "
            f"with a line {BEGIN} and a line {END}"
        )
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"--overview: {path} needs a line {BEGIN} and a line {END}")
    jobs = min(4, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        rows, failed = [], []
        for line in pool.map(_row_or_reason, SETUPS):
            tell(line)
            (rows if line.startswith("|") else failed).append(line)
    if failed:
        raise ValueError(f"--overview: {path} is left as it was; {'; '.join(failed)}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = "\n".join([_line(_HEAD), "| --- " * 4 + "| ---: " * 5 + "|", *rows])
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def report(place: Place, *options: str) -> dict[str, Any]:
    """What compile_report says of a preset on a slice, in a process of its own.

    Args:
        place: of a setup that is checked in or, with options that say the rest, another.
        *options: further flags.

    Raises:
        ValueError: it does not compile, or does not fit.
    """
    where = (
        [f"--config=configs/{place.name}"]
        if place in SETUPS
        else [f"--config=configs/{place.config}.py:{place.preset}", f"--topology={place.topology}"]
    )
    command = [sys.executable, "-m", "qwen_audio_jax.compile_report", *where, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (done.stdout.splitlines() or [""])[-1]
    if not last.startswith("{"):
        reason = (done.stderr.strip() or "no report").splitlines()[-1]
        raise ValueError(f"{place.name}: {reason.removeprefix('error: ')}")
    found = json.loads(last)
    if not found["fits"]:
        over = f"{found['hbm_total_gib']:.2f} of {found['hbm_limit_gib']:.2f} GiB"
        raise ValueError(f"{place.name}: does not fit, it takes {over} per chip")
    return found


def _row_or_reason(place: Place) -> str:
    try:
        return row(place, SETUPS[place], report(place))
    except ValueError as error:
        return str(error)


def row(place: Place, setup: Setup, found: dict[str, Any]) -> str:
    """A setup's line of the table."""
    adapters = f", LoRA {setup.lora_rank}" if setup.lora_rank else ""
    fsdp = found["devices"] // (setup.replica * setup.tensor)
    received = sum(one["bytes"] for one in found["collectives"].values())
    rate = found["audio_seconds_per_chip_second"]
    return _line(
        (
            f"`{place.config}.py:{place.preset}`{adapters}",
            place.topology,
            f"{setup.replica} x {fsdp} x {setup.tensor}",
            f"{setup.accumulate}, {setup.remat}",
            f"{found['hbm_total_gib']:.1f} of {found['hbm_limit_gib']:.1f}",
            f"{received / 1e9:,.0f}",
            f"{found['mfu_bound']:.0%}, {found['bound']}",
            f"{rate:,.0f}",
            f"{AUDIO_HOURS / rate:,.0f}",
        )
    )


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
