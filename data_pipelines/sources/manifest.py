"""A corpus of one's own: a JSONL file that names audio files and says what is in them.

One row a record, as a JSON object:

    {"audio": "clips/a.flac", "task": "asr", "text": "good morning", "language": "en"}

`audio` is a path, or a list of them for a task that takes several clips; relative paths start at
the manifest's folder. Text without audio has the task `text` and no `audio`. `task` is a key of
`qwen_audio_jax.tasks.KINDS`. `id` may be left out: it is then the audio file's stem and the row's
line number. `offset` and `duration`, or `start` and `end`, in seconds, and `channel` cut the clip
out of a longer recording, see `sources.segments`. Every field but the first three goes into the
annotation as it is.
"""

import json
import pathlib
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.rows import Row
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.tasks import KINDS, AnnotationError, check_annotation

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
            rejected.append({"row": number, "reason": str(error)})
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
            raise RejectedRecord(f"field {field!r}: missing or empty")
    audio, task = fields.pop("audio", None) or [], fields.pop("task")
    names = [audio] if isinstance(audio, str) else audio
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise RejectedRecord("field 'audio': must be a path or a list of paths")
    given_id = fields.pop("id", None)
    if given_id is not None and (not isinstance(given_id, str | int) or not str(given_id).strip()):
        raise RejectedRecord("field 'id': must be a text or a number; leave it out to get one")
    if not isinstance(task, str):
        raise RejectedRecord("field 'task': must be a text")
    _check(task, fields, len(names))
    paths = tuple(folder / name for name in names)
    for path in paths:
        if not _is_file(path):
            raise RejectedRecord(f"field 'audio': {path} is not there")
    segments = segments_of(fields, len(paths))
    own_id = f"{paths[0].stem if paths else task}-{number}"
    return Row(number, own_id if given_id is None else str(given_id), task, paths, fields, segments)


def _fields(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
        fields = json.loads(text, parse_constant=_refuse_constant)
        # JSON can spell half a surrogate pair, which is no character and cannot be written.
        json.dumps(fields, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise RejectedRecord(f"is not UTF-8 (byte {error.start + 1} of the line)") from error
    except UnicodeEncodeError as error:
        raise RejectedRecord("has half of a surrogate pair, which is not a character") from error
    except (ValueError, RecursionError) as error:
        raise RejectedRecord(f"is not valid JSON ({error})") from error
    if not isinstance(fields, dict):
        raise RejectedRecord('must be a JSON object, such as {"audio": ..., "task": ...}')
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check(task: str, annotation: dict[str, Any], clips: int) -> None:
    try:
        check_annotation(task, annotation, clips)
    except (TypeError, KeyError, AttributeError) as error:
        raise RejectedRecord(f"a field is not of the type that {task!r} needs ({error})") from error


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        return False
