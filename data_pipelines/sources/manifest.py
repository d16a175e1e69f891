"""A corpus of one's own: a JSONL file that names audio files and says what is in them.

One row a record, as a JSON object:

    {"audio": "clips/a.flac", "task": "asr", "text": "good morning", "language": "en"}

`audio` is a path, or a list of them for a task that takes several clips; relative paths start at
the manifest's folder. Text without audio has the task `text` and no `audio`. `task` is a key of
`qwen_audio_jax.tasks.KINDS`. `id` may be left out: it is then the audio file's stem and the row's
line number. `offset` and `duration`, or `start` and `end`, in seconds, and `channel` cut the clip
out of a longer recording, see `sources.segments`. Every field but the first three goes into the
annotation.
"""

import json
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from data_pipelines.labels import stored_annotation
from data_pipelines.records import RejectedRecord, legible
from data_pipelines.sources.paths import audio_file, is_address
from data_pipelines.sources.rows import Row
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.tasks import KINDS, AnnotationError
from qwen_audio_jax.tasks.fields import is_seen
from qwen_audio_jax.tasks.near_fields import near

MAX_DEPTH = 100
"""Levels of lists and objects within one another: what copies a record goes down all of them."""
_LONG_NUMBER = re.compile(rb"[0-9]{309}")
_WITHOUT_AUDIO = [task for task, row in KINDS.items() if not row.clips]


def jobs(path: pathlib.Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """Reads a manifest and checks all of it that can be checked without decoding audio.

    Args:
        path: the manifest.

    Returns:
        The usable rows, and for each other row its number and the reason: {"row", "reason"}.

    Raises:
        RejectedRecord: the manifest is missing, unreadable or empty.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except FileNotFoundError:
        if is_address(str(path)):
            raise RejectedRecord("--manifest: is an address; download it and its audio") from None
        raise RejectedRecord(f"{path}: no such file; --manifest must name a JSONL file") from None
    except OSError as error:
        raise RejectedRecord(f"{path}: cannot be read ({error.strerror})") from error
    rows: list[Row] = []
    rejected = []
    lines_by_id: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _row(number, line, path.parent)
            if row.id in lines_by_id:
                raise RejectedRecord(
                    f"field 'id': {row.id!r} is line {lines_by_id[row.id]}'s already; ids must "
                    "differ"
                )
        except (RejectedRecord, AnnotationError) as error:
            rejected.append({"row": number, "reason": legible(str(error))})
            continue
        lines_by_id[row.id] = number
        rows.append(row)
    if not rows and not rejected:
        raise RejectedRecord(f"{path}: is empty; write one JSON object a line, see --help")
    return rows, rejected


def _row(number: int, line: bytes, folder: pathlib.Path) -> Row:
    fields = _fields(line)
    silent = fields.get("task") in _WITHOUT_AUDIO
    for field in ("audio", "task"):
        if not fields.get(field) and not (silent and field == "audio"):
            other = near(field, fields)
            hint = f"; if {other!r} is it, call it {field!r}" if other and other != field else ""
            raise RejectedRecord(f"field {field!r}: missing or empty{hint}")
    audio, task = fields.pop("audio", None) or [], fields.pop("task")
    names = [audio] if isinstance(audio, str) else audio
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise RejectedRecord("field 'audio': must be a path or a list of paths")
    given_id = fields.pop("id", None)
    if given_id is not None and not (type(given_id) in (str, int) and is_seen(str(given_id))):
        raise RejectedRecord(
            "field 'id': must be a text or a whole number; leave it out to get one"
        )
    if not isinstance(task, str):
        raise RejectedRecord("field 'task': must be a text")
    stored_annotation(task, fields, len(names))
    paths = tuple(audio_file(folder, name) for name in names)
    segments = segments_of(fields, len(paths))
    own_id = f"{paths[0].stem if paths else task}-{number}"
    return Row(number, own_id if given_id is None else str(given_id), task, paths, fields, segments)


def _fields(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
        fields = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
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
    if not isinstance(fields, dict):
        raise RejectedRecord('must be a JSON object, such as {"audio": ..., "task": ...}')
    _check_values(fields, line)
    return fields


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is there twice")
    return made


def _check_values(fields: dict[str, Any], line: bytes) -> None:
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
