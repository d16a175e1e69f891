"""Recordings that rows take segments of: decoded once for neighbouring rows, cut and encoded.

One of over an hour is not held in memory: a segment is read at its place, where the encoding is
lossless; seeking in MP3 and Ogg is not exact.
"""

import collections
import dataclasses
import io
import pathlib
import threading

import numpy as np
import scipy.io.wavfile
import soundfile

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.segments import ROUNDING, SLACK, Segment
from qwen_audio_jax.audio.decode import MAX_SECONDS, AudioError, read_samples

KEPT_BYTES = 512 << 20
"""Of decoded recordings that a process keeps; the last one is kept whatever it takes."""

_OPENED = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b".snd", b"caff", b"NIST", b"OggS")
"""How files begin whose header libsndfile reads in silence; it warns of many an MP3."""
_LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
_UNKNOWN_FRAMES = (1 << 63) - 1  # libsndfile's word for a FLAC that was written to a pipe
_USUAL_RATE = 44_100  # of an MP3, in Hz
_FLAC_CHANNELS, _FLAC_RATE = 8, 655_350


@dataclasses.dataclass(frozen=True)
class Recording:
    """A decoded file.

    Attributes:
        samples: float32 [n, channels].
        rate: in Hz.
        lossy: whether its encoding was.
    """

    samples: np.ndarray
    rate: int
    lossy: bool

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def channels(self) -> int:
        return self.samples.shape[1]

    @property
    def bytes(self) -> int:
        return self.samples.nbytes

    def part(self, first: int, last: int) -> np.ndarray:
        """float32 [last - first, channels]; fewer where it ends before."""
        return self.samples[first:last]


@dataclasses.dataclass(frozen=True)
class LongRecording:
    """A file that is too long to be held decoded, of a kind in which one can seek.

    Attributes:
        path: where it lies.
        frames: its samples, per channel.
        rate: in Hz.
        channels: how many.
    """

    path: pathlib.Path
    frames: int
    rate: int
    channels: int
    lossy = False
    bytes = 0

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    def part(self, first: int, last: int) -> np.ndarray:
        """float32 [last - first, channels]; fewer where it ends before.

        Raises AudioError where it is damaged there.
        """
        last = min(last, self.frames)
        if last - first > MAX_SECONDS * self.rate:
            raise AudioError(f"segments over {MAX_SECONDS:g} s are refused; split it")
        try:
            with soundfile.SoundFile(self.path) as file:
                file.seek(first)
                samples = file.read(last - first, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            samples, reason = (), f" ({error})"
        else:
            reason = ""
        if len(samples) < last - first:
            where = f"{first / self.rate:.2f} to {last / self.rate:.2f} s"
            raise AudioError(f"it is damaged from {where}{reason}")
        return samples


class Recordings:
    """The recordings that were asked for last. Any thread may ask."""

    def __init__(self, kept_bytes: int = KEPT_BYTES):
        """Args: kept_bytes: of samples, at most, unless one recording has more."""
        self._most = kept_bytes
        self._kept: collections.OrderedDict[tuple, Recording | LongRecording] = (
            collections.OrderedDict()
        )
        self._failed: tuple[tuple, str] | None = None
        self._lock = threading.Lock()

    def __getitem__(self, path: pathlib.Path) -> Recording | LongRecording:
        """Raises OSError, or AudioError if it cannot be decoded."""
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size)  # a file may be replaced between builds
        with self._lock:
            if self._failed and self._failed[0] == key:
                raise AudioError(self._failed[1])  # for its other rows, it need not fail anew
            if key not in self._kept:
                self._kept[key] = self._opened(key)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _opened(self, key: tuple) -> Recording | LongRecording:
        path = key[0]
        header = _header(path)
        if header.is_certain and not header.lossy and header.seconds > MAX_SECONDS:
            return LongRecording(path, header.frames, header.rate, header.channels)
        data = path.read_bytes()
        self._make_room(header.bytes)  # first, so that few are there while it is decoded
        try:
            samples, rate = read_samples(data)
        except AudioError as error:
            self._failed = (key, str(error))
            raise
        self._make_room(samples.nbytes)
        return Recording(samples, rate, header.lossy)

    def _make_room(self, wanted: int) -> None:
        """Gives up the oldest until there is room, or none is left."""
        while self._kept and wanted + sum(r.bytes for r in self._kept.values()) > (self._most):
            self._kept.popitem(last=False)


_RECORDINGS = Recordings()


@dataclasses.dataclass(frozen=True)
class _Header:
    """What a file says of itself; nothing is known of an MP3, or of one that cannot be opened.

    Attributes:
        frames: samples that it says it has, per channel.
        channels: how many.
        rate: in Hz.
        lossy: whether its encoding is.
        is_certain: whether decoding gives as many samples as it says, or fails.
    """

    frames: int = 0
    channels: int = 0
    rate: int = 1
    lossy: bool = True
    is_certain: bool = False

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @property
    def bytes(self) -> int:
        """Of the decoded samples."""
        return 4 * self.frames * self.channels


def _header(source: bytes | pathlib.Path) -> _Header:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        if not file.read(4).startswith(_OPENED):
            return _Header()
        file.seek(0)
        try:
            told = soundfile.info(file)
        except (soundfile.SoundFileError, RuntimeError):
            return _Header()
    return _Header(
        told.frames if told.frames < _UNKNOWN_FRAMES else 0,
        told.channels,
        told.samplerate,
        told.subtype in _LOSSY,
        told.format != "OGG",
    )


