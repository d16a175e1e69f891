"""Lists of our own form (`audio`, `task` and the task's fields), and NeMo's (`audio_filepath`)."""

import functools
import pathlib

from data_pipelines.sources import manifest, rows
from qwen_audio_jax.evaluation.benchmarks.files import Fields, clips_of, read_rows, text
from qwen_audio_jax.evaluation.benchmarks.item import Item, LeftOut
from qwen_audio_jax.tasks import KINDS

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

    Raises:
        RejectedRecord: the list cannot be read.
    """
    return read_rows(path, nemo_id, functools.partial(_nemo, path))


def nemo_id(number: int, fields: Fields) -> str:
    """The row's own id, or the audio file's stem and the row's number. Raises RejectedRecord."""
    given = fields.get("id") or fields.get("audio_id")
    return str(given or f"{pathlib.PurePath(text(fields, 'audio_filepath')).stem}-{number}")


def _nemo(path: pathlib.Path, name: str, fields: Fields) -> Item:
    annotation = {key: value for key, value in fields.items() if key not in _NOT_LABELS}
    annotation["text"] = text(fields, "text")
    language = fields.get("language") or fields.get("lang") or fields.get("source_lang")
    if isinstance(language, str):
        annotation["language"] = language
    clips = clips_of(path, text(fields, "audio_filepath"), _part_of(fields))
    return Item(name, "asr", annotation, clips)


def _part_of(fields: Fields) -> Fields:
    """The fields that say which part of a file a clip is: `duration` alone tells how long it is."""
    named = {key: fields[key] for key in ("offset", "duration", "channel") if key in fields}
    return named if "offset" in named or "channel" in named else {}


def _clips(row: rows.Row) -> tuple[bytes, ...]:
    return rows.make(row).audio
