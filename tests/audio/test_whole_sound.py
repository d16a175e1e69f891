"""The whole sound of a file or a reason, never a part: joined, cut, without lengths, odd tags."""

import concurrent.futures
import importlib.util
import pathlib
import struct

import numpy as np
import pytest

from qwen_audio_jax.audio.decode import AudioError, decode, read_samples

ROOT = pathlib.Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location(
    "audio_seeds", ROOT / "benchmarks" / "audio_seeds.py"
)
audio_seeds = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audio_seeds)
SEEDS = audio_seeds.seeds()
SECONDS = 0.9
ONCE = [name for name in SEEDS if "twice" not in name and "two" not in name]

# Codecs that pad, in containers that do not tell by how much: what an encoder made of 0.9 s.
PADDED = {
    "wav_ima": 0.9534375,
    "wav_ms": 0.94875,
    "mkv_aac": 0.96,
    "adts": 1.024,
    "avi_mp2": 0.936,
    "mpegts": 1.024,
    "mp2": 0.936,
    "mp3_cbr_no_info": 27 * 576 / 16000,
    "mp3_vbr_no_info": 36 * 1152 / 44100,
    "mp3_stereo_no_info": 36 * 1152 / 44100,
    "mp3_vbr_no_info_tagged": 36 * 1152 / 44100,
    "flv": 0.9288,
    "wma": 0.8824,  # FFmpeg's encoder leaves out the last block
}


def id3(size: int, told: int | None = None) -> bytes:
    """A tag of ID3v2.3, and another size in its head if one is given."""
    told = size if told is None else told
    return b"ID3\3\0\0" + bytes(told >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)


def seconds(data: bytes) -> float:
    return len(decode(data)) / 16000


@pytest.mark.parametrize("name", ONCE)
def test_every_kind_of_file_is_whole(name):
    wave = decode(SEEDS[name])
    exact = name not in PADDED
    assert len(wave) / 16000 == pytest.approx(PADDED.get(name, SECONDS), abs=0 if exact else 1e-4)
    if name != "amr":  # which is noise all along
        # Loud for a third, then quiet: nothing is missing in front either.
        loud, quiet = wave[800:4500], wave[7000:14000]
        assert loud.std() > 1.4 * quiet.std() > 0.05


@pytest.mark.parametrize("packets", [1, 3, 7])
def test_a_tag_that_reaches_into_a_transport_stream_hides_none_of_it(packets):
    data = SEEDS["mpegts"]
    tag = id3(100, told=100 + packets * 188)
    assert np.array_equal(decode(tag + data), decode(data))


def test_a_caf_whose_codec_has_another_sampling_rate_is_refused():
    data = bytearray(SEEDS["caf_alac"])
    data[data.index(b"kuki") + 12 + 22] ^= 0x40  # of the rate in ALAC's cookie
    with pytest.raises(AudioError, match="tells of 16000 Hz, and its codec of 32384 Hz"):
        decode(bytes(data))


