"""WAV: sizes in its header that are not those of its sound."""

import struct

import numpy as np

from qwen_audio_jax.audio.formats import chunks, kinds, sndfile
from qwen_audio_jax.audio.formats.errors import (
    TOLERANCE_SECONDS,
    AudioError,
    check_length,
    join,
)

_UNKNOWN_SIZE = 0x7FFFF000
"""Writers that stream put this or more where they do not know the size."""

_PLAIN = (1, 3)
"""Format tags of PCM and of floating point."""

_MP3 = 0x55


def read(data: bytes) -> tuple[np.ndarray, int]:
    """float32 [n, channels] and the sampling rate in Hz of a WAV, or of WAVs one after another.

    Raises:
        AudioError: it is broken off, its header contradicts itself or the file, or it is too long.
    """
    return join(_decode(piece) for piece in _pieces(data))


def _decode(data: bytes) -> tuple[np.ndarray, int]:
    """The sound of one WAV whose header is true."""
    layout = _layout(data)
    form = layout[3] if layout else bytes(16)
    tag, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", form)
    if data[:4] != b"RIFF" or tag != 1 or bits != 16 or frame != 2 * channels or not rate:
        return sndfile.read(data)
    # The same samples as libsndfile's, in a third of its time.
    size = min(int.from_bytes(data[layout[0] - 4 : layout[0]], "little"), len(data) - layout[0])
    check_length(size // frame, channels, rate)
    pcm = np.frombuffer(data, np.dtype("<i2"), size // frame * channels, layout[0])
    return pcm.reshape(-1, channels) * np.float32(1 / 32768), rate


def is_plain(data: bytes) -> bool:
    """Whether its samples are PCM or floating point, so that bytes can be counted."""
    layout = _layout(data)
    return bool(layout) and layout[1] in _PLAIN


def mp3(data: bytes) -> bytes:
    """The MP3 that a WAV holds, or b"" if it holds something else."""
    layout = _layout(data)
    if not layout or layout[1] != _MP3:
        return b""
    piece, other = _piece(data)
    if other:
        raise AudioError("it is two WAVs of MP3 one after another; split it")
    size = int.from_bytes(piece[layout[0] - 4 : layout[0]], "little")
    return piece[layout[0] :][:size]


def _pieces(data: bytes):
    """Every WAV of those that follow one another."""
    at = 0
    while at is not None:
        data = data[at:] if at else data
        piece, at = _piece(data)
        yield piece


def _piece(data: bytes) -> tuple[bytes, int | None]:
    """The first WAV with a true size in its header, and where another one begins behind it."""
    layout = _layout(data)
    if not layout:
        return data, None  # libsndfile says what is wrong
    begin, _, bytes_per_second, _ = layout
    form = chunks.RIFF if data[:4] == b"RIFF" else chunks.RIFX
    stated, there = int.from_bytes(data[begin - 4 : begin], form.order), len(data) - begin
    if stated >= _UNKNOWN_SIZE:
        return data, None
    if stated > there:
        raise AudioError(f"it is broken off: {there} of {stated} bytes of sound are there")
    end = begin + stated
    unknown = max(chunks.unknown_from(data, end + odd, form) for odd in (0, stated & 1))
    behind = len(data) - unknown
    if data[unknown : unknown + 4] == data[:4] and data[unknown + 8 : unknown + 12] == b"WAVE":
        return data[:unknown], unknown
    if data[unknown : unknown + 4] == b"data":
        raise AudioError("it has two data chunks, and which of them is the sound is not known")
    if not stated and behind and unknown == begin:
        # Whoever wrote it never came to know the size, or was stopped before.
        true = bytearray(data)
        true[begin - 4 : begin] = behind.to_bytes(4, form.order)
        true[4:8] = (len(data) - 8).to_bytes(4, form.order)
        return bytes(true), None
    if data.count(0, unknown) < behind and (
        behind > TOLERANCE_SECONDS * bytes_per_second or kinds.find(data[unknown:])[0]
    ):
        raise AudioError(
            f"its header tells of {stated} bytes of sound, and the {behind} bytes from byte "
            f"{unknown} on are no chunk of a WAV: they may be sound as well"
        )
    return data, None


def _layout(data: bytes) -> tuple[int, int, int, bytes] | None:
    """Where the sound begins, its format tag, bytes a second, fmt chunk; None if there is none."""
    order = "<" if data[:4] == b"RIFF" else ">"
    at, form = 12, None
    while at + 8 <= len(data):
        name, (size,) = data[at : at + 4], struct.unpack_from(order + "I", data, at + 4)
        at += 8
        if name == b"data":
            return (at, *format_of(form, order), form) if form else None
        if name == b"fmt ":
            form = data[at : at + size]
        at += size + (size & 1)
    return None


def format_of(form: bytes, order: str = "<") -> tuple[int, int]:
    """Format tag and bytes a second of a fmt chunk.

    Raises:
        AudioError: it is cut short or contradicts itself.
    """
    if len(form) < 16:
        raise AudioError("its fmt chunk is cut short")
    tag, channels, rate, speed, frame, bits = struct.unpack_from(order + "HHIIHH", form)
    if tag == 0xFFFE and len(form) >= 26:
        tag = struct.unpack_from(order + "H", form, 24)[0]
    if tag not in _PLAIN:
        return tag, speed
    if not channels or frame % channels or frame // channels < -(-bits // 8):
        raise AudioError(
            f"its fmt chunk contradicts itself: {channels} channels of {bits} bits in {frame} bytes"
        )
    return tag, rate * frame
