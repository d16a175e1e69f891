"""Ogg: every link of a chain, every page's checksum and number (RFC 3533)."""

import dataclasses
import struct
import zlib

import numpy as np

from qwen_audio_jax.audio.formats import ffmpeg, sndfile
from qwen_audio_jax.audio.formats.errors import AudioError, join
from qwen_audio_jax.audio.formats.tags import end_of_tags

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FIRST, _LAST = 2, 4
"""Flags of the page that begins a stream, and of the one that ends it."""

_AUDIO = {
    b"\x01vorbis": "Vorbis",
    b"OpusHead": "Opus",
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
    b"PCM     ": "PCM",
}


@dataclasses.dataclass(frozen=True)
class Page:
    """Where it begins and ends, its flags and stream, packet sizes in steps of 255, content."""

    begin: int
    end: int
    flags: int
    serial: int
    lacing: bytes
    body: bytes


def read(data: bytes) -> tuple[np.ndarray, int]:
    """float32 [n, channels] and the sampling rate in Hz of all links of an Ogg file.

    Raises:
        AudioError: damaged, broken off, several tracks, links that differ, or too long.
    """
    return join(_read_link(data, pages) for pages in _links(list(_pages(data))))


def _pages(data: bytes):
    """Every page, in order."""
    at = 0
    numbers: dict[int, int] = {}
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            if data[at : at + 4] == b"OggS"[: len(data) - at]:
                raise AudioError("it is broken off: its last Ogg page is incomplete")
            end = end_of_tags(data, at)
            if end == len(data):
                return
            raise AudioError(f"it is damaged: at byte {end} begins no Ogg page")
        end = _end(data, at)
        if end > len(data):
            raise AudioError("it is broken off: its last Ogg page is incomplete")
        flags, serial, number, checksum = struct.unpack_from("<xB8xIII", data, at + 4)
        if _checksum(data[at:end]) != checksum:
            raise AudioError(f"it is damaged: the Ogg page at byte {at} has a wrong checksum")
        if flags & _FIRST:
            numbers[serial] = number
        elif numbers.get(serial, number) != number:
            raise AudioError(
                f"Ogg pages are missing before byte {at}: page {number} follows "
                f"{numbers[serial] - 1}"
            )
        numbers[serial] = (number + 1) & 0xFFFFFFFF
        body = at + 27 + data[at + 26]
        yield Page(at, end, flags, serial, data[at + 27 : body], data[body:end])
        at = end


def _end(data: bytes, at: int) -> int:
    """Where the page that begins at `at` ends by its own sizes."""
    if at + 27 > len(data) or at + 27 + data[at + 26] > len(data):
        return len(data) + 1
    body = at + 27 + data[at + 26]
    return body + sum(data[at + 27 : body])


def _checksum(page: bytes) -> int:
    """CRC by the polynomial 0x04C11DB7, highest bit first, begun with 0. zlib's is mirrored.

    The page's own checksum, at byte 22, counts as 0.
    """
    mirrored = memoryview(page.translate(_MIRRORED))
    crc = zlib.crc32(bytes(4), zlib.crc32(mirrored[:22], 0xFFFFFFFF))
    crc = zlib.crc32(mirrored[26:], crc) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _links(pages: list[Page]) -> list[list[Page]]:
    """Pages of each link of the chain. A link begins with the first pages of all its streams."""
    links: list[list[Page]] = []
    before = 0
    for page in pages:
        if not links or (page.flags & _FIRST and not before & _FIRST):
            links.append([])
        links[-1].append(page)
        before = page.flags
    return links


def _read_link(data: bytes, pages: list[Page]) -> tuple[np.ndarray, int]:
    firsts = [page for page in pages if page.flags & _FIRST]
    codecs = {page.serial: _codec(page.body) for page in firsts}
    tracks = [serial for serial, codec in codecs.items() if codec]
    if len(tracks) > 1:
        raise AudioError(f"it has {len(tracks)} audio tracks, and one is needed")
    if any(page.serial not in codecs for page in pages):
        raise AudioError("it is damaged: the first page of an Ogg stream is missing")
    link = data[pages[0].begin : pages[-1].end]
    if codecs == dict.fromkeys(tracks, "Vorbis"):
        wave, rate = sndfile.read(link)
        _check_vorbis(pages, len(wave))
        return wave, rate
    return ffmpeg.read(link, "ogg")


def _codec(packet: bytes) -> str:
    """Of a stream's first packet; "" if it is no audio that is known."""
    return next((name for magic, name in _AUDIO.items() if packet.startswith(magic)), "")


def _check_vorbis(pages: list[Page], found: int) -> None:
    """Raises an AudioError where a Vorbis stream's packets hold more than its pages tell."""
    durations, block = _vorbis_durations(pages)
    held = int(durations.sum())
    if held - found > block:
        raise AudioError(f"its Ogg pages tell of {found} samples, and its packets hold {held}")


def _vorbis_durations(pages: list[Page]) -> tuple[np.ndarray, int]:
    """Samples that each audio packet adds (Vorbis I, section 4.3.8), and the longest block."""
    body = b"".join(page.body for page in pages)
    lacing = np.frombuffer(b"".join(page.lacing for page in pages), np.uint8)
    ends = np.cumsum(lacing, dtype=np.int64)[lacing < 255]
    starts = np.concatenate([[0], ends[:-1]])
    if len(starts) < 3:
        return np.zeros(0, np.int64), 0
    short, long = 1 << (body[28] & 15), 1 << (body[28] >> 4)
    modes = _vorbis_modes(body[starts[2] : ends[2]])
    held = ends > starts
    first = np.frombuffer(body, np.uint8)[starts[held]][3:]
    first = first[first & 1 == 0]
    index = first >> 1 & ((1 << (len(modes) - 1).bit_length()) - 1)
    index = np.minimum(index, len(modes) - 1)
    sizes = np.where(modes[index], long, short)
    return (sizes[:-1] + sizes[1:]) // 4, long


def _vorbis_modes(setup: bytes) -> np.ndarray:
    """Which of a Vorbis setup header's modes have long blocks.

    They stand at its end, 41 bits each (block flag, 16 zeros twice, mapping), behind their number
    less 1 in 6 bits; where they begin, only that number tells.
    """
    bits = int.from_bytes(setup.rstrip(b"\0"), "little")
    at = bits.bit_length() - 1  # of the framing bit
    flags, found = [], []
    while at >= 47 and len(flags) < 64 and not bits >> (at - 40) & 0xFFFFFFFF:
        at -= 41
        flags.insert(0, bool(bits >> at & 1))
        if bits >> (at - 6) & 63 == len(flags) - 1:
            found = list(flags)
    if not found:
        raise AudioError("it is damaged: the modes of its Vorbis setup header cannot be read")
    return np.array(found)
