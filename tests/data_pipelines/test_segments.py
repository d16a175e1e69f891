"""Segments of long recordings: how rows spell them, what is refused, and that no sample changes."""

import itertools
import json
import pathlib
import pickle

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import build
from data_pipelines.records import Corpus, RejectedRecord
from data_pipelines.sources import manifest, recordings, rows
from data_pipelines.sources.recordings import Recordings
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.audio.decode import decode, read_samples

RATE = 16000
ROW = {"audio": "long.wav", "task": "asr", "text": "one", "language": "en"}


def numbers(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """int16 noise [n, channels]."""
    random = np.random.default_rng(0)
    return random.integers(-9000, 9000, (round(seconds * rate), channels), np.int16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With long.wav, 0.6 s, and pair.wav, 1 s in stereo."""
    monkeypatch.setattr(recordings, "_RECORDINGS", Recordings())
    soundfile.write(tmp_path / "long.wav", numbers(0.6), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "pair.wav", numbers(1.0, 2), RATE, subtype="PCM_16")
    return tmp_path


def jobs(folder: pathlib.Path, *lines: dict):
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest.jobs(folder / "m.jsonl")


def clips(folder: pathlib.Path, line: dict) -> list[np.ndarray]:
    """The clips of a row's record, at 16 kHz."""
    (row,), rejected = jobs(folder, line)
    assert rejected == []
    return [decode(clip) for clip in rows.make(row).audio]


def reason(folder: pathlib.Path, line: dict) -> str:
    usable, rejected = jobs(folder, line)
    if rejected:
        return rejected[0]["reason"]
    with pytest.raises(RejectedRecord) as error:
        rows.make(usable[0])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 0.2, "duration": 0.2},
        {"start": 0.2, "end": 0.4},
        {"start": 0.2, "duration": 0.2, "channel": 0},
        {"begin": 0.2, "end": 0.4},
        {"start_time": 0.2, "end_time": 0.4},
        {"begin_time": 0.2, "end_time": 0.4, "duration": 0.2},
        {"segment_begin": 0.2, "segment_end": 0.4, "channel_selector": [0]},
        {"segment_start": 0.2, "segment_end": 0.4, "offset": 0.2, "end": None},
        {"offset": [0.2], "duration": [0.2]},
        {"offset": 0.2, "start": 0.22, "end": 0.4},
        {"start": 0.2, "duration": 0.2, "end": 0.42},
    ],
)
def test_all_spellings_cut_the_same_samples(folder, fields):
    (clip,) = clips(folder, ROW | fields)
    assert np.array_equal(clip, numbers(0.6)[3200:6400, 0] / np.float32(32768))
    (row,), _ = jobs(folder, ROW | fields)
    assert fields.items() <= rows.make(row).annotation.items()


def test_neighbours_share_no_sample_and_lose_none(folder):
    times = [0.0, 0.10001, 0.2, 0.33333, 0.48, 0.6]
    parts = [clips(folder, ROW | {"start": a, "end": b})[0] for a, b in itertools.pairwise(times)]
    assert np.array_equal(np.concatenate(parts), numbers(0.6)[:, 0] / np.float32(32768))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"offset": 0},
        {"offset": None, "duration": None},
        {"duration": 0.6},
        {"duration": 0.59},
        {"duration": 0.65},
        {"offset": 0.0, "duration": 0.6},
        {"start": 0, "end": 0.6},
        {"channel": 0},
        {"duration_ms": 600},
        {"num_samples": 9600, "segment": "b", "channels": 1, "channel_id": "UC1"},
        {"segments": [{"start": 0.1, "end": 0.2}], "supervisions": [{"start": 0.1}]},
        {"from": "en", "to": "de", "time": "noon", "region": "north", "window": 5},
        {"duration": 0.58},
    ],
)
def test_the_whole_file_stays_as_it_is(folder, fields):
    (row,), _ = jobs(folder, ROW | fields)
    assert rows.make(row).audio == ((folder / "long.wav").read_bytes(),)