ODD = {
    "silence": lambda n: np.zeros(n),
    "a constant": lambda n: np.full(n, 0.5),
    "clicks": lambda n: np.arange(n) % 400 == 0,
    "silence, then noise": lambda n: np.linspace(-0.9, 0.9, n) ** 3 * (np.arange(n) > n // 2) % 0.7,
    "noise, then silence": lambda n: np.sin(np.arange(n) ** 2) * (np.arange(n) < n // 2),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", [*audio_seeds.BY_LIBSNDFILE, *audio_seeds.BY_FFMPEG])
def test_no_content_or_length_makes_a_whole_file_look_damaged(name, content):
    for samples in (480, 723, 4097, 9000):
        if name in audio_seeds.BY_LIBSNDFILE:
            container, subtype, rate, channels = audio_seeds.BY_LIBSNDFILE[name]
            wave = np.repeat(content(samples)[:, None], channels, axis=1).astype(np.float32)
            data = audio_seeds.by_libsndfile(wave, rate, format=container, subtype=subtype)
        else:
            container, codec, rate = audio_seeds.BY_FFMPEG[name]
            wave = content(samples)[:, None].astype(np.float32)
            data = audio_seeds.by_ffmpeg(wave, rate, container, codec)
        if samples <= 4096 and name == "wma":  # of which FFmpeg's encoder leaves out all
            continue
        found, rate_found = read_samples(data)
        assert len(found) / rate_found >= samples / rate - (0.05 if name == "wma" else 1e-4)


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("times", [2, 3])
def test_joined_files_are_whole_or_refused(name, times):
    try:
        found = seconds(times * SEEDS[name])
    except AudioError:
        return
    assert found == pytest.approx(times * seconds(SEEDS[name]), abs=0.1)


@pytest.mark.parametrize(
    "name", ["wav_pcm16", "flac16", "flac24", "flac_unknown_length", "vorbis", "opus", "ogg_flac"]
)
def test_joined_files_of_these_are_whole(name):
    assert seconds(3 * SEEDS[name]) == 3 * SECONDS


@pytest.mark.parametrize("name", ["wav_pcm16", "flac16", "vorbis", "mp3_cbr"])
def test_joined_files_may_not_be_too_long_either(name):
    np.testing.assert_array_equal(decode(SEEDS[name], seconds=1.0), decode(SEEDS[name]))
    with pytest.raises(AudioError, match=r"lasts 1\.80 s, and clips over 1 s are refused"):
        decode(3 * SEEDS[name], seconds=1.0)


@pytest.mark.parametrize("name", [*ONCE, "wav_pcm16", "flac16", "flac24", "vorbis", "opus"])
def test_no_more_is_decoded_than_there_is_room_for(name):
    wave, _ = read_samples(SEEDS[name])
    # What encoders put around the sound counts as well, until it is cut off.
    with_padding = wave.size + 4000 * wave.shape[1]
    np.testing.assert_array_equal(decode(SEEDS[name], most=with_padding), decode(SEEDS[name]))
    with pytest.raises(AudioError, match="more than there is room for here"):
        decode(SEEDS[name], most=wave.size - 4000)


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("part", [0.55, 0.8, 0.97])
def test_a_file_that_was_broken_off_is_refused(name, part):
    data = SEEDS[name]
    if name == "wav_streamed":
        data = SEEDS["wav_pcm16"]
    if name == "wav_size_zero":
        assert seconds(data[: len(data) // 2]) == pytest.approx(SECONDS / 2, abs=0.01)
        return
    with pytest.raises(AudioError):
        decode(data[: int(part * len(data))])


@pytest.mark.parametrize("name", ["mp3_cbr", "mp3_vbr", "mp3_stereo"])
def test_mp3s_with_a_lame_tag_are_exact(name):
    one, _ = read_samples(SEEDS[name])
    joined, rate = read_samples(2 * SEEDS[name])
    assert len(one) == round(SECONDS * rate)
    np.testing.assert_array_equal(joined, np.concatenate([one, one]))


def test_tags_between_and_behind_joined_mp3s():
    mp3 = SEEDS["mp3_vbr"]
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
    lyrics = b"LYRICSBEGIN" + b"x" * 99 + b"000110LYRICS200"
    behind = ape + lyrics + b"TAG" + bytes(125) + bytes(1000)
    assert seconds(id3(50) + mp3 + behind + id3(400) + mp3 + behind) == 2 * SECONDS


@pytest.mark.parametrize("junk", [bytes(300), b"<html>\xff\xfb</html>"])
def test_junk_before_the_first_mp3_frame(junk):
    for name in ("mp3_cbr", "mp3_vbr_no_info"):
        assert seconds(junk + SEEDS[name]) == seconds(SEEDS[name])


@pytest.mark.parametrize("told", [0, 100, 999, 5000, 1 << 20])
@pytest.mark.parametrize("name", ["mp3_vbr_no_info", "mp3_cbr", "wav_pcm16", "flac16", "vorbis"])
def test_a_tag_of_a_wrong_size(told, name):
    assert seconds(id3(1000, told) + SEEDS[name]) == seconds(SEEDS[name])


@pytest.mark.parametrize("name", ONCE)
def test_two_tags_in_front(name):
    assert seconds(id3(10) + id3(3000) + SEEDS[name]) == seconds(SEEDS[name])


def test_an_info_frame_that_tells_too_few_frames():
    together = SEEDS["mp3_cbr"] + SEEDS["mp3_cbr_no_info"]
    assert seconds(together) == pytest.approx(2 * SECONDS, abs=0.1)


def test_damage_between_mp3_frames_is_named():
    mp3 = SEEDS["mp3_cbr_no_info"]
    with pytest.raises(AudioError, match=r"damaged: at byte \d+ begins no MP3 frame"):
        decode(mp3[:1500] + b"hello" * 30 + mp3[1500:])
    # Not taken for junk before the first frame, though few frames lie before it.
    with pytest.raises(AudioError, match="begins no MP3 frame"):
        decode(mp3[:300] + b"hello" * 30 + mp3[300:])


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("mp3_cbr", "mp3_vbr", "sampling rate, version or layer of its MP3 frames changes"),
        ("vorbis", "vorbis_stereo", "sampling rate changes from 16000 to 44100"),
        ("vorbis", "opus", "sampling rate changes from 16000 to 48000"),
        ("wav_pcm16", "wav_u8", "sampling rate changes from 16000 to 8000"),
        ("flac16", "flac24", "sampling rate changes from 16000 to 44100"),
        ("vorbis", "mp3_cbr", "begins no Ogg page"),
        ("m4a", "m4a", "2 files one after another"),
        ("wma", "wma", "2 files one after another"),
        ("flv", "flv", "2 files one after another"),
        ("aiff", "aiff", "more behind them"),
        ("caf", "mp3_cbr", "more behind them"),
    ],
)
def test_what_changes_on_the_way_is_named(first, second, reason):
    with pytest.raises(AudioError, match=reason):
        decode(SEEDS[first] + SEEDS[second])


def test_mono_and_stereo_mp3():
    stereo = audio_seeds.by_libsndfile(
        audio_seeds.sound(0.5, 16000, 2), 16000, format="MP3", subtype="MPEG_LAYER_III"
    )
    with pytest.raises(AudioError, match="number of channels of its MP3 frames changes"):
        decode(SEEDS["mp3_cbr"] + stereo)


@pytest.fixture(scope="module", params=["VORBIS", "OPUS"])
def pages(request) -> list[bytes]:
    """The pages of 20 s of sound."""
    wave = audio_seeds.sound(20, 16000)
    data = audio_seeds.by_libsndfile(wave, 16000, format="OGG", subtype=request.param)
    places = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


def test_ogg_pages(pages):
    assert seconds(b"".join(pages)) == 20
    for missing in (2, 4):
        with pytest.raises(AudioError, match="Ogg pages are missing"):
            decode(b"".join(pages[:missing] + pages[missing + 1 :]))
    wrong = bytearray(pages[5])
    wrong[-9] ^= 1
    with pytest.raises(AudioError, match="wrong checksum"):
        decode(b"".join([*pages[:5], wrong, *pages[6:]]))
    # A recorder that was stopped: nothing tells that there was more, and all that is there is read.
    assert 17 < seconds(b"".join(pages[:-1])) < 20


def test_flac_that_tells_a_wrong_length():
    data = SEEDS["flac16"]
    for told, reason in ((14399, "frames hold 14400"), (14401, "broken off: 14400 of 14401")):
        wrong = data[:22] + told.to_bytes(4, "big") + data[26:]
        with pytest.raises(AudioError, match=reason):
            decode(wrong)
    wrong = data[:30] + bytes(8) + data[38:]  # the checksum of the samples, which players ignore
    assert seconds(wrong) == SECONDS


def test_flac_frames_that_are_missing_or_come_twice():
    data = SEEDS["flac_unknown_length"]
    starts = [at for at in range(86, len(data)) if data.startswith(b"\xff\xf8\xc5", at)]
    first, second, third = starts[:3]
    for wrong in (data[:second] + data[third:], data[:third] + data[second:], data[:-50]):
        with pytest.raises(AudioError, match=r"it is (damaged|broken off)"):
            decode(wrong)
    assert first < second


def test_wav_sizes():
    data = SEEDS["wav_pcm16"]
    body = len(data) - 44

    def sized(riff: int, size: int, behind: bytes = b"") -> bytes:
        heads = data[:4] + struct.pack("<I", riff) + data[8:40] + struct.pack("<I", size)
        return heads + data[44:] + behind

    for riff in (0, 36, body + 36, 0xFFFFFFFF):
        assert seconds(sized(riff, 0)) == SECONDS
    with pytest.raises(AudioError, match=f"9600 bytes of sound, and the {body - 9600} bytes"):
        decode(sized(body + 36, 9600))
    with pytest.raises(AudioError, match=f"broken off: {body} of {body + 2} bytes of sound"):
        decode(sized(body + 36, body + 2))
    with pytest.raises(AudioError, match="two data chunks"):
        decode(sized(body + 36, body, b"data" + struct.pack("<I", 4000) + bytes(range(250)) * 16))
    for behind in (b"LIST\4\0\0\0INFO", b"\1\2\3", bytes(9999), b"LIST" + b"\1" * 50):
        assert seconds(sized(body + 36, body, behind)) == SECONDS
    with pytest.raises(AudioError, match="no samples"):
        decode(data[:40] + bytes(4) + b"LIST\4\0\0\0INFO")


def test_wav_header_that_contradicts_itself():
    for name, at in (("wav_pcm16", 34), ("w64", 40 + 24 + 14)):
        wrong = bytearray(SEEDS[name])
        assert wrong[at] == 16
        wrong[at] = 20  # bits, in frames of two bytes
        with pytest.raises(AudioError, match="contradicts itself: 1 channels of 20 bits in 2"):
            decode(bytes(wrong))


def test_mp3_in_a_wav():
    mp3 = SEEDS["mp3_cbr"]
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16000, 3000, 1, 0, 12, 1, 2, 108, 1, 1393)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data"
    inner = head + struct.pack("<I", len(mp3)) + mp3
    assert seconds(b"RIFF" + struct.pack("<I", len(inner)) + inner) == SECONDS


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1\na.wav\n", "ffconcat version 1.0\nfile a\n"])
def test_playlists_are_no_audio(text):
    with pytest.raises(AudioError, match="cannot be read"):
        decode(text.encode())


def test_nothing_is_printed(capfd):
    """Not by any library, in threads, for damaged files of all kinds."""
    chance = np.random.default_rng(0)
    damaged = []
    for data in SEEDS.values():
        wrong = bytearray(data)
        for place in chance.integers(len(data) // 4, len(data), 3):
            wrong[place] ^= 16
        damaged += [bytes(wrong), data[: len(data) // 2], data[:200] + data[300:]]

    def tried(data: bytes) -> bool:
        try:
            return len(decode(data)) > 0
        except AudioError as error:
            return "\n" in str(error)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert set(threads.map(tried, damaged)) == {True, False}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("container", "codec"), [("wv", "wavpack"), ("matroska", "flac")])
def test_damaged_lossless_sound_is_noticed(container, codec, seed):
    time = np.arange(48000) / 16000
    noise = np.random.default_rng(seed)
    wave = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.01 * noise.standard_normal(48000)
    data = bytearray(audio_seeds.by_ffmpeg(wave[:, None].astype("f4"), 16000, container, codec))
    assert len(decode(bytes(data))) == 48000
    at = int(noise.integers(len(data) // 3, len(data) * 3 // 4))
    data[at : at + 40] = noise.bytes(40)
    with pytest.raises(AudioError, match=r"it is damaged|are no part of such a file"):
        decode(bytes(data))


@pytest.mark.parametrize("name", ["caf_alac", "caf_alac_too"])
def test_damaged_alac_in_caf(name):
    """ALAC has no checksum: what no decoder can read is noticed, and libsndfile reads on."""
    data = bytearray(SEEDS[name])
    at = data.index(b"data") + 16
    data[at : at + 40] = b"\xa5" * 40
    with pytest.raises(AudioError, match="damaged"):
        decode(bytes(data))


def test_caf_whose_packet_table_tells_another_length():
    data = SEEDS["caf_alac"]
    at = data.index(b"pakt") + 12 + 8
    for told in (9000, 14401):
        with pytest.raises(AudioError, match=f"packet table tells of {told} samples, not of"):
            decode(data[:at] + told.to_bytes(8, "big") + data[at + 8 :])


def test_joined_w64_is_refused():
    with pytest.raises(AudioError, match="no part of such a file"):
        decode(2 * SEEDS["w64"])


@pytest.mark.parametrize("size", [0, 40])
def test_chunks_behind_the_sound_of_w64_are_not_heard(size):
    """A size of 0 is too small for a chunk, whose head of 24 bytes it counts."""
    chunk = b"levl" + bytes(range(12)) + struct.pack("<Q", size) + bytes(range(16))
    expected, _ = read_samples(SEEDS["w64"])
    np.testing.assert_array_equal(read_samples(SEEDS["w64"] + chunk)[0], expected)


RIGHT = {
    "vbr_no_xing.mp3": 24660,
    "two_in_one.mp3": 16000,
    "chained_vorbis.ogg": 16000,
    "chained_opus.opus": 16000,
    "unknown_length.flac": 9600,
    "size_zero.wav": 9600,
    "id3_in_front.wav": 9600,
    "plain.wav": 9600,
}


@pytest.mark.parametrize("name", RIGHT)
def test_reported_files(references, name):
    assert len(decode((references / "faults" / name).read_bytes())) == RIGHT[name]
