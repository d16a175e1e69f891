"""Lists of our own form (`audio`, `task` and the task's fields), and NeMo's (`audio_filepath`)."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from data_pipelines.records import RejectedRecord, legible
from data_pipelines.sources import manifest, rows
from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import Item, LeftOut
from qwen_audio_jax.evaluation.benchmarks.questions import Clips
from qwen_audio_jax.tasks import KINDS

_NOT_SCORED = "ignore time segment in scoring"
"""What TED-LIUM's stretches without a transcript have for a text; the leaderboard passes them over
too.
"""

_NOT_LABELS = {"audio_filepath", "offset", "duration", "channel", "pred_text"}


def read(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """Our own form, see `data_pipelines.sources.manifest`. Raises RejectedRecord."""
    found, rejected = manifest.jobs(path)
    left_out = [LeftOut(one["row"], one["reason"]) for one in rejected]
    items = []
    for row in found:
        if KINDS[row.task].metric:
            clips = functools.partial(_clips, row)
            items.append(Item(row.id, row.task, row.annotation, clips))
        else:
            left_out.append(LeftOut(row.line, f"its task {row.task!r} is not evaluated"))
    return items, left_out


def read_nemo(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """NeMo's and the Open ASR leaderboard's: `audio_filepath`, `text`, `duration`, `lang`.

    Rows with `parent_id` and `chunk_index` are a recording that was cut, as Earnings-22's calls
    are: one item, as `merge_chunked_manifest` in the leaderboard's normalizer/eval_utils.py has it.

    Raises:
        RejectedRecord: the list cannot be read.
    """
    items, left_out = read_rows(path, nemo_id, functools.partial(_nemo, path))
    found: dict[object, list[Item]] = {}
    for item in items:
        is_chunk = {"parent_id", "chunk_index"} <= item.annotation.keys()
        key = ("recording", str(item.annotation["parent_id"])) if is_chunk else ("row", item.id)
        found.setdefault(key, []).append(item)
    items = []
    for (kind, name), some in found.items():
        try:
            items.append(_recording(name, some) if kind == "recording" else some[0])
        except RejectedRecord as error:
            left_out.append(LeftOut(name, legible(str(error))))
    return items, left_out


def nemo_id(number: int, fields: Fields) -> str:
    """The row's own id, or the audio file's stem and the row's number. Raises RejectedRecord."""
    given = fields.get("id") or fields.get("audio_id")
    return str(given or f"{pathlib.PurePath(text(fields, 'audio_filepath')).stem}-{number}")


def _nemo(path: pathlib.Path, name: str, fields: Fields) -> Item:
    annotation = {key: value for key, value in fields.items() if key not in _NOT_LABELS}
    annotation["text"] = text(fields, "text")
    if annotation["text"].strip().replace("_", " ").casefold() == _NOT_SCORED:
        raise RejectedRecord(f"field 'text': is {annotation['text']!r}, which says to pass it over")
    language = fields.get("language") or fields.get("lang") or fields.get("source_lang")
    if isinstance(language, str):
        annotation["language"] = language
    clips = clips_of(path, text(fields, "audio_filepath"), _part_of(fields))
    return Item(name, "asr", annotation, clips)


def _recording(name: str, chunks: Sequence[Item]) -> Item:
    """A recording of its chunks. Raises RejectedRecord: they are not all, or not of one text."""
    numbers = [item.annotation["chunk_index"] for item in chunks]
    wanted = set(range(len(chunks)))
    if not all(type(number) is int for number in numbers) or set(numbers) != wanted:
        told = ", ".join(map(str, sorted(numbers, key=str)))
        raise RejectedRecord(
            f"field 'chunk_index': the rows of parent_id {name!r} must have 0, 1 ... each once; "
            f"those that can be asked have {told}"
        )
    if len({item.annotation["text"] for item in chunks}) > 1:
        raise RejectedRecord(
            f"field 'text': the rows of parent_id {name!r} must all have the text of the whole "
            "recording; leave out 'chunk_index' where each has its own"
        )
    chunks = sorted(chunks, key=lambda item: item.annotation["chunk_index"])
    annotation = {k: v for k, v in chunks[0].annotation.items() if k != "chunk_index"}
    clips = functools.partial(_each, [item.clips for item in chunks])
    rows = tuple(item.id for item in chunks)
    return dataclasses.replace(chunks[0], id=name, annotation=annotation, clips=clips, rows=rows)


def _each(clips: Sequence[Clips]) -> tuple[bytes, ...]:
    return tuple(clip for one in clips for clip in one())


def _part_of(fields: Fields) -> Fields:
    """The fields that say which part of a file a clip is: `duration` alone tells how long it is."""
    named = {key: fields[key] for key in ("offset", "duration", "channel") if key in fields}
    return named if "offset" in named or "channel" in named else {}


def _clips(row: rows.Row) -> tuple[bytes, ...]:
    return rows.make(row).audio