def test_a_duration_alone_is_a_segment_from_the_beginning(folder):
    (clip,) = clips(folder, ROW | {"duration": 0.25})
    assert np.array_equal(clip, numbers(0.6)[:4000, 0] / np.float32(32768))


def test_an_offset_alone_goes_to_the_end(folder):
    (clip,) = clips(folder, ROW | {"offset": 0.5})
    assert np.array_equal(clip, numbers(0.6)[8000:, 0] / np.float32(32768))


def test_channels(folder):
    pair = {**ROW, "audio": "pair.wav"}
    whole = numbers(1.0, 2) / np.float32(32768)
    (clip,) = clips(folder, pair | {"channel": 1, "start": 0.25, "end": 0.5})
    assert np.array_equal(clip, whole[4000:8000, 1])
    (clip,) = clips(folder, pair | {"channel": 1})
    assert np.array_equal(clip, whole[:, 1])
    (row,), _ = jobs(folder, pair | {"channel": [0, 1]})
    assert rows.make(row).audio == ((folder / "pair.wav").read_bytes(),)


def test_each_of_several_clips_has_its_own(folder):
    two = {"audio": ["pair.wav", "long.wav"], "task": "speaker_verification", "text": "same"}
    one, other = clips(folder, two | {"offset": [0.5, 0.1], "duration": [0.25, 0.2]})
    assert (len(one), len(other)) == (4000, 3200)
    one, other = clips(folder, two | {"offset": [None, 0.1], "channel": [1, None]})
    assert (len(one), len(other)) == (16000, 8000)
    (row,), _ = jobs(folder, two | {"duration": [1.0, 0.6], "channel": [[0, 1], 0]})
    assert list(rows.make(row).audio) == [
        (folder / name).read_bytes() for name in ("pair.wav", "long.wav")
    ]
    assert reason(folder, two | {"offset": 0.1}) == (
        "field 'offset': must be a list of 2, one for each clip"
    )
    assert "list of 2" in reason(folder, two | {"channel": [0]})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"offset": 5.0, "duration": 0.2}, "field 'offset': 5 s is past the end of the recording"),
        ({"start_time": 5, "end_time": 6}, "field 'start_time': 5 s is past"),
        ({"offset": 3200, "duration": 3200}, "which lasts 0.60 s"),
        ({"duration": 0.8}, "field 'duration': the segment ends at 0.8 s, and the recording"),
        ({"start": 0.1, "end": 0.9}, "field 'end': the segment ends at 0.9 s"),
        ({"start": 0.3, "end": 0.2}, "field 'end': must be above 'start', and 0.2 is not above"),
        ({"start": 0.3, "end": 0.3}, "field 'end': must be above 'start'"),
        ({"offset": 0.1, "duration": 0}, "field 'duration': must be above 0"),
        ({"offset": -0.1, "duration": 0.2}, "field 'offset': must be 0 or more seconds, not -0.1"),
        ({"start": 0, "end": -1}, "field 'end': must be 0 or more seconds, not -1"),
        ({"start": 0.1, "end": 0.4, "duration": 0.5}, "fields 'duration' and 'end': differ"),
        ({"offset": 0.1, "start": 0.2, "end": 0.4}, "'offset' and 'start': differ (0.1 s and 0.2"),
        ({"start": 0.1}, "field 'start': says no end; give 'end' or 'duration' too"),
        ({"end": 0.4}, "field 'end': says no beginning; give 'start' too"),
        ({"offset": "0.2"}, "field 'offset': must be a number of seconds, not '0.2'"),
        ({"duration": True}, "field 'duration': must be a number of seconds, not True"),
        ({"duration": {"s": 1}}, "field 'duration': must be a number of seconds"),
        ({"offset": [0.1, 0.2]}, "field 'offset': must be a number of seconds"),
        ({"offset": 10**300}, "field 'offset': must be 0 or more seconds, not a huge number"),
        ({"channel": 1}, "field 'channel': there is no channel 1; the recording has 1, counted"),
        ({"channel": -1}, "field 'channel': must be a channel's number, from 0"),
        ({"channel": "left"}, "not 'left'; rename it if it means something else"),
        ({"channel": True}, "field 'channel': must be a channel's number"),
        ({"channel": []}, "field 'channel': must be a channel's number"),
        ({"channel": [0, 0]}, "field 'channel': names a channel twice"),
        ({"channel": 0, "channel_selector": [1]}, "'channel' and 'channel_selector': differ"),
        ({"onset": 0.1, "offset": 0.3}, "field 'onset': is not known; give 'start' and 'end'"),
        ({"start_ms": 100, "end_ms": 300}, "field 'start_ms': is not known"),
        ({"frame_offset": 10, "num_frames": 5}, "field 'frame_offset': is not known"),
        ({"startTime": 0.1, "endTime": 0.3}, "field 'startTime': is not known; write 'start_time'"),
        ({"Duration": 0.3}, "field 'Duration': is not known; write 'duration'"),
        ({"offset": 0.1, "duration_ms": 200}, "field 'duration_ms': is not known"),
        ({"timestamp": [0.1, 0.3]}, "field 'timestamp': is not known"),
        ({"start": 1600, "stop": 3200}, "field 'stop': is not known"),
        ({"channel_id": 1}, "field 'channel_id': is not known; give 'channel'"),
        ({"speaker_channel": 1}, "field 'speaker_channel': is not known; give 'channel'"),
        ({"start_offset": 0.1, "end_offset": 0.3}, "field 'start_offset': is not known"),
        ({"segment": {"start": 0.1, "end": 0.3}}, "field 'segment': is not known"),
        ({"speech_start": 0.1, "speech_end": 0.3}, "field 'speech_start': is not known"),
        ({"startTimeSec": 0.1, "endTimeSec": 0.3}, "field 'startTimeSec': is not known"),
        ({"from": 0.1, "to": 0.3}, "field 'from': is not known"),
        ({"from": "00:00:01", "to": "00:00:02"}, "field 'from': is not known"),
        ({"t0": 0.1, "t1": 0.3}, "field 't0': is not known"),
        ({"stime": 0.1, "etime": 0.3}, "field 'stime': is not known"),
        ({"st": 0.1, "et": 0.3}, "field 'st': is not known"),
        ({"xmin": 0.1, "xmax": 0.3}, "field 'xmin': is not known"),
        ({"tmin": 0.1, "tmax": 0.3}, "field 'tmin': is not known"),
        ({"times": [0.1, 0.3]}, "field 'times': is not known"),
        ({"window": [0.1, 0.3]}, "field 'window': is not known"),
    ],
)
def test_what_is_not_understood_is_refused(folder, fields, says):
    assert says in reason(folder, ROW | fields)


