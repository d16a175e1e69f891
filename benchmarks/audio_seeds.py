"""Small files of every container and codec that is read, synthesised."""

import fractions
import io
import struct

import av
import numpy as np
import soundfile

BY_LIBSNDFILE = {
    "wav_pcm16": ("WAV", "PCM_16", 16000, 1),
    "wav_stereo": ("WAV", "PCM_16", 44100, 2),
    "wav_pcm24": ("WAV", "PCM_24", 16000, 1),
    "wav_u8": ("WAV", "PCM_U8", 8000, 1),
    "wav_float": ("WAV", "FLOAT", 16000, 1),
    "wav_ulaw": ("WAV", "ULAW", 8000, 1),
    "wav_ima": ("WAV", "IMA_ADPCM", 16000, 1),
    "wav_ms": ("WAV", "MS_ADPCM", 16000, 1),
    "wavex": ("WAVEX", "PCM_24", 16000, 2),
    "rf64": ("RF64", "PCM_16", 16000, 1),
    "w64": ("W64", "PCM_16", 16000, 1),
    "aiff": ("AIFF", "PCM_16", 16000, 1),
    "au": ("AU", "PCM_16", 16000, 1),
    "caf": ("CAF", "PCM_16", 16000, 1),
    "caf_alac": ("CAF", "ALAC_16", 16000, 1),
    "sphere": ("NIST", "PCM_16", 16000, 1),
    "voc": ("VOC", "PCM_16", 16000, 1),
    "flac16": ("FLAC", "PCM_16", 16000, 1),
    "flac24": ("FLAC", "PCM_24", 44100, 2),
    "vorbis": ("OGG", "VORBIS", 16000, 1),
    "vorbis_stereo": ("OGG", "VORBIS", 44100, 2),
    "opus": ("OGG", "OPUS", 16000, 1),
    "mp3_cbr": ("MP3", "MPEG_LAYER_III", 16000, 1),
    "mp3_stereo": ("MP3", "MPEG_LAYER_III", 44100, 2),
}
BY_FFMPEG = {
    "m4a": ("ipod", "aac", 16000),
    "mp4_opus": ("mp4", "libopus", 48000),
    "m4a_alac": ("ipod", "alac", 16000),
    "mov_pcm": ("mov", "pcm_s16le", 16000),
    "webm": ("webm", "libopus", 48000),
    "mkv_aac": ("matroska", "aac", 16000),
    "mkv_flac": ("matroska", "flac", 16000),
    "wma": ("asf", "wmav2", 44100),
    "adts": ("adts", "aac", 16000),
    "ogg_flac": ("ogg", "flac", 16000),
    "ogg_opus": ("ogg", "libopus", 48000),
    "avi_mp2": ("avi", "mp2", 16000),
    "mpegts": ("mpegts", "aac", 16000),
    "flv": ("flv", "aac", 44100),
    "mp2": ("mp2", "mp2", 16000),
    "wavpack": ("wv", "wavpack", 16000),
    "caf_alac_too": ("caf", "alac", 16000),
}


def sound(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """float32 [n, channels]: loud noise that turns into quiet tones, so that bit rates vary."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    loud = 0.2 * noise * (time < seconds / 3)[:, None]
    return (loud + 0.1 * np.sin(2 * np.pi * 300 * time * (1 + time))[:, None]).astype(np.float32)


def by_libsndfile(wave: np.ndarray, rate: int, **form) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, **form)
    return file.getvalue()


def by_ffmpeg(wave: np.ndarray, rate: int, container: str, codec: str) -> bytes:
    """float32 [n, 1] as a file that FFmpeg writes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        track = out.add_stream(codec, rate=rate, layout="mono")
        track.bit_rate = 64000
        track.codec_context.open()
        frame = av.AudioFrame.from_ndarray(wave.T.copy(), format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        frame.time_base = fractions.Fraction(1, rate)
        form = track.codec_context.format.name
        resampler = av.AudioResampler(form, "mono", rate, frame_size=track.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            out.mux(track.encode(piece))
    return file.getvalue()


def without_info(mp3: bytes) -> bytes:
    """An MP3 without its Xing or Info frame, as stream rippers write it."""
    at = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    return mp3[mp3.index(b"\xff" + mp3[1:2], at) :]


def seeds(seconds: float = 0.9) -> dict[str, bytes]:
    """Every seed by name."""
    found = {}
    for name, (container, subtype, rate, channels) in BY_LIBSNDFILE.items():
        wave = sound(seconds, rate, channels)
        found[name] = by_libsndfile(wave, rate, format=container, subtype=subtype)
    for name, (container, codec, rate) in BY_FFMPEG.items():
        found[name] = by_ffmpeg(sound(seconds, rate), rate, container, codec)
    vbr = dict(format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    found["mp3_vbr"] = by_libsndfile(sound(seconds, 44100), 44100, compression_level=0.6, **vbr)
    for name in ("mp3_cbr", "mp3_vbr", "mp3_stereo"):
        found[f"{name}_no_info"] = without_info(found[name])
    for name in ("mp3_cbr", "mp3_vbr", "mp3_vbr_no_info", "vorbis", "opus", "ogg_flac"):
        found[f"{name}_twice"] = 2 * found[name]
    for name in ("flac16", "wav_pcm16", "adts"):
        found[f"{name}_twice"] = 2 * found[name]
    found["mp3_two_kinds"] = found["mp3_cbr"] + found["mp3_vbr"]
    flac = bytearray(found["flac16"])
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    found["flac_unknown_length"] = bytes(flac)
    for name, size in (("wav_size_zero", 0), ("wav_streamed", 0xFFFFFFFF)):
        wav = bytearray(found["wav_pcm16"])
        wav[4:8] = wav[40:44] = struct.pack("<I", size)
        found[name] = bytes(wav)
    # No encoder comes with PyAV: frames of noise at 4.75 kbit/s.
    noise = np.random.default_rng(0)
    found["amr"] = b"#!AMR\n" + b"".join(b"\x04" + noise.bytes(12) for _ in range(45))
    tag = b"ID3\3\0\0\0\0\2\0" + bytes(256)
    for name in ("wav_pcm16", "flac16", "mp3_vbr_no_info", "opus", "m4a"):
        found[f"{name}_tagged"] = tag + found[name]
    return found
