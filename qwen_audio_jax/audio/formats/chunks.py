"""Containers made of chunks: where the sound lies, and whether anything but chunks follows it."""

import dataclasses
import re
import struct

from qwen_audio_jax.audio.formats.errors import AudioError


@dataclasses.dataclass(frozen=True)
class Form:
    """How chunks lie.

    Attributes:
        first: where the first one begins.
        name: bytes of a chunk's name.
        size: bytes of its size.
        order: byte order of the size.
        counted: bytes of name and size that the size counts.
        align: a chunk begins at a multiple of so many bytes.
        sound: the name of the chunk that holds the sound.
    """

    first: int
    name: int
    size: int
    order: str
    counted: int
    align: int
    sound: bytes


RIFF = Form(12, 4, 4, "little", 0, 2, b"data")
RIFX = dataclasses.replace(RIFF, order="big")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_FORMS = {
    "wav": RIFF,  # RF64
    "aiff": Form(12, 4, 4, "big", 0, 2, b"SSND"),
    "w64": Form(40, 16, 8, "little", 24, 8, _W64_DATA),
    "caf": Form(8, 4, 8, "big", 0, 1, b"data"),
}


def unknown_from(data: bytes, at: int, form: Form) -> int:
    """Where what lies from `at` on is no chunk any more; it stops at another file and at sound."""
    while at + form.name + form.size <= len(data):
        name, end = data[at : at + form.name], _end(data, at, form)
        printable = all(32 <= letter < 127 for letter in name[:4])
        whole = at + form.name + form.size <= end <= len(data)
        if not printable or not whole or name == form.sound or name[:4] == data[:4]:
            break
        at = min(end + -end % form.align, len(data))
    return at


def content(data: bytes, container: str, name: bytes) -> bytes:
    """What the first chunk of a name holds, told by its first 4 bytes; b"" if there is none."""
    form = _FORMS[container]
    at = form.first
    while at + form.name + form.size <= len(data):
        end = _end(data, at, form)
        if data[at : at + 4] == name:
            return data[at + form.name + form.size : end]
        at = max(end + -end % form.align, at + 8)
    return b""


def told_by_caf(data: bytes) -> tuple[int, int, int] | None:
    """Samples of encoder delay, of sound and of padding by a CAF's packet table; None without one.

    Padding is less than a packet.
    """
    table = content(data, "caf", b"pakt")
    if len(table) < 24:
        return None
    sound, delay, padding = struct.unpack_from(">QII", table, 8)
    packet = int.from_bytes(content(data, "caf", b"desc")[20:24], "big")
    return delay, sound, min(padding, packet)


def rate_of_caf(data: bytes) -> float:
    """The sampling rate in Hz that a CAF's description tells; 0 where it is cut short."""
    form = content(data, "caf", b"desc")
    return struct.unpack_from(">d", form)[0] if len(form) >= 8 else 0.0


def around_sound(data: bytes, container: str) -> tuple[int, int, bytes]:
    """How the size that a container tells of its sound fits the file.

    Returns:
        bytes of sound by the container, of those how many are missing, and what follows them and
        is no part of such a file; (0, 0, b"") where it does not tell. Zeros are nothing.
    """
    form = _FORMS.get(container)
    places = _OTHERS[container](data) if not form else _chunk(data, form)
    if not places or (end := places[1]) >= len(data):
        return (places[1] - places[0], places[1] - len(data), b"") if places else (0, 0, b"")
    if form:
        end = max(unknown_from(data, end + odd, form) for odd in (0, -end % form.align))
    behind = data[end:]
    return places[1] - places[0], 0, b"" if behind.count(0) == len(behind) else behind


def end_of_sound(data: bytes, container: str) -> int:
    """Where the chunk of the sound ends; the end of the file where that is not known."""
    places = _chunk(data, _FORMS[container])
    return places[1] if places else len(data)


def _chunk(data: bytes, form: Form) -> tuple[int, int] | None:
    """Where the chunk of the sound begins and ends; None where its size is not known."""
    begin = unknown_from(data, form.first, form)
    if data[begin : begin + form.name] != form.sound:
        return None
    # Whoever streams one puts the largest number there.
    unknown = _size(data, begin, form) in (256**form.size - 1, 256**8 - 1)
    return None if unknown else (begin, _end(data, begin, form))


def _end(data: bytes, at: int, form: Form) -> int:
    """Where a chunk ends, without padding."""
    return at + form.name + form.size + _size(data, at, form) - form.counted


def _size(data: bytes, at: int, form: Form) -> int:
    place = at + form.name
    size = int.from_bytes(data[place : place + form.size], form.order)
    if data[:4] in (b"RF64", b"BW64") and size == 0xFFFFFFFF:
        return int.from_bytes(data[28:36], "little")  # of the chunk ds64
    return size


def _voc(data: bytes) -> tuple[int, int]:
    """Of a VOC file, whose blocks have a type and a size in 3 bytes; type 0 is the end."""
    first = at = int.from_bytes(data[20:22], "little")
    while at + 4 <= len(data) and 0 < data[at] < 10:
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "little")
    return first, at + (data[at : at + 1] == b"\0")


def _sphere(data: bytes) -> tuple[int, int]:
    """Of a SPHERE file, whose head tells its own size and the number and size of samples."""
    head = data[: int(data[8:16]) if data[8:16].strip().isdigit() else 1024]
    fields = rb"(sample_count|sample_n_bytes|channel_count) -(?:i|s\d+) (\d+)"
    if b"shorten" in head:
        raise AudioError("it is a SPHERE of Shorten, which is not read; convert it by sph2pipe")
    told = dict(re.findall(fields, head))
    size = int(told.get(b"sample_count", 0)) * int(told.get(b"sample_n_bytes", 2))
    return len(head), len(head) + size * int(told.get(b"channel_count", 1))


def _au(data: bytes) -> tuple[int, int] | None:
    begin, size = (int.from_bytes(data[at : at + 4], "big") for at in (4, 8))
    return None if size == 0xFFFFFFFF else (begin, begin + size)


_OTHERS = {"voc": _voc, "nistsphere": _sphere, "au": _au, "riff": lambda data: None}
