"""Which container some bytes are, and whether it is one, and whole."""

import re
from collections.abc import Callable

_MOV = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675

_SIGNATURES = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (_ASF_HEADER, "asf"),
    (b"#!AMR", "amr"),
    (b"FLV\1", "flv"),
    (b"\0\0\1\xba", "mpeg"),
    (b"caff", "caf"),
    (b"FORM", "aiff"),
    (b".snd", "au"),
    (_W64, "w64"),
    (b"RF64", "wav"),
    (b"BW64", "wav"),
    (b"NIST_1A", "nistsphere"),
    (b"Creative Voice File", "voc"),
    (b"\x0b\x77", "ac3"),
    (b"wvpk", "wv"),
    (b"MAC ", "ape"),
    (b"TTA1", "tta"),
    (b"\x64\xa3", "ircam"),
    (b"PVF1", "pvf"),
    (b"2BIT", "avr"),
    (b"MATLAB 5.0", "mat"),
)


def kind(data: bytes) -> str:
    """FFmpeg's name of a container's demuxer; "riff" for a WAV, and "" for what is not known."""
    if data[:4] in (b"RIFF", b"RIFX"):
        return {b"WAVE": "riff", b"AVI ": "avi"}.get(data[8:12], "")
    if data[4:8] in _MOV:
        return "mov"
    if len(data) > 376 and data[0] == data[188] == data[376] == 0x47:
        return "mpegts"
    return next((name for magic, name in _SIGNATURES if data.startswith(magic)), "")


def fault(data: bytes, name: str) -> str:
    """What is wrong with a container that its decoder would pass over in silence, or ""."""
    end, files = _WALKS[name](data) if name in _WALKS else (0, 1)
    if end > len(data):
        return f"it is broken off: {len(data)} of {end} bytes are there"
    if files > 1:
        return f"it is {files} files one after another, and only one would be heard; split it"
    return ""


def _boxes(data: bytes) -> tuple[int, int]:
    """Where an MP4's last box ends by its own size, and the number of files that begin.

    ISO 14496-12, section 4.2.
    """
    at, kinds = 0, []
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kinds.append(data[at + 4 : at + 8])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at = at + max(size, 8) if size else len(data)  # 0: up to the end of the file
    return at, max(kinds.count(b"ftyp"), kinds.count(b"moov"))


def _objects(data: bytes) -> tuple[int, int]:
    """The same of an ASF file. The data object of a broadcast does not know its size."""
    at, files = 0, 0
    while at + 24 <= len(data):
        size = int.from_bytes(data[at + 16 : at + 24], "little")
        files += data[at : at + 16] == _ASF_HEADER
        at = at + size if size >= 24 else len(data)
    return at, files


def _flash(data: bytes) -> tuple[int, int]:
    return 0, len(re.findall(rb"FLV\x01.\0\0\0\x09\0\0\0\0", data, re.DOTALL))


def _riff(data: bytes) -> tuple[int, int]:
    size = int.from_bytes(data[4:8], "little")
    return 8 + size if 0 < size < 0x7FFFF000 else len(data), 1


def _elements(data: bytes) -> tuple[int, int]:
    """Where the last element of a Matroska or WebM file ends (RFC 8794, section 4).

    Files one after another are heard all.
    """
    at = 0
    while at < len(data):
        identity, at = _number(data, at, keep_marker=True)
        size, at = _number(data, at, keep_marker=False)
        # Both may have no size, and what they hold is looked at in any case.
        if identity in (_SEGMENT, _CLUSTER) and size is None:
            continue
        if size is None or at + size > len(data):
            return at + (size or 0), 1
        if identity not in (_SEGMENT, _CLUSTER):
            at += size
    return at, 1


def _number(data: bytes, at: int, keep_marker: bool) -> tuple[int | None, int]:
    """A number of variable length and where it ends; None for a size that is not known."""
    length = 9 - data[at].bit_length() if at < len(data) else 1
    number = int.from_bytes(data[at : at + length], "big")
    if not keep_marker:
        ones = (1 << 7 * length) - 1
        number &= ones
        if number == ones:
            return None, at + length
    return number, at + length


_WALKS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "mov": _boxes,
    "asf": _objects,
    "flv": _flash,
    "avi": _riff,
    "matroska": _elements,
}
