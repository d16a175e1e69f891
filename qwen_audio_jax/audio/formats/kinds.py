"""What kind of audio file some bytes are, and where in them it begins."""

import re

from qwen_audio_jax.audio.formats import containers, frames, mpeg
from qwen_audio_jax.audio.formats.tags import end_of_id3

_MAX_JUNK = 1 << 17
"""Bytes before the sound, behind tags, in which its beginning is looked for."""

_BEGINNING = re.compile(
    rb"RIFF.{4}WAVE|fLaC[\0\x80]\0\0\x22|OggS\0\x02|FORM.{4}AIF[FC]|\0\0\0[\x10-\x40]ftyp|"
    rb"caff\0\x01",
    re.DOTALL,
)


def find(data: bytes) -> tuple[str, bytes]:
    """A file's kind, and its bytes without the tags and the junk before the sound.

    The kind is "mp3", "riff" (WAV), or FFmpeg's name of the demuxer; "" if it is none.
    """
    at = 0
    while (end := end_of_id3(data, at)) > at:
        at = end
    if name := containers.kind(data[at : at + 400]):
        return name, data[at:] if at else data
    if frames.is_adts(data[at:]):
        return "aac", data[at:]
    # A tag may tell a wrong size, so what lies in it is looked at as well.
    first = mpeg.first_frame(data, at, at + _MAX_JUNK)
    if first is not None:
        return "mp3", data[first:] if first else data
    if found := _BEGINNING.search(data, 0, at + _MAX_JUNK):
        return find(data[found.start() :])
    return "", data


def another_in(data: bytes) -> bool:
    """Whether a file of a common kind begins anywhere in some bytes."""
    return bool(_BEGINNING.search(data)) or mpeg.first_frame(data, -1, len(data)) is not None
