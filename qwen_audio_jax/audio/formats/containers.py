"""Which container some bytes are, and whether it is one, whole, and all of the file."""

from collections.abc import Callable

from qwen_audio_jax.audio.formats.tags import end_of_tags

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_TS_PACKET = 188

_SIGNATURES = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (_ASF_HEADER, "asf"),
    (b"#!AMR", "amr"),
    (b"FLV\1", "flv"),
    (b"caff", "caf"),
    (b".snd", "au"),
    (_W64, "w64"),
    (b"RF64", "wav"),
    (b"BW64", "wav"),
    (b"NIST_1A", "nistsphere"),
    (b"Creative Voice File", "voc"),
    (b"wvpk", "wv"),
)

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_ELEMENTS = {
    0x114D9B74: "SeekHead",
    0x1549A966: "Info",
    0x1654AE6B: "Tracks",
    0x1C53BB6B: "Cues",
    0x1254C367: "Tags",
    0x1043A770: "Chapters",
    0x1941A469: "Attachments",
    0xEC: "Void",
    0xBF: "CRC-32",
    0xE7: "Timestamp",
    0xA3: "SimpleBlock",
    0xA0: "BlockGroup",
    0xA7: "Position",
    0xAB: "PrevSize",
}
"""What lies in a Segment or in a Cluster of Matroska (RFC 9559, section 5.1)."""


def kind(data: bytes) -> str:
    """FFmpeg's name of a container's demuxer; "riff" for a WAV, and "" for what is not known."""
    if data[:4] in (b"RIFF", b"RIFX"):
        return {b"WAVE": "riff", b"AVI ": "avi"}.get(data[8:12], "")
    if data[:4] == b"FORM":
        return "aiff" if data[8:12] in (b"AIFF", b"AIFC") else ""
    if data[4:8] in _BOXES:
        return "mov"
    if data[0 : 3 * _TS_PACKET : _TS_PACKET] == b"\x47\x47\x47":
        return "mpegts"
    return next((name for magic, name in _SIGNATURES if data.startswith(magic)), "")


def first_packet(data: bytes, at: int) -> int:
    """Where the packets of a transport stream begin that lead to one at `at`."""
    while at >= _TS_PACKET and data[at - _TS_PACKET] == 0x47:
        at -= _TS_PACKET
    return at


def fault(data: bytes, name: str) -> str:
    """What is wrong with a container that its decoder would pass over in silence, or ""."""
    if name not in _WALKS:
        return ""
    end, files = _WALKS[name](data)
    if end > len(data):
        return f"it is broken off: {len(data)} of {end} bytes are there"
    if files > 1:
        return f"it is {files} files one after another, and only one would be heard; split it"
    if end_of_tags(data, end) < len(data):
        return f"the {len(data) - end} bytes from byte {end} on are no part of such a file"
    return ""


def _boxes(data: bytes) -> tuple[int, int]:
    """Where an MP4's boxes end by their own sizes, and the number of files that begin.

    ISO 14496-12, section 4.2.
    """
    at, kinds = 0, []
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if not all(32 <= letter < 127 for letter in name):
            break
        kinds.append(name)
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
    """The same of an FLV: tags of a head of 11 bytes, content, and their size in 4 bytes."""
    at = int.from_bytes(data[5:9], "big") + 4
    while at + 11 <= len(data) and data[at] in (8, 9, 18):
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at, 2 if data[at : at + 4] == data[:4] else 1


def _riff(data: bytes) -> tuple[int, int]:
    """The same of an AVI, of which several may follow one another: all are heard."""
    at = 0
    while data[at : at + 4] == b"RIFF":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at = at + 8 + size + (size & 1) if 0 < size < 0x7FFFF000 else len(data)
    return at, 1


def _blocks(data: bytes) -> tuple[int, int]:
    """The same of WavPack."""
    at = 0
    while data[at : at + 4] == b"wvpk":
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return at, 1


def _packets(data: bytes) -> tuple[int, int]:
    """The same of an MPEG transport stream. Streams that follow one another are all heard."""
    heads = data[::_TS_PACKET]
    good = len(heads) - len(heads.lstrip(b"\x47"))
    return good * _TS_PACKET, 1


def _elements(data: bytes) -> tuple[int, int]:
    """The same of a Matroska or WebM file (RFC 8794, section 4)."""
    at, files = 0, 0
    while at < len(data):
        identity, begin = _number(data, at, keep_marker=True)
        size, begin = _number(data, begin, keep_marker=False)
        if identity in (_SEGMENT, _CLUSTER):
            # What they hold is looked at, since a live recording does not know their size.
            if size is not None and begin + size > len(data):
                return begin + size, files
            at = begin
        elif size is not None and (identity == _EBML or identity in _ELEMENTS):
            files += identity == _EBML
            at = begin + size
        else:
            break
    return at, files


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
    "wv": _blocks,
    "mpegts": _packets,
    "matroska": _elements,
}
