"""Conversations in the forms that people have them in: JSONL, or a list in JSON, and audio.

A row becomes a record of task `chat`: its clips, and messages that `rendering/chat.py` renders. So
the same talk gives the same tokens and the same loss, whichever form it came in. `forms` has the
table of forms, `talk` the rules that hold for all of them; docs/data.md has an example of each.
A row that says which of two answers is better becomes one of task `preference`, see `pairs`.
"""

import functools
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from data_pipelines.labels import stored_annotation
from data_pipelines.records import RejectedRecord, legible
from data_pipelines.sources.conversations.clips import TalkRow, find, make, row_of, size_of
from data_pipelines.sources.conversations.forms import AUTO, FORMS, check_told, form_of
from data_pipelines.sources.conversations.pairs import Pair, Told, as_talks, compared
from data_pipelines.sources.conversations.talk import (
    Named,
    calls_refused,
    conversation,
    says_something,
)
from data_pipelines.sources.json_rows import (
    Ids,
    check_values,
    numbered_lines,
    own_id,
    parsed,
    read_list,
)
from data_pipelines.sources.segments import BEGINS, ENDS
from qwen_audio_jax.tasks import CHAT, PREFERENCE, AnnotationError
from qwen_audio_jax.tasks.fields import shown
from qwen_audio_jax.tasks.near_fields import near

__all__ = ["AUTO", "FORMS", "TalkRow", "jobs", "make", "row_of", "size_of"]

_CONTENT = {
    *("messages", "conversation", "conversations", "query", "response", "history", "system"),
    *("instruction", "input", "output", "prompt", "completion", "context", "question", "answer"),
    *("Q", "audios", "audio", "sound", "audio_filepath", "audio_id", "expand_wav", "label"),
    *("image", "images", "video", "videos"),
}
"""Keys that hold a part of the talk in one form or another; further ones are notes on it."""


def jobs(
    path: pathlib.Path,
    form: str = AUTO,
    media_dir: pathlib.Path | None = None,
    *,
    unplaced_first: bool = False,
) -> tuple[list[TalkRow], list[dict[str, Any]]]:
    """Reads a file of talks and checks all of it that can be checked without decoding audio.

    Args:
        path: a JSONL file, or one that holds a list, or SALMONN's {"annotation": list} in a .json.
        form: a key of FORMS, or "auto" to tell it by the keys of the rows.
        media_dir: where relative paths start; the file's folder if None.
        unplaced_first: whether listed clips without a placeholder go before the first user's words.

    Returns:
        The usable rows, and for each other row its number and the reason: {"row", "reason"}.

    Raises:
        RejectedRecord: the file is missing, unreadable or empty, or the folder is missing.
    """
    if media_dir is not None and not media_dir.is_dir():
        raise RejectedRecord(f"--media-dir: {media_dir} is no folder; name the one of the clips")
    folder = path.parent if media_dir is None else media_dir
    entries = list(_entries(path))
    if not entries:
        raise RejectedRecord(f"{path}: is empty; write one JSON object a line, see docs/data.md")
    told = form_of(_readable(entries)) if form == AUTO else form
    rows: list[TalkRow] = []
    rejected = []
    ids = Ids("row")
    for number, line in entries:
        try:
            pair = as_talks(_fields(line))
            if form == AUTO:
                check_told(pair.chosen, told)
            row = _row(number, pair, told, folder, unplaced_first)
            ids.add(row.id, number)
        except (RejectedRecord, AnnotationError) as error:
            rejected.append({"row": number, "reason": legible(str(error))})
            continue
        rows.append(row)
    return rows, rejected


