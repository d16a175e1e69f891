"""Decoding: four formats, other rates and channels, and everything that has to be refused."""

import bz2
import gzip
import io
import lzma

import numpy as np
import pytest
import soundfile

from qwen_audio_jax.audio.decode import AudioError, decode

FORMATS = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]


def encode(wave, rate=16000, container="WAV", subtype=None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=container, subtype=subtype)
    return file.getvalue()


def tone(seconds: float, rate: int = 16000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_formats_and_rates(container, subtype, rate):
    wave = decode(encode(tone(1.25, rate), rate, container, subtype))
    assert wave.dtype == np.float32
    assert wave.shape == (20000,)
    lossy = container in ("OGG", "MP3")
    middle = slice(2000, 18000)  # filters and codecs ring at the ends
    np.testing.assert_allclose(wave[middle], tone(1.25)[middle], atol=0.1 if lossy else 1e-3)


@pytest.mark.parametrize(
    ("samples", "rate"), [(1000, 8000), (2001, 44100), (4410, 44100), (48001, 48000), (999, 22050)]
)
def test_length_is_exact(samples, rate):
    wave = decode(encode(tone(samples / rate, rate), rate))
    assert len(wave) == -(-samples * 16000 // rate)


def test_pcm16_at_16_khz_is_exact():
    pcm = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    np.testing.assert_array_equal(decode(encode(pcm)), pcm.astype(np.float32) / 32768)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_flac_is_what_libsndfile_reads(channels, subtype):
    noise = 0.2 * np.random.default_rng(0).standard_normal((20000, channels))
    data = encode(noise, 16000, "FLAC", subtype)
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(decode(data), expected.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64"])
def test_wav_is_what_libsndfile_reads(container, channels, subtype):
    noise = 0.2 * np.random.default_rng(0).standard_normal((2000, channels))
    data = encode(noise, 16000, container, subtype)
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(decode(data), expected.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_one_wrong_bit_in_flac_is_noticed(place):
    data = bytearray(encode(0.1 * np.random.default_rng(0).standard_normal(48000), 16000, "FLAC"))
    data[len(data) * place // 100] ^= 4
    with pytest.raises(AudioError):
        decode(bytes(data))


def test_channels_are_averaged():
    both = np.stack([tone(0.5), np.zeros(8000)], axis=1)
    np.testing.assert_allclose(decode(encode(both, subtype="FLOAT")), tone(0.5) / 2, atol=1e-7)


def test_samples_above_full_scale_are_kept():
    wave = decode(encode(3 * tone(0.5), subtype="FLOAT"))
    np.testing.assert_allclose(wave, 3 * tone(0.5), atol=1e-6)


def test_an_hour_is_the_most():
    assert len(decode(encode(np.zeros(100 * 1000), 1000, "FLAC"))) == 1_600_000
    longer = encode(np.zeros(3601 * 1000), 1000, "FLAC")
    assert len(decode(longer, seconds=3601)) == 3601 * 16_000  # unless whoever decodes it says so
    with pytest.raises(AudioError, match=r"lasts 3601\.00 s, and clips over 3600 s .*split"):
        decode(longer)


def test_one_audio_token_is_the_least():
    assert len(decode(encode(tone(0.03)))) == 480
    with pytest.raises(AudioError, match=r"479 samples at 16 kHz.*480"):
        decode(encode(tone(0.03)[:-1]))
    with pytest.raises(AudioError, match="no samples"):
        decode(encode(np.zeros(0)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    wave = tone(0.5)
    wave[7] = value
    with pytest.raises(AudioError, match="1 of its 8000 samples are not numbers"):
        decode(encode(wave, subtype="FLOAT"))


@pytest.mark.parametrize("data", [b"good morning\n" * 99, bytes(1000), b"RIFF", b"Ogg" * 50])
def test_not_audio(data):
    with pytest.raises(AudioError, match="cannot be read as WAV, FLAC, Ogg, MP3 or any other"):
        decode(data)


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_broken_off(container, subtype, part):
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000)
    data = encode(noise, 16000, container, subtype)
    with pytest.raises(AudioError, match=r"broken off|cannot be read"):
        decode(data[: int(part * len(data))])


def test_streamed_wav_does_not_know_its_size():
    data = bytearray(encode(tone(0.5)))
    at = data.index(b"data")
    data[4:8] = data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    assert len(decode(bytes(data))) == 8000


def test_sentences_are_single_and_clear():
    for data in (b"text", encode(np.zeros(0)), encode(np.zeros(3601 * 1000), 1000)):
        with pytest.raises(AudioError) as error:
            decode(data)
        assert "\n" not in str(error.value)
        assert "BytesIO" not in str(error.value)


@pytest.mark.parametrize(
    ("container", "subtype", "padding"),
    [
        ("WAV", "GSM610", 320 + 320),
        ("W64", "GSM610", 320),
        ("AIFF", "GSM610", 160),
        ("WAV", "G721_32", 120),
        ("AU", "G721_32", 120),
        ("AU", "G723_24", 120),
        ("AU", "G723_40", 120),
        ("WAV", "NMS_ADPCM_16", 160),
        ("WAV", "NMS_ADPCM_24", 160),
        ("WAV", "NMS_ADPCM_32", 160),
        ("AIFF", "DWVW_16", 0),
        ("AIFF", "DWVW_24", 0),
    ],
)
def test_codecs_in_which_libsndfile_cannot_seek(container, subtype, padding):
    data = encode(tone(1.3, 8000), 8000, container, subtype)
    wave = decode(data)
    assert 0 <= len(wave) - 20800 <= 2 * padding
    middle = slice(2000, 18000)
    assert np.corrcoef(wave[middle], tone(1.3)[middle])[0, 1] > 0.99
    with pytest.raises(AudioError, match=r"broken off: \d+ of \d+ (bytes of sound|samples) are"):
        decode(data[: int(0.7 * len(data))])


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_whatever_soundfile_raises_is_a_reason(error, monkeypatch):
    def fail(*args, **options):
        raise error("frames are odd")

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    with pytest.raises(AudioError, match=r"cannot be read by libsndfile \(frames are odd\)"):
        decode(encode(tone(0.5), 16000, "FLAC", "PCM_24"))


def test_sphere_of_one_byte_a_sample():
    for subtype in ("ULAW", "ALAW"):
        for channels in (1, 2):
            data = encode(np.stack([tone(0.5)] * channels, axis=1), 16000, "NIST", subtype)
            assert b"sample_n_bytes -s1 1" in data
            np.testing.assert_allclose(decode(data), tone(0.5), atol=0.02)
            with pytest.raises(AudioError, match=f"{4000 * channels} of {8000 * channels} bytes"):
                decode(data[: -4000 * channels])


def test_sphere_of_shorten():
    head = (
        b"NIST_1A\n   1024\nsample_count -i 8000\nsample_coding -s26 pcm,embedded-shorten-v2.00\n"
    )
    with pytest.raises(AudioError, match="Shorten, which is not read; convert it by sph2pipe"):
        decode(head.ljust(1024) + b"ajkg\2" + bytes(range(256)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "run `git lfs pull`"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML or XML page"),
        (b"\xef\xbb\xbf\r\n <HTML lang=en>", "HTML or XML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "HTML or XML page"),
        (gzip.compress(bytes(900), mtime=0), "it is a gzip file, not audio; unpack it"),
        (lzma.compress(bytes(900)), "it is an xz file, not audio; unpack it"),
        (bz2.compress(bytes(900)), "it is a bzip2 file, not audio; unpack it"),
        (b"PK\3\4\x14\0\0\0\x08\0", "it is a ZIP archive, not audio; unpack it"),
        (b"\x0b\x77\xe0\x74\x0c\x40", "it is AC-3, which is not read; convert it to FLAC"),
        (b"ID3\3\0\0\0\0\0\4abcdTTA1\1\0\1\0", "it is True Audio .TTA., which is not read"),
    ],
)
def test_what_is_no_audio_is_named(data, reason):
    with pytest.raises(AudioError, match=reason):
        decode(data)
