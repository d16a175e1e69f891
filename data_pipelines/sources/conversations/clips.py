"""The clips of talks: files, parts of files, files joined, and audio written into the row."""

import base64
import binascii
import dataclasses
import pathlib
import re
import urllib.parse

import numpy as np

from data_pipelines.records import Record, RejectedRecord
from data_pipelines.sources import recordings, rows
from data_pipelines.sources.conversations.talk import Named
from data_pipelines.sources.paths import audio_file
from data_pipelines.sources.segments import Segment
from qwen_audio_jax.audio.decode import AudioError, decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE

GAP = SAMPLE_RATE // 10
"""Samples of silence between joined files: SALMONN's 0.1 s."""
_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{256,}={0,2}\s*")
"""No file's name is so long without a dot, and no clip is shorter in base64."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file, or a part of it. Attributes: where it lies, and which part; None is the whole."""

    path: pathlib.Path
    segment: Segment | None = None

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def size(self) -> int:
        """About how many bytes."""
        if not self.path.is_file():
            return 0
        return (
            recordings.size_of(self.path, self.segment)
            if self.segment
            else self.path.stat().st_size
        )

    def read(self) -> bytes:
        """Raises RejectedRecord if it cannot be read."""
        return rows.clip(self.path, self.segment)


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A clip that the row holds itself. Attributes: data, its bytes."""

    data: bytes
    name = "talk"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def read(self) -> bytes:
        """Its bytes."""
        return self.data


@dataclasses.dataclass(frozen=True)
class Joined:
    """Files heard one after another, 0.1 s of silence between them, at 16 kHz in one channel.

    Attributes: files, in order.
    """

    files: tuple[File, ...]

    @property
    def name(self) -> str:
        return self.files[0].name

    @property
    def size(self) -> int:
        """About how many bytes."""
        return sum(file.size for file in self.files)

    def read(self) -> bytes:
        """Raises RejectedRecord if one of them cannot be read or decoded."""
        waves: list[np.ndarray] = []
        for file in self.files:
            try:
                waves += [np.zeros(GAP, np.float32)] * bool(waves) + [decode(file.read())]
            except AudioError as error:
                raise RejectedRecord(f"field 'audio': {file.path}: {error}") from error
        # 24 bits are finer than what resampling and the mean of channels leave of 16.
        return recordings.encoded(np.concatenate(waves)[:, None], SAMPLE_RATE, lossy=True)


Clip = File | Embedded | Joined


@dataclasses.dataclass(frozen=True)
class TalkRow:
    """A usable row. Attributes: its number in the source, from 1, the record's, and its clips."""

    line: int
    id: str
    task: str
    annotation: dict
    clips: tuple[Clip, ...]


def row_of(row: TalkRow) -> int:
    """The row's number."""
    return row.line


def size_of(row: TalkRow) -> int:
    """Bytes of the row's clips, about."""
    return sum(clip.size for clip in row.clips)


def make(row: TalkRow) -> Record:
    """Reads the row's clips."""
    return Record(row.id, row.task, tuple(clip.read() for clip in row.clips), row.annotation)


def find(named: Named, folder: pathlib.Path) -> Clip:
    """The clip that a row names.

    Args:
        named: as the row names it.
        folder: where relative paths start.

    Raises:
        RejectedRecord: an address, no such file, or no base64.
    """
    if named.is_data or (not named.further and _holds_audio(named.name)):
        if named.segment:
            raise RejectedRecord(
                f"field {named.segment.begin_field!r}: no part is cut out of a clip that the row "
                "holds in base64; cut it out, or give the path of a file"
            )
        return Embedded(_decoded(named.name))
    first, *further = (_file(name, folder) for name in (named.name, *named.further))
    if further:
        return Joined((File(first), *map(File, further)))
    return File(first, named.segment)


def _holds_audio(name: str) -> bool:
    if name[:5].lower() == "data:":
        return True
    return _BASE64.fullmatch(name) is not None


def _decoded(text: str) -> bytes:
    uri = _DATA_URI.match(text)
    if not uri and text[:5].lower() == "data:":
        raise RejectedRecord(
            "field 'audio': a data: URI must be in base64, data:audio/wav;base64,..."
        )
    words = "".join(text[uri.end() if uri else 0 :].split())
    try:
        data = base64.b64decode(words, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RejectedRecord(
            f"field 'audio': a clip is no valid base64 ({error}); write its bytes in base64, or "
            "give the path of a file"
        ) from None
    if not data:
        raise RejectedRecord("field 'audio': a clip in base64 is empty")
    return data


def _file(name: str, folder: pathlib.Path) -> pathlib.Path:
    if name[:5].lower() == "file:":
        parts = urllib.parse.urlsplit(name)
        if parts.netloc not in ("", "localhost"):
            raise RejectedRecord(f"field 'audio': {name} is on another machine; give its path")
        name = urllib.parse.unquote(parts.path)
    try:
        return audio_file(folder, name)
    except RejectedRecord as error:
        if " not there" in str(error) and not pathlib.PurePath(name).is_absolute():
            raise RejectedRecord(
                f"{error}; --media-dir=DIR says where relative paths start"
            ) from None
        raise
