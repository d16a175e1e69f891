"""FLAC: its frames' own numbers against the length that its header tells."""

import re

import numpy as np

from qwen_audio_jax.audio import sndfile
from qwen_audio_jax.audio.errors import AudioError, join

_STREAMINFO = (b"\0\0\0\x22", b"\x80\0\0\x22")
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(256 << n for n in range(8)))
_TAIL = 1 << 16
"""Bytes at the end in which the last frame is looked for, where the largest is not known."""


def read(data: bytes) -> tuple[np.ndarray, int]:
    """float32 [n, channels] and the sampling rate in Hz of a FLAC, or of some one after another.

    Raises:
        AudioError: it is damaged, broken off, longer than its header tells, or too long.
    """
    starts = [0]
    while (at := data.find(b"fLaC", starts[-1] + 4)) >= 0:
        starts.append(at)
    starts = [at for at in starts if not at or data[at + 4 : at + 8] in _STREAMINFO]
    ends = [*starts[1:], len(data)]
    pieces = (data[start:end] for start, end in zip(starts, ends, strict=True))
    return join(sndfile.read(_with_length(piece)) for piece in pieces)


def _with_length(data: bytes) -> bytes:
    """A FLAC with the number of its samples in its header, where a writer did not know it."""
    if len(data) < 42:
        return data  # libsndfile says what is wrong
    total = int.from_bytes(data[21:26], "big") & 0xFFFFFFFFF
    largest = int.from_bytes(data[15:18], "big")
    tail = max(42, len(data) - 2 * max(largest, 1 << 10)) if largest else len(data) - _TAIL
    if total and all(end <= total for _, end in _frames(data, max(42, tail))):
        return data
    there = _samples_of_frames(data)
    if total:
        # What looked like the header of a later frame was none.
        if there <= total:
            return data
        raise AudioError(f"its header tells of {total} samples, and its frames hold {there}")
    true = bytearray(data)
    true[21] = data[21] & 0xF0 | there >> 32
    true[22:26] = (there & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(true)


def _samples_of_frames(data: bytes) -> int:
    """Samples of all frames, which have to follow one after another."""
    first = last = None
    furthest = 0
    for begin, end in _frames(data, _end_of_metadata(data)):
        if first is None:
            first = last = begin
        if begin == last:
            last = end
        furthest = max(furthest, end)
    if first is None:
        raise AudioError("the clip has no samples")
    if furthest > last:
        raise AudioError(f"it is damaged: the FLAC frame at sample {last - first} is missing")
    return last - first


def _end_of_metadata(data: bytes) -> int:
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = data[at] & 0x80
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at


def _frames(data: bytes, at: int):
    """(first sample, sample after the last) of every frame whose header lies behind `at`."""
    block_size = int.from_bytes(data[8:10], "big")
    for sync in _SYNC.finditer(data, at):
        if header := _header(data[sync.start() : sync.start() + 16], block_size):
            yield header


def _header(head: bytes, block_size: int) -> tuple[int, int] | None:
    """First sample and the sample after the last, by RFC 9639, section 9.1; None if it is none.

    Args:
        head: bytes from the sync code on.
        block_size: samples of a frame, where frames are numbered and not samples.
    """
    if len(head) < 16 or head[3] & 1 or head[2] >> 4 == 0 or head[3] >> 4 > 10:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if ones in (1, 8):
        return None
    length = max(1, ones)
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    at = 4 + length
    size = _BLOCK_SIZES[head[2] >> 4]
    if more := {6: 1, 7: 2}.get(head[2] >> 4, 0):
        size = int.from_bytes(head[at : at + more], "big") + 1
    at += more + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    first = number if head[1] & 1 else number * block_size
    return first, first + size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc8_of(byte: int) -> int:
    for _ in range(8):
        byte = byte << 1 ^ (0x107 if byte & 0x80 else 0)
    return byte


_CRC8 = tuple(map(_crc8_of, range(256)))
"""Of every byte, by the polynomial x^8 + x^2 + x + 1."""
