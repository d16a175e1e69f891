"""Containers made of chunks: where the sound lies, and whether anything but chunks follows it."""

import dataclasses
import re


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
        if not printable or end > len(data) or name == form.sound or name == data[:4]:
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


def told_by_caf(data: bytes) -> tuple[int, int] | None:
    """Samples of encoder delay, and of sound, by a CAF's packet table; None if it has none."""
    table = content(data, "caf", b"pakt")
    if len(table) < 24:
        return None
    return int.from_bytes(table[16:20], "big"), int.from_bytes(table[8:16], "big")


def behind_sound(data: bytes, container: str) -> tuple[int, int]:
    """Bytes of the chunk that holds the sound, and of what follows it and is no chunk.

    Zeros are no sound. (0, 0) where the container is not known here or does not tell.
    """
    if container == "voc":
        return _behind_blocks(data)
    if container == "nistsphere":
        return _behind_sphere(data)
    form = _FORMS.get(container)
    if not form:
        return 0, 0
    begin = unknown_from(data, form.first, form)
    if data[begin : begin + form.name] != form.sound:
        return 0, 0
    end = _end(data, begin, form)
    if end >= len(data):
        return 0, 0
    places = (unknown_from(data, end + odd, form) for odd in (0, -end % form.align))
    behind = data[max(places) :]
    return end - begin, 0 if behind.count(0) == len(behind) else len(behind)


def _end(data: bytes, at: int, form: Form) -> int:
    """Where a chunk ends, without padding."""
    place = at + form.name
    size = int.from_bytes(data[place : place + form.size], form.order)
    if form is RIFF and data[:4] in (b"RF64", b"BW64") and size == 0xFFFFFFFF:
        size = int.from_bytes(data[28:36], "little")  # of the chunk ds64
    return place + form.size + size - form.counted


def _behind_blocks(data: bytes) -> tuple[int, int]:
    """Of a VOC file, whose blocks have a type and a size in 3 bytes; type 0 is the end."""
    at = int.from_bytes(data[20:22], "little")
    first = at
    while at + 4 <= len(data) and 0 < data[at] < 10:
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "little")
    behind = data[at + 1 :]
    return at - first, 0 if behind.count(0) == len(behind) else len(behind)


def _behind_sphere(data: bytes) -> tuple[int, int]:
    """Of a SPHERE file, whose head tells its own size and the number and size of samples."""
    head = data[: int(data[8:16]) if data[8:16].strip().isdigit() else 1024]
    told = dict(re.findall(rb"(sample_count|sample_n_bytes|channel_count) -i (\d+)", head))
    size = int(told.get(b"sample_count", 0)) * int(told.get(b"sample_n_bytes", 2))
    size *= int(told.get(b"channel_count", 1))
    behind = data[len(head) + size :]
    return size, 0 if behind.count(0) == len(behind) else len(behind)
