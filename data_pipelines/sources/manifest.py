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

import pathlib
from typing import Any

from data_pipelines.labels import stored_annotation
from data_pipelines.records import RejectedRecord, legible
from data_pipelines.sources.json_rows import (
    Ids,
    check_values,
    numbered_lines,
    own_id,
    parsed,
    read_list,
)
from data_pipelines.sources.paths import audio_file
from data_pipelines.sources.rows import Row
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.tasks import KINDS, AnnotationError
from qwen_audio_jax.tasks.near_fields import near

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
    rows: list[Row] = []
    rejected = []
    ids = Ids()
    for number, line in numbered_lines(read_list(path)):
        try:
            row = _row(number, line, path.parent)
            ids.add(row.id, number)
        except (RejectedRecord, AnnotationError) as error:
            rejected.append({"row": number, "reason": legible(str(error))})
            continue
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
    given_id = own_id(fields)
    if not isinstance(task, str):
        raise RejectedRecord("field 'task': must be a text")
    stored_annotation(task, fields, len(names))
    paths = tuple(audio_file(folder, name) for name in names)
    segments = segments_of(fields, len(paths))
    name = given_id or f"{paths[0].stem if paths else task}-{number}"
    return Row(number, name, task, paths, fields, segments)


def _fields(line: bytes) -> dict[str, Any]:
    fields = parsed(line)
    if not isinstance(fields, dict):
        raise RejectedRecord('must be a JSON object, such as {"audio": ..., "task": ...}')
    check_values(fields, line)
    return fields
