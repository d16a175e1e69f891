"""A request's clips: base64 and files to waveforms. No path and no URL is ever opened."""

import base64
import binascii
import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from qwen_audio_jax.audio.decode import AudioError, decode
from qwen_audio_jax.audio.formats import kinds, riff
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.serving.arguments import shown
from qwen_audio_jax.serving.errors import wrong

FORMATS = {"wav": "riff", "mp3": "mp3", "flac": "flac", "ogg": "ogg"}
"""What a request may call a clip -> the kind of its bytes. Other kinds would put much more code
between a stranger and the model."""

_OF_MEDIA_TYPE = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/ogg": "ogg",
    "application/ogg": "ogg",
}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+=[^;,]*)*);base64,", re.IGNORECASE)
_CHANNELS, _RATE = 2, 48_000
"""Of what a clip of the longest length may be; with more channels or samples it may be shorter."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A clip as it was sent.

    Attributes:
        data: the file's bytes.
        where: the field of the request that it came in.
        format: what the request calls it, one of FORMATS; "" if it does not say.
    """

    data: bytes
    where: str
    format: str = ""


def from_base64(text: str, where: str, format: str) -> Encoded:
    """A clip in base64, with or without line breaks. Raises ApiError: it is none."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise wrong(where, "is not base64 (letters, digits, + and /, padded with =)") from None
    return Encoded(data, where, format)


def from_data_url(url: str, where: str) -> Encoded:
    """A clip in a `data:` URL; no other is opened."""
    if not url[:5].lower() == "data:":
        raise wrong(
            where,
            f"must be a data: URL, as data:audio/wav;base64,..., not {shown(url)}; this server "
            "opens no other URL and no file",
        )
    found = _DATA_URL.match(url)
    if not found or found[1].lower() not in _OF_MEDIA_TYPE:
        raise wrong(
            where,
            f"must begin as data:audio/wav;base64, (or mpeg, flac, ogg), not {shown(url)}",
        )
    return from_base64(url[found.end() :], where, _OF_MEDIA_TYPE[found[1].lower()])


def decoded(clips: Sequence[Encoded], seconds: float) -> list[np.ndarray]:
    """Waveforms, float32 [samples] at 16 kHz each.

    Args:
        clips: as they were sent.
        seconds: the most that they may last together.

    Raises:
        ApiError: one of them is no such file, or they last longer.
    """
    waves, left = [], seconds
    for clip in clips:
        wave = _decoded(clip, seconds)
        left -= len(wave) / SAMPLE_RATE
        if left < 0:
            raise wrong(
                clip.where,
                f"the clips last {seconds - left:.1f} s up to here, and {seconds:g} s together are "
                "the server's limit; send less",
                "audio_too_long",
            )
        waves.append(wave)
    return waves


def _decoded(clip: Encoded, seconds: float) -> np.ndarray:
    kind, _ = kinds.find(clip.data)
    if not kind:
        raise wrong(clip.where, kinds.why_not_audio(clip.data), "invalid_audio")
    told = next((name for name, one in FORMATS.items() if one == kind), "")
    if not told or (told == "wav" and not riff.is_plain(clip.data)):
        what = (
            "a WAV of compressed samples" if told else f"of a kind ({kind}) that is not read here"
        )
        raise wrong(clip.where, f"it is {what}; send WAV (PCM), MP3, FLAC or Ogg", "invalid_audio")
    if clip.format and clip.format != told:
        raise wrong(clip.where, f"it is {told}, and the request calls it {clip.format}")
    try:
        return decode(clip.data, most=int(seconds * _RATE * _CHANNELS))
    except AudioError as error:
        raise wrong(clip.where, str(error), "invalid_audio") from None