def test_text_alone_has_nothing_to_cut(folder):
    (row,), rejected = jobs(folder, {"task": "text", "text": "words", "start": 3, "Duration": "x"})
    assert rejected == []
    assert row.segments == ()


def test_a_recording_that_is_no_audio_is_named(folder):
    (folder / "long.wav").write_bytes(b"nothing to hear")
    assert reason(folder, ROW | {"offset": 0.1}).startswith("field 'audio': ")


def test_ids_are_still_unique(folder):
    parts = [ROW | {"offset": i / 10, "duration": 0.1} for i in range(5)]
    listed, _ = jobs(folder, *parts)
    assert [row.id for row in listed] == [f"long-{number}" for number in range(1, 6)]


def test_neighbouring_rows_decode_their_recording_once(folder, monkeypatch):
    decoded = []

    def counted(data):
        decoded.append(len(data))
        return read_samples(data)

    monkeypatch.setattr(recordings, "read_samples", counted)
    parts = [ROW | {"offset": i / 10, "duration": 0.1} for i in range(6)]
    two = {"task": "speaker_verification", "text": "same", "audio": ["pair.wav", "long.wav"]}
    pairs = [two | {"offset": [i / 10, i / 10], "duration": [0.1, 0.1]} for i in range(6)]
    for row in jobs(folder, *parts, *pairs)[0]:
        rows.make(row)
    assert len(decoded) == 2
    (folder / "long.wav").write_bytes(b"RIFF and no more")
    for row in jobs(folder, *parts[1:])[0]:
        with pytest.raises(RejectedRecord, match="field 'audio': it cannot be read"):
            rows.make(row)
    assert len(decoded) == 3