def clip_of(path: pathlib.Path, segment: Segment) -> bytes:
    """A segment of a file as a clip: the file as it is, where that is all of it.

    Else it begins at sample round(begin * rate) and ends before round(end * rate), at the
    recording's rate and with its channels. How it is encoded, `encoded` says.

    Raises:
        OSError: the file cannot be read.
        RejectedRecord: it cannot be decoded, or the segment does not lie within it.
    """
    if not segment.begin and segment.end is not None and not segment.channels:
        # Many lists say of every file how long it is. Where its header says the same, that is
        # known without decoding; an MP3's or Ogg's may be of a part of it only.
        data = path.read_bytes()
        told = _header(data)
        if told.is_certain and _is_whole(segment, told.seconds):
            return data
    try:
        recording = _RECORDINGS[path]
    except AudioError as error:
        raise RejectedRecord(f"field 'audio': {error}") from error
    _check_within(segment, recording)
    every = tuple(range(recording.channels))
    if _is_whole(segment, recording.seconds) and (segment.channels or every) == every:
        return path.read_bytes()
    end = recording.seconds if segment.end is None else segment.end
    try:
        samples = recording.part(round(segment.begin * recording.rate), round(end * recording.rate))
    except AudioError as error:
        raise RejectedRecord(f"field 'audio': {error}") from error
    if segment.channels:
        samples = samples[:, list(segment.channels)]
    return encoded(samples, recording.rate, lossy=recording.lossy)


def size_of(path: pathlib.Path, segment: Segment) -> int:
    """About how many bytes a clip takes: those of the file, or of its samples at 16 bits."""
    told = _header(path)
    if not told.frames and segment.begin and segment.end is not None:
        told = _Header(round(segment.end * _USUAL_RATE), 1, _USUAL_RATE)
    if not told.frames or (_is_whole(segment, told.seconds) and not segment.channels):
        return path.stat().st_size
    end = told.seconds if segment.end is None else min(segment.end, told.seconds)
    channels = len(segment.channels) or told.channels
    return round(max(end - segment.begin, 0.0) * told.rate) * channels * 2


def _is_whole(segment: Segment, seconds: float) -> bool:
    if segment.begin:
        return False
    return segment.end is None or -ROUNDING <= segment.end - seconds <= SLACK


def _check_within(segment: Segment, recording: Recording | LongRecording) -> None:
    seconds = recording.seconds
    if segment.begin >= seconds:
        raise RejectedRecord(
            f"field {segment.begin_field!r}: {segment.begin:g} s is past the end of the recording, "
            f"which lasts {seconds:.2f} s; leave it out if the clip is cut out already"
        )
    if segment.end is not None and segment.end > seconds + SLACK:
        raise RejectedRecord(
            f"field {segment.end_field!r}: the segment ends at {segment.end:g} s, and the "
            f"recording lasts {seconds:.2f} s"
        )
    channels = recording.channels
    if max(segment.channels, default=0) >= channels:
        raise RejectedRecord(
            f"field {segment.channel_field!r}: there is no channel {max(segment.channels)}; the "
            f"recording has {channels}, counted from 0"
        )


def encoded(samples: np.ndarray, rate: int, *, lossy: bool) -> bytes:
    """Samples as a file that gives back the same ones.

    FLAC of 16 bits where all of them are 16-bit numbers, else of 24 bits where they are such, else
    a WAV of 32-bit floats. What comes from a lossy encoding is rounded to 24 bits, unless it goes
    beyond full scale: half of the size, and a thousand times finer than what its encoding changed.

    Args:
        samples: float32 [n, channels].
        rate: in Hz.
        lossy: whether they come from a lossy encoding.
    """
    if _are_numbers(samples, 15):
        kind, pcm = "PCM_16", (samples * np.float32(1 << 15)).astype(np.int16)
    elif _are_numbers(samples, 23) or (lossy and _fit(np.rint(samples * np.float32(1 << 23)), 23)):
        scaled = np.rint(samples * np.float32(1 << 23)).astype(np.int32)
        kind, pcm = "PCM_24", scaled << 8  # libsndfile takes the upper 24 of 32 bits
    else:
        kind, pcm = "FLOAT", samples
    out = io.BytesIO()
    if kind == "FLOAT":
        # libsndfile would write the time of day into it, and no build would be like another.
        scipy.io.wavfile.write(out, rate, pcm)
    else:
        fits_flac = samples.shape[1] <= _FLAC_CHANNELS and (
            rate < 1 << 16 or (rate <= _FLAC_RATE and rate % 10 == 0)
        )
        form = "FLAC" if fits_flac else "WAV"
        soundfile.write(out, pcm, rate, format=form, subtype=kind)
    return out.getvalue()


def _are_numbers(samples: np.ndarray, bits: int) -> bool:
    """Whether all are whole multiples of 2**-bits within full scale."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = samples * np.float32(1 << bits)
        return _fit(scaled, bits) and bool((np.rint(scaled) == scaled).all())


def _fit(scaled: np.ndarray, bits: int) -> bool:
    """Whether all are below full scale; NaN is not."""
    return bool(((scaled >= -(1 << bits)) & (scaled < 1 << bits)).all())
