"""MPEG audio (MP3, and layers I and II): its frames counted, and files put one after another.

Without a Xing, Info or VBRI frame nothing in an MP3 tells its length, and where there is one it
speaks of one file only. So the frames themselves are counted, and each is decoded.
"""

import dataclasses
import itertools
import re

import numpy as np

from qwen_audio_jax.audio.formats import ffmpeg
from qwen_audio_jax.audio.formats.errors import AudioError, check_length, join
from qwen_audio_jax.audio.formats.tags import end_of_tags

_DECODER_DELAY = 529
"""Samples by which every decoder of layer III is late; LAME's delay does not count them."""

_DECODERS = {1: "mp1float", 2: "mp2float", 3: "mp3float"}
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_INFO = (b"Xing", b"Info", b"VBRI")
_FRAMES_A_PACKET = 8


@dataclasses.dataclass(frozen=True)
class Header:
    """Of a frame: what its second and third byte say."""

    kind: tuple[int, int, int]  # MPEG version as its bits, layer, sampling rate in Hz
    size: int  # bytes
    samples: int


def _headers() -> dict[int, Header]:
    """By second and third byte as one number (ISO 11172-3, section 2.4.2.3; 13818-3 for others)."""
    kbps = {
        (3, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
        (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (3, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
        (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    }
    found = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version == 1 or layer == 4:
            continue
        for third in range(0x10, 0xF0):
            if third & 0x0C == 0x0C:
                continue
            rate = (44100, 48000, 32000)[third >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
            rates = kbps[(3 if version == 3 else 2, layer if version == 3 else min(layer, 2))]
            bits = rates[third >> 4] * 1000
            padding = third >> 1 & 1
            samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
            slot = 4 if layer == 1 else 1
            size = (samples // 8 // slot * bits // rate + padding) * slot
            found[second << 8 | third] = Header((version, layer, rate), size, samples)
    return found


_HEADERS = _headers()


def read(data: bytes) -> tuple[np.ndarray, int]:
    """The sound of MP3s one after another, the first frame of which begins the bytes.

    float32 [n, channels] and the sampling rate in Hz.
    Encoder delay and padding are left out where a LAME tag tells them.

    Raises:
        AudioError: damaged, broken off, or sampling rate or channels change.
    """
    return join(_decode(data, part) for part in _parts(data))


def first_frame(data: bytes, at: int, stop: int) -> int | None:
    """Where the first frame begins: one that three others follow, or all that there are.

    Two frames of the same kind that lie behind `at`, or one at it, come first even so: what is
    wrong behind them is to be noticed.

    Args:
        data: a file's bytes.
        at: where tags end by their own size.
        stop: where the search ends.
    """
    suspects: dict[tuple[int, int, int], int] = {}
    for sync in _SYNC.finditer(data, 0, stop):
        begin = place = sync.start()
        kind = None
        for follows in range(4):
            header = _header(data, place)
            if not header or (kind and header.kind != kind):
                break
            kind, place = header.kind, place + header.size
            if begin == at or (follows and begin > at):
                suspects.setdefault(kind, begin)
            # One alone may be chance, unless it begins the file.
            if place >= len(data) and (follows or begin == at):
                return suspects.get(kind, begin)
            if place < len(data) and end_of_tags(data, place) == len(data):
                return suspects.get(kind, begin)
        else:
            return suspects.get(kind, begin)
    return None


def _header(data: bytes, at: int) -> Header | None:
    if len(data) < at + 4 or data[at] != 0xFF:
        return None
    return _HEADERS.get(data[at + 1] << 8 | data[at + 2])


def _parts(data: bytes) -> list[list[int]]:
    """Where the frames of each of the files begin that were put one after another.

    The last number of each is where its last frame ends.
    """
    at, parts, frames = 0, [], []
    kind, mono = _header(data, 0).kind, data[3] >> 6 == 3
    last_info = max(data.rfind(name) for name in _INFO)
    while at < len(data):
        header = _HEADERS.get(data[at + 1] << 8 | data[at + 2]) if at + 4 <= len(data) else None
        if header and data[at] == 0xFF and header.kind == kind and (data[at + 3] >> 6 == 3) == mono:
            if frames and last_info > at and _info(data, at, header):
                parts.append([*frames, at])
                frames = []
            frames.append(at)
            at += header.size
            continue
        end = end_of_tags(data, at)
        if end == at:
            raise _no_frame(data, at, kind)
        parts.append([*frames, at])
        frames, at = [], end
    if at > len(data):
        size = _header(data, frames[-1]).size
        raise AudioError(
            f"it is broken off: its last MP3 frame has {len(data) - frames[-1]} of {size} bytes"
        )
    return [*parts, [*frames, at]] if frames else parts


def _no_frame(data: bytes, at: int, kind: tuple[int, int, int]) -> AudioError:
    """Why bytes at a place where a frame should begin are none of this kind."""
    header = _header(data, at)
    following = header and _header(data, at + header.size)
    if following and following.kind == header.kind:
        what = "sampling rate, version or layer" if header.kind != kind else "number of channels"
        return AudioError(f"the {what} of its MP3 frames changes at byte {at}; split it there")
    if len(data) - at < 4:
        return AudioError(f"it is broken off: its last MP3 frame has {len(data) - at} bytes")
    return AudioError(f"it is damaged: at byte {at} begins no MP3 frame")


def _info(data: bytes, at: int, header: Header) -> tuple[int, int, int] | None:
    """Of a Xing, Info or VBRI frame: number of frames (0: not told), delay and padding in samples.

    Delay and padding are 0 where LAME's tag is not there, as in Gabriel Bouvigne's description.
    """
    version, layer, _ = header.kind
    if layer != 3:
        return None
    if data[at + 36 : at + 40] == b"VBRI":
        return int.from_bytes(data[at + 50 : at + 54], "big"), 0, 0
    mono = data[at + 3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    tag = data[at + 4 + side : at + header.size]
    if tag[:4] not in (b"Xing", b"Info"):
        return None
    flags, place, frames = tag[7] if len(tag) > 7 else 0, 8, 0
    for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)):
        if flags & bit:
            if bit == 1:
                frames = int.from_bytes(tag[8:12], "big")
            place += size
    encoder = tag[place : place + 24]
    if len(encoder) < 24 or encoder[:4] not in (b"LAME", b"Lavc", b"Lavf"):
        return frames, 0, 0
    both = int.from_bytes(encoder[21:24], "big")
    return frames, both >> 12, both & 0xFFF


def _decode(data: bytes, part: list[int]) -> tuple[np.ndarray, int]:
    header = _header(data, part[0])
    told, delay, padding = _info(data, part[0], header) or (0, 0, 0)
    if _info(data, part[0], header):
        part = part[1:]
    frames = len(part) - 1
    if told > frames:
        raise AudioError(f"it is broken off: {frames} of {told} MP3 frames are there")
    mono = data[part[0] + 3] >> 6 == 3
    check_length(frames * header.samples, 1 if mono else 2, header.kind[2])
    bounds = [*part[:-1:_FRAMES_A_PACKET], part[-1]]
    packets = (data[begin:end] for begin, end in itertools.pairwise(bounds))
    wave, rate = ffmpeg.read_packets(packets, _DECODERS[header.kind[1]])
    if len(wave) != frames * header.samples:
        raise AudioError(
            f"it is damaged: {len(wave)} of {frames * header.samples} samples can be decoded"
        )
    # A tag that tells of fewer frames than there are does not know where the end is.
    late = _DECODER_DELAY if delay or padding else 0
    end = len(wave) - max(padding - late, 0) if told == frames else len(wave)
    return wave[delay + late : max(end, 0)], rate
