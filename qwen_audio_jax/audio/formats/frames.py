"""Streams of bare frames: ADTS (AAC) and AMR."""

from qwen_audio_jax.audio.formats.errors import AudioError
from qwen_audio_jax.audio.formats.tags import end_of_tags

_AMR_SIZES = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}
"""Bytes of a frame with its head, by its mode (RFC 4867, section 5.3)."""


def is_adts(data: bytes) -> bool:
    """Whether two ADTS frames begin some bytes, or the only one."""
    size = _adts_size(data, 0)
    return bool(size) and (size >= len(data) or bool(_adts_size(data, size)))


def check_adts(data: bytes) -> bytes:
    """The frames without tags behind them.

    Raises:
        AudioError: they are broken off, or something else lies between them.
    """
    at = 0
    while at < len(data):
        size = _adts_size(data, at)
        if not size:
            if end_of_tags(data, at) == len(data):
                return data[:at]
            if len(data) - at < 7:
                raise AudioError(f"it is broken off: its last AAC frame has {len(data) - at} bytes")
            raise AudioError(f"it is damaged: at byte {at} begins no AAC frame")
        if data[at + 2] & 0xFD != data[2] & 0xFD or data[at + 3] & 0xC0 != data[3] & 0xC0:
            raise AudioError(
                f"its AAC frames change their sampling rate or channels at byte {at}; split it "
                "there"
            )
        at += size
    if at > len(data):
        raise AudioError(f"it is broken off: its last AAC frame lacks {at - len(data)} bytes")
    return data


def check_amr(data: bytes) -> bytes:
    """The same bytes.

    Raises:
        AudioError: they are broken off, of several channels, or a second file follows.
    """
    magic = data[: data.find(b"\n", 0, 16) + 1]
    if magic not in _AMR_SIZES:
        raise AudioError("it is AMR of several channels, which is not read")
    at = len(magic)
    while at < len(data):
        if data[at] & 0x83:
            raise AudioError(f"it is damaged: at byte {at} begins no AMR frame")
        at += _AMR_SIZES[magic][data[at] >> 3 & 15]
    if at > len(data):
        raise AudioError(f"it is broken off: its last AMR frame lacks {at - len(data)} bytes")
    return data


def _adts_size(data: bytes, at: int) -> int:
    """Bytes of the frame that begins there (ISO 13818-7, section 6.2); 0 if none begins."""
    head = data[at : at + 7]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size >= 7 else 0