def test_only_the_last_recordings_are_kept(folder, monkeypatch):
    """pair.wav takes 128,000 bytes, long.wav 38,400."""
    kept = Recordings(150_000)
    for name, left in (("long.wav", 1), ("pair.wav", 1), ("long.wav", 1)):
        kept[folder / name]
        assert len(kept._kept) == left
    kept = Recordings(170_000)
    one = kept[folder / "long.wav"]
    kept[folder / "pair.wav"]
    assert kept[folder / "long.wav"] is one
    assert len(Recordings(1)[folder / "pair.wav"].samples) == 16000
    soundfile.write(folder / "long.wav", numbers(0.3), RATE, subtype="PCM_16")
    assert len(kept[folder / "long.wav"].samples) == 4800


def test_a_shard_is_planned_by_what_segments_take(folder):
    (row,), _ = jobs(folder, ROW | {"offset": 0.2, "duration": 0.1})
    assert rows.size_of(row) == 1600 * 2
    (row,), _ = jobs(folder, {**ROW, "audio": "pair.wav", "channel": 1})
    assert rows.size_of(row) == 16000 * 2
    (row,), _ = jobs(folder, ROW | {"duration": 0.6})
    assert rows.size_of(row) == (folder / "long.wav").stat().st_size
    (folder / "long.wav").write_bytes(b"x" * 77)
    assert rows.size_of(row) == 77
    (row,), _ = jobs(folder, ROW | {"offset": 1.0, "duration": 2.0})
    assert rows.size_of(row) == 2 * 44100 * 2
    soundfile.write(folder / "pipe.flac", numbers(0.6), RATE)
    data = bytearray((folder / "pipe.flac").read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's total of samples: unknown
    (folder / "pipe.flac").write_bytes(data)
    (row,), _ = jobs(folder, {**ROW, "audio": "pipe.flac", "offset": 0.5})
    assert rows.size_of(row) == len(data)


def test_any_number_of_workers_builds_the_same(folder):
    parts = [ROW | {"offset": i / 100, "duration": 0.05} for i in range(50)]
    jobs(folder, *parts, ROW | {"offset": 5.0, "duration": 0.2})
    made = []
    for workers in (1, 2):
        out = folder / f"out{workers}"
        work = build.manifest_work(folder / "m.jsonl", "train")
        summary = build.build_corpus(out, work, workers=workers)["train"]
        assert [r["row"] for r in summary.rejected] == [51]
        made.append(sorted(path.read_bytes() for path in out.glob("*array_record*")))
    assert made[0] == made[1]
    record = Corpus(out).record("train", 7)
    assert record.id == "long-8"
    assert np.array_equal(decode(record.audio[0]), numbers(0.6)[1120:1920, 0] / np.float32(32768))


@given(
    st.dictionaries(
        st.sampled_from(
            ["offset", "start", "end", "duration", "channel", "end_time", "onset", "stop", "Start"]
        ),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.floats() | st.integers() | st.none(), max_size=3),
    ),
    st.integers(0, 3),
)
def test_any_fields_are_understood_or_refused(fields, clips):
    try:
        found = segments_of(fields, clips)
    except RejectedRecord:
        return
    assert len(found) in (0, clips)
    for segment in found:
        if segment is not None:
            assert 0 <= segment.begin < (segment.end or np.inf)
    assert pickle.loads(pickle.dumps(found)) == found
