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

_ARCHIVES = {
    b"\x1f\x8b": "a gzip file",
    b"PK\3\4": "a ZIP archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\7": "a RAR archive",
}
_OTHER_AUDIO = {
    b"\x0b\x77": "AC-3",
    b"\x7f\xfe\x80\x01": "DTS",
    b"TTA1": "True Audio (TTA)",
    b"MAC ": "Monkey's Audio (APE)",
    b"MPCK": "Musepack",
    b"MP+": "Musepack",
    b"DSD ": "DSD",
    b"ajkg": "Shorten",
    b".RMF": "RealAudio",
    b".ra\xfd": "RealAudio",
}
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|!--|\?xml|[a-z]+[\s/>])", re.IGNORECASE)
_LFS_POINTER = b"version https://git-lfs"


def find(data: bytes) -> tuple[str, bytes]:
    """A file's kind, and its bytes without the tags and the junk before the sound.

    The kind is "mp3", "riff" (WAV), or FFmpeg's name of the demuxer; "" if it is none.
    """
    at = _behind_id3(data)
    if name := containers.kind(data[at : at + 400]):
        if name == "mpegts":  # which begins anywhere, and a tag may tell too large a size
            at = containers.first_packet(data, at)
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


def why_not_audio(data: bytes) -> str:
    """The reason for a file whose kind `find` does not know, one sentence with the mend."""
    if not data:
        return "the file is empty (0 bytes); copy or download it again"
    if data.startswith(_LFS_POINTER):
        return "it is a Git LFS pointer, not the file that it stands for; run `git lfs pull`"
    if _MARKUP.match(data):
        return "it is an HTML or XML page, as failed downloads leave it; download the file again"
    for magic, name in _ARCHIVES.items():
        if data.startswith(magic):
            return f"it is {name}, not audio; unpack it"
    sound = data[_behind_id3(data) :][:4]
    for magic, name in _OTHER_AUDIO.items():
        if sound.startswith(magic):
            return f"it is {name}, which is not read; convert it to FLAC"
    return "it cannot be read as WAV, FLAC, Ogg, MP3 or any other kind of audio"


def _behind_id3(data: bytes) -> int:
    """Where what follows the ID3v2 tags in front begins."""
    at = 0
    while (end := end_of_id3(data, at)) > at:
        at = end
    return at


def another_in(data: bytes) -> bool:
    """Whether a file of a common kind begins anywhere in some bytes."""
    return bool(_BEGINNING.search(data)) or mpeg.first_frame(data, -1, len(data)) is not None