def _row(number: int, pair: Pair, form: str, folder: pathlib.Path, unplaced_first: bool) -> TalkRow:
    read = functools.partial(_read, form=form, folder=folder, unplaced_first=unplaced_first)
    if pair.rejected is None:
        task, told = CHAT, read(pair.chosen)
        annotation = {**told.notes, "messages": told.messages}
    else:
        task, told = PREFERENCE, read(pair.chosen, pair.chosen_field)
        other = read(pair.rejected, pair.rejected_field)
        annotation = {**told.notes, **compared(told, other, pair)}
    name = own_id(annotation)
    stored_annotation(task, annotation, len(told.clips))
    stem = told.clips[0].name if told.clips else "talk"
    return TalkRow(number, name or f"{stem}-{number}", task, annotation, told.clips)


def _read(
    fields: dict[str, Any],
    field: str = "",
    *,
    form: str,
    folder: pathlib.Path,
    unplaced_first: bool,
) -> Told:
    """What a talk says.

    Args:
        fields: of a row; what is read is taken.
        field: that its last answer was written in, where that is one of its own.
    """
    calls_refused(fields)
    try:
        talk = FORMS[form].read(fields)
        messages, named = conversation(talk, unplaced_first=unplaced_first)
    except RejectedRecord as error:
        where = f"with {field!r} as its answer: " if field else ""
        raise RejectedRecord(f"{where}{error}") from None
    _refuse_rest(fields, form, named)
    if fields.get("task") in (CHAT, PREFERENCE):
        del fields["task"]
    return Told(messages, tuple(find(one, folder) for one in named), fields)


def _entries(path: pathlib.Path) -> Iterable[tuple[int, bytes]]:
    """The rows with their numbers, each as a line of JSON."""
    data = read_list(path)
    is_json = path.suffix.lower() == ".json"
    if not data.strip() or not (is_json or data.lstrip().startswith(b"[")):
        return numbered_lines(data)
    try:
        whole = parsed(data)
    except RejectedRecord as error:
        if "(Extra data" in str(error) or not is_json:  # lines, whatever the file is called
            return numbered_lines(data)
        raise RejectedRecord(f"{path}: {error}") from None
    if isinstance(whole, dict) and isinstance(whole.get("annotation"), list):
        whole = whole["annotation"]
    rows = whole if isinstance(whole, list) and not _are_messages(whole) else [whole]
    return ((n, json.dumps(row).encode()) for n, row in enumerate(rows, start=1))


def _are_messages(entries: list[Any]) -> bool:
    """Whether a list is one talk, as one gives it to transformers, and not one of talks."""
    return bool(entries) and all(isinstance(entry, dict) and "role" in entry for entry in entries)


def _readable(entries: Iterable[tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    """The rows that can be read, of pairs the talks that end with the chosen answer."""
    for _, line in entries:
        try:
            yield as_talks(_fields(line)).chosen
        except RejectedRecord:
            continue


def _fields(line: bytes) -> dict[str, Any]:
    fields = parsed(line)
    if isinstance(fields, list):  # messages alone, as one gives them to transformers
        fields = {"messages": fields}
    if not isinstance(fields, dict):
        raise RejectedRecord(
            f'must be a JSON object, such as {{"messages": [...]}}, not {shown(fields)}'
        )
    check_values(fields, line)
    return fields


def _refuse_rest(rest: dict[str, Any], form: str, clips: list[Named]) -> None:
    """Refuses what a row says beside what its form reads; notes on the talk are kept."""
    for key, value in rest.items():
        if key in _CONTENT and says_something(value):
            raise RejectedRecord(
                f"field {key!r}: form {form} does not read it, and what it says would be lost; "
                "leave it out, rename it if it is a note, or name another --form"
            )
        is_time = key in (*BEGINS, *ENDS) and isinstance(value, int | float | list) and value
        if is_time and clips and not any(clip.segment for clip in clips):
            raise RejectedRecord(
                f"field {key!r}: no part is cut out of the clips of such a row; cut them out, or "
                "rename it if it means something else"
            )
    given = {key: value for key, value in rest.items() if says_something(value)}
    if not clips and (other := near("audio", given)):
        raise RejectedRecord(
            f"field {other!r}: is not read, and the talk has no clip; if it is one, list it as "
            "the form does (docs/data.md), else rename it"
        )
