"""Rows of a list in JSON, one a line; what JSON can spell and cannot be kept is refused."""

import json
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.paths import is_address
from qwen_audio_jax.tasks.fields import is_seen

MAX_DEPTH = 100
"""Levels of lists and objects within one another: what copies a record goes down all of them."""
_LONG_NUMBER = re.compile(rb"[0-9]{309}")


def read_list(path: pathlib.Path) -> bytes:
    """A list's bytes, without a byte order mark. Raises RejectedRecord if it cannot be read."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        if is_address(str(path)):
            raise RejectedRecord("--manifest: is an address; download it and its audio") from None
        raise RejectedRecord(f"{path}: no such file; --manifest must name a JSONL file") from None
    except OSError as error:
        raise RejectedRecord(f"{path}: cannot be read ({error.strerror})") from error


def numbered_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def parsed(line: bytes) -> Any:
    """What a line of JSON says. Raises RejectedRecord, one sentence without the line's number."""
    try:
        text = line.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise RejectedRecord(f"is not UTF-8 (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        where = f"{error.msg}, at character {error.pos + 1}"
        raise RejectedRecord(f"is not valid JSON ({where})") from error
    except RecursionError:
        raise RejectedRecord(f"is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        if _LONG_NUMBER.search(line):  # Python refuses to read thousands of digits
            raise RejectedRecord("holds a number of more than 308 digits") from None
        raise RejectedRecord(f"is not valid JSON ({error})") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is there twice")
    return made


def check_values(fields: dict[str, Any], line: bytes) -> None:
    """Refuses what JSON can spell and cannot be kept: each at a low price for all other rows."""
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _is_deep(fields):
        raise RejectedRecord(f"is nested more than {MAX_DEPTH} levels deep")
    try:
        # JSON can spell half a surrogate pair, which is no character and cannot be written.
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RejectedRecord("has half of a surrogate pair, which is not a character") from error
    except ValueError:
        for field, value in fields.items():
            if math.inf in map(abs, _numbers(value)):
                raise RejectedRecord(f"field {field!r}: holds a number beyond 1.8e308") from None
        raise
    if _LONG_NUMBER.search(line):
        for field, value in fields.items():
            if any(abs(number) >= 10**308 for number in _numbers(value)):
                raise RejectedRecord(f"field {field!r}: holds a number of more than 308 digits")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [part for part in level if isinstance(part, dict | list)]
        level = [v for part in nested for v in (part.values() if type(part) is dict else part)]
    return any(isinstance(part, dict | list) for part in level)


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in it, at any depth."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def own_id(fields: dict[str, Any]) -> str | None:
    """Takes the id that a row gives itself. Raises RejectedRecord if it is none."""
    given = fields.pop("id", None)
    if given is None:
        return None
    if not (type(given) in (str, int) and is_seen(str(given))):
        raise RejectedRecord(
            "field 'id': must be a text or a whole number; leave it out to get one"
        )
    return str(given)


class Ids:
    """The ids that rows have so far, each of one row alone.

    Args:
        called: what a row's number counts: of a list that may be one JSON array, not its lines.
    """

    def __init__(self, called: str = "line"):
        self._numbers: dict[str, int] = {}
        self._called = called

    def add(self, name: str, number: int) -> None:
        """Notes a row's id. Raises RejectedRecord if another row has it already."""
        if name in self._numbers:
            raise RejectedRecord(
                f"field 'id': {name!r} is {self._called} {self._numbers[name]}'s already; ids must "
                "differ, so leave it out, or call it otherwise"
            )
        self._numbers[name] = number
