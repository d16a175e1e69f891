"""Tracks and timestamps of the containers that phones, cameras and browsers write."""

import fractions
import io
import struct

import av
import numpy as np
import pytest

from qwen_audio_jax.audio.decode import AudioError, decode


def muxed(
    container: str,
    tracks: list[tuple[str, int, str]],
    video: bool = False,
    gap: float = 0.0,
    start: float = 0.0,
) -> bytes:
    """A second of sound in each (codec, rate, layout), from `start` on, `gap` in the middle."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        picture = out.add_stream("mpeg4", rate=25, width=32, height=32) if video else None
        streams = [out.add_stream(codec, rate=rate, layout=how) for codec, rate, how in tracks]
        if picture:
            picture.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 32), np.uint8), format="yuv420p")
            out.mux([*picture.encode(frame), *picture.encode(None)])
        for stream, (_, rate, layout) in zip(streams, tracks, strict=True):
            if not stream.codec_context.is_open:
                stream.codec_context.open()
            channels = stream.codec_context.layout.nb_channels
            time = np.arange(rate) / rate
            wave = 0.3 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(
                np.stack([wave] * channels), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts = rate, 0
            frame.time_base = fractions.Fraction(1, rate)
            form = stream.codec_context.format.name
            resampler = av.AudioResampler(form, layout, rate, frame_size=stream.frame_size or 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
                for packet in stream.encode(piece):
                    late = start + (gap if packet.pts * packet.time_base > 0.5 else 0.0)
                    if late:
                        packet.pts += round(late / packet.time_base)
                        packet.dts = packet.pts
                    out.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("mp4", "aac", 16000),
        ("mov", "pcm_s16le", 16000),
        ("matroska", "flac", 16000),
        ("webm", "libopus", 48000),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_what_the_container_tells_is_exact(container, codec, rate, layout):
    wave = decode(muxed(container, [(codec, rate, layout)]))
    assert len(wave) == 16000
    middle = wave[4000:12000]
    time = np.arange(4000, 12000) / 16000
    # Encoder delay is left out, so the phase is the original's.
    truth = 0.3 * np.sin(2 * np.pi * 440 * time)
    assert np.corrcoef(middle, truth)[0, 1] > 0.995
    assert middle.std() == pytest.approx(truth.std(), rel=0.2)  # the sixth channel is for basses


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
def test_sound_beside_pictures(container):
    codec = "mp2" if container == "avi" else "aac"
    assert len(decode(muxed(container, [(codec, 16000, "mono")], video=True))) >= 16000


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_one_audio_track_is_needed(container):
    with pytest.raises(AudioError, match="it has no audio track"):
        decode(muxed(container, [], video=True))
    with pytest.raises(AudioError, match="it has 2 audio tracks, and one is needed"):
        decode(muxed(container, 2 * [("aac", 16000, "mono")]))


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("mp4", "aac")])
def test_a_gap_is_sound_that_is_missing(container, codec):
    with pytest.raises(AudioError, match=r"sound is missing: its timestamps jump from 0\.5"):
        decode(muxed(container, [(codec, 48000, "mono")], gap=0.4))
    assert len(decode(muxed(container, [(codec, 48000, "mono")], gap=0.05))) == 16000


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("webm", "libopus"),
        ("matroska", "flac"),
        ("matroska", "aac"),
        ("mp4", "aac"),
        ("mpegts", "aac"),
        ("flv", "aac"),
    ],
)
def test_sound_that_begins_late_is_whole(container, codec):
    rate = 44100 if container == "flv" else 48000
    track = [(codec, rate, "mono")]
    late = decode(muxed(container, track, start=5))
    # An encoder's delay and padding may be in it, a packet of each.
    assert 16000 <= len(late) <= 16000 + 2 * 1024
    with pytest.raises(AudioError, match="sound is missing: its timestamps jump"):
        decode(muxed(container, track, start=5, gap=0.4))


def test_matroska_that_begins_late_and_lacks_its_end():
    data = bytearray(muxed("matroska", [("flac", 16000, "mono")], start=5))
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes, in milliseconds
    (told,) = struct.unpack_from(">d", data, at)
    struct.pack_into(">d", data, at, told + 500)
    # The checksum of the Info element is FFmpeg's to ignore.
    with pytest.raises(AudioError, match=r"broken off: 1\.00 of 1\.5\d s are there"):
        decode(bytes(data))
