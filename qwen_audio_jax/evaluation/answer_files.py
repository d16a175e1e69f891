"""Answers on disk: one line each, appended and synced, so that none is ever asked for twice.

Each process has a file of its own and reads all of them. A line that a killed process left torn is
cut off by the next one that writes the file, and passed over by the others.
"""

import dataclasses
import fcntl
import json
import logging
import os
import pathlib
import time
from collections.abc import Iterable
from typing import Any

_SYNC_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Answered:
    """What came of a question.

    Attributes:
        key: see `asking.Question`.
        text: the answer, control tokens written out; "" where there is none.
        finish: "stop" (it ended by itself), "length" (its limit ended it), or "failed".
        tokens: that were written.
        error: one sentence, where it failed.
        seconds: of audio that was heard.
    """

    key: str
    text: str
    finish: str
    tokens: int = 0
    error: str = ""
    seconds: float = 0.0


def read_answers(folder: pathlib.Path) -> dict[str, Answered]:
    """All answers by key, of all processes."""
    return read_files(sorted(folder.glob("answers-*.jsonl")))


def read_files(paths: Iterable[pathlib.Path]) -> dict[str, Answered]:
    """The lines of files by key. One that failed is not there if it was given another time.

    A damaged line is named and passed over: what it answered is asked again.
    """
    found: dict[str, Answered] = {}
    for path in paths:
        for number, line in enumerate(_whole_lines(path.read_bytes()), start=1):
            try:
                one = _answered(json.loads(line))
            except (ValueError, TypeError):
                logging.warning("%s, line %d: is damaged and passed over", path, number)
                continue
            if one.key not in found or found[one.key].finish == "failed":
                found[one.key] = one
    return found


def _answered(fields: Any) -> Answered:
    if not isinstance(fields, dict):
        raise ValueError("no object")
    one = Answered(**fields)
    texts = one.key, one.text, one.finish, one.error
    if not all(isinstance(text, str) for text in texts) or type(one.tokens) is not int:
        raise ValueError("a field of another type")
    if type(one.seconds) not in (int, float):
        raise ValueError("seconds of another type")
    return one


class AnswerFile:
    """Writes answers, those of one process, or a judge's replies."""

    def __init__(self, path: pathlib.Path):
        """Args:
        path: of the file, see `path_of`; what it has already stays.

        Raises:
            OSError: it cannot be written, or another process does.
        """
        path.touch()
        self._file = path.open("r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise OSError(
                f"{path}: another process writes it; wait until that has ended, or stop it"
            ) from None
        except OSError:
            pass  # a file system without locks
        whole = b"".join(_whole_lines(self._file.read()))
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        self._synced = time.monotonic()

    def put(self, answered: Answered) -> None:
        """Adds a line."""
        self._file.write(json.dumps(dataclasses.asdict(answered)).encode() + b"\n")
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Returns when all lines are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Syncs and closes it."""
        self.sync()
        self._file.close()


def path_of(folder: pathlib.Path, index: int = 0, count: int = 1) -> pathlib.Path:
    """The file of the answers of one of so many processes."""
    return folder / f"answers-{index:05d}-of-{count:05d}.jsonl"


def _whole_lines(data: bytes) -> list[bytes]:
    lines = data.splitlines(keepends=True)
    return lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines
