"""What FFmpeg reads, through PyAV: MP3, Opus, AAC, and the containers of phones and browsers.

PyAV turns FFmpeg's log off when it is imported, and nothing here writes to the terminal.
"""

import io
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.audio.fifo import AudioFifo

from qwen_audio_jax.audio.formats.errors import (
    TOLERANCE_SECONDS,
    AudioError,
    changed,
    check_length,
    longest,
)

_TIMED = ("mov", "matroska", "asf", "flv", "mpegts")
"""Demuxers whose timestamps are the file's own, so that a gap in them is sound that is missing."""

_OPTIONS = {"protocol_whitelist": "none"}
"""A file shall not name another one to be read."""

_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
"""A decoder shall check whatever it can and stop at what is wrong; it would play on without."""

_FULL_SCALE = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31, "s64": 1 << 63}


def read(data: bytes, demuxer: str, trim: bool = True) -> tuple[np.ndarray, int]:
    """The only audio track of a container.

    Args:
        data: the file's bytes.
        demuxer: FFmpeg's name of the container.
        trim: whether encoder delay and padding are left out where the container tells them.

    Returns:
        float32 [n, channels] and the sampling rate in Hz.

    Raises:
        AudioError: damaged, broken off, without an audio track or with several, or too long.
    """
    try:
        with av.open(
            io.BytesIO(data),
            format=demuxer,
            options=_OPTIONS,
            metadata_errors="replace",
        ) as container:
            tracks = container.streams.audio
            if len(tracks) != 1:
                number = f"{len(tracks)} audio tracks" if tracks else "no audio track"
                raise AudioError(f"it has {number}, and one is needed")
            if tracks[0].codec_context is None:
                raise AudioError("no decoder is known for its codec")
            tracks[0].codec_context.options = _STRICT | ({} if trim else {"flags2": "+skip_manual"})
            wave, rate, padding = _gather(_frames(container, tracks[0]), demuxer in _TIMED)
            _check_length(container, tracks[0], len(wave) / rate)
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(error) from error
    return (wave[: len(wave) - padding] if demuxer == "mov" else wave), rate


def read_packets(packets: Iterable[bytes], codec: str) -> tuple[np.ndarray, int]:
    """The sound of a codec's packets, of one frame or some whole ones each.

    Args:
        packets: the bytes of each, all with as many channels.
        codec: FFmpeg's name of the decoder.

    Returns:
        float32 [n, channels] and the sampling rate in Hz.

    Raises:
        AudioError: a packet is damaged, or there is none.
    """
    queue, pieces = AudioFifo(), []
    try:
        decoder = av.CodecContext.create(codec, "r")
        for packet in packets:
            for frame in decoder.decode(av.Packet(packet)):
                queue.write(frame)
            # A packet at a time: a queue of all of them would be memory new to the process.
            if piece := queue.read():
                pieces.append(_as_float(piece))
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(error) from error
    if not pieces:
        raise AudioError("the clip has no samples")
    return np.concatenate(pieces), queue.sample_rate


def seconds(data: bytes, demuxer: str) -> float:
    """How much sound FFmpeg finds in a file, whatever is wrong with it; 0 if it cannot open it."""
    found = 0.0
    try:
        with av.open(io.BytesIO(data), format=demuxer, options=_OPTIONS) as container:
            track = container.streams.audio[0]
            packets = container.demux(track) if track.codec_context else ()
            for packet in packets:
                for frame in packet.decode():
                    found += frame.samples / frame.sample_rate
                if found > longest():
                    break
    except (av.FFmpegError, ValueError, IndexError):
        pass
    return found


def _frames(container, track) -> Iterator[av.AudioFrame]:
    for packet in container.demux(track):
        yield from packet.decode()


def _gather(frames: Iterator[av.AudioFrame], timed: bool) -> tuple[np.ndarray, int, int]:
    """All frames' samples, float32 [n, channels], their rate, and the last one's padding.

    Args:
        frames: as they are decoded.
        timed: whether a gap in their timestamps is sound that is missing.
    """
    queue, form, first = AudioFifo(), None, None
    for frame in frames:
        found = (frame.sample_rate, frame.layout.nb_channels)
        form = form or found
        if found != form:  # the queue would not notice other channels
            raise changed(form, found)
        if timed and frame.pts is not None:
            time = float(frame.pts * frame.time_base)
            first = time if first is None else first
            heard = queue.samples_written / form[0]
            if time - first - heard > TOLERANCE_SECONDS:
                raise AudioError(
                    f"sound is missing: its timestamps jump from {heard:.2f} to "
                    f"{time - first:.2f} s"
                )
        # Else the queue would insist that timestamps have no gap at all.
        frame.pts = None
        queue.write(frame)
        check_length(queue.samples_written, form[1], form[0])
    if not form:
        raise AudioError("the clip has no samples")
    length = round(frame.duration * frame.time_base * form[0]) if frame.time_base else 0
    padding = frame.samples - length if 0 < length < frame.samples else 0
    return _as_float(queue.read()), form[0], padding


def _as_float(frame: av.AudioFrame) -> np.ndarray:
    """float32 [n, channels], full scale 1, of any of FFmpeg's sample formats."""
    samples = frame.to_ndarray()
    kind = frame.format.packed.name
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if kind == "u8":
        samples = samples.astype(np.float32) - _FULL_SCALE[kind]
    with np.errstate(over="ignore"):  # what is not finite is refused later
        samples = samples.astype(np.float32, copy=False)
    return samples * np.float32(1 / _FULL_SCALE[kind]) if kind in _FULL_SCALE else samples


def _check_length(container, track, found: float) -> None:
    """Raises an AudioError where the container tells of more sound than was found."""
    stated = 0.0
    if "mov" in container.format.name and track.duration:
        stated = float(track.duration * track.time_base)
    elif "matroska" in container.format.name and len(container.streams) == 1:
        # The duration counts from zero, and the first timestamp may be a later one.
        stated = ((container.duration or 0) - max(container.start_time or 0, 0)) / av.time_base
    if stated - found > TOLERANCE_SECONDS:
        raise AudioError(f"it is broken off: {found:.2f} of {stated:.2f} s are there")


def _damaged(error: Exception) -> AudioError:
    if isinstance(error, AudioError):
        return error
    if isinstance(error, av.EOFError):
        return AudioError("the clip has no samples")
    reason = getattr(error, "strerror", None) or str(error)
    return AudioError(f"it is damaged ({' '.join(reason.split()).rstrip('.')})")
