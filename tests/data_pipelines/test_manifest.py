"""The manifest source: what is found out about a manifest before any audio is decoded."""

import json
import pathlib

import pytest

from data_pipelines.records import RejectedRecord
from data_pipelines.sources import manifest
from data_pipelines.sources.rows import make

GOOD = {"audio": "a.wav", "task": "asr", "text": "größe 大きい ɸ", "language": "en"}


def deep(levels: int) -> str:
    return json.dumps(GOOD)[:-1] + f', "n": {"[" * (levels - 1)}{"]" * (levels - 1)}}}'


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(name.encode())  # not audio: nothing here may decode it
    return tmp_path


def read(folder, *lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "m.jsonl").write_text(text + "\n", encoding="utf-8")
    return manifest.jobs(folder / "m.jsonl")


def reason(folder, line) -> str:
    rows, rejected = read(folder, line)
    assert rows == []
    (rejection,) = rejected
    assert rejection["row"] == 1
    assert "\n" not in rejection["reason"]
    return rejection["reason"]


def test_a_good_row(folder):
    (row,), rejected = read(folder, {**GOOD, "source": "mine", "license": "CC0"})
    assert rejected == []
    record = make(row)
    assert record.id == "a-1"
    assert record.task == "asr"
    assert record.audio == (b"a.wav",)
    assert record.annotation == {
        "text": GOOD["text"],
        "language": "en",
        "source": "mine",
        "license": "CC0",
    }


def test_several_clips_and_absolute_paths(folder):
    audio = ["b.wav", str(folder / "a.wav")]
    (row,), _ = read(folder, {"audio": audio, "task": "speaker_verification", "text": "same"})
    assert make(row).audio == (b"b.wav", b"a.wav")
    assert row.id == "b-1"


def test_ids(folder):
    rows, rejected = read(
        folder, {**GOOD, "id": "x"}, GOOD, {**GOOD, "id": 7}, {**GOOD, "id": "x"}, GOOD
    )
    assert [row.id for row in rows] == ["x", "a-2", "7", "a-5"]
    (rejection,) = rejected
    assert rejection["row"] == 4
    assert "'x' is line 1's already" in rejection["reason"]


def test_blank_lines_and_byte_order_mark_count_but_do_no_harm(folder):
    line = json.dumps(GOOD).encode()
    (folder / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    rows, rejected = manifest.jobs(folder / "m.jsonl")
    assert [row.line for row in rows] == [1, 4]
    assert rejected == []


def test_bad_rows_do_not_stop_the_others(folder):
    rows, rejected = read(folder, GOOD, "{", GOOD, {**GOOD, "task": "nothing"}, GOOD)
    assert [row.line for row in rows] == [1, 3, 5]
    assert [rejection["row"] for rejection in rejected] == [2, 4]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({**GOOD, "task": "asrr"}, "unknown task 'asrr'; did you mean 'asr'?"),
        ({**GOOD, "task": ["asr"]}, "field 'task': must be a text"),
        ({**GOOD, "task": None}, "field 'task': missing or empty"),
        ({**GOOD, "text": ""}, "field 'text': missing or empty; task 'asr' needs it"),
        ({k: v for k, v in GOOD.items() if k != "language"}, "field 'language': missing"),
        ({k: v for k, v in GOOD.items() if k != "audio"}, "field 'audio': missing or empty"),
        ({**GOOD, "audio": []}, "field 'audio': missing or empty"),
        ({**GOOD, "audio": 5}, "field 'audio': must be a path or a list of paths"),
        ({**GOOD, "audio": ["a.wav", None]}, "field 'audio': must be a path or a list of paths"),
        ({**GOOD, "audio": ["a.wav", "b.wav"]}, "2 clips given; task 'asr' takes 1"),
        ({**GOOD, "audio": "gone.wav"}, "gone.wav is not there"),
        ({**GOOD, "audio": "."}, "is a folder; give the path of an audio file"),
        ({**GOOD, "audio": "a\0.wav"}, "has a NUL in it, and is no path"),
        ({**GOOD, "audio": "a" * 5000}, "cannot be read (File name too long)"),
        ({**GOOD, "audio": "https://a.org/b.wav"}, "https://a.org/b.wav is an address; download"),
        ({**GOOD, "audio": "a.wav/b.wav"}, "a.wav/b.wav is not there"),
        ({**GOOD, "id": ""}, "field 'id'"),
        ({**GOOD, "id": [1]}, "field 'id'"),
        ({**GOOD, "id": True}, "field 'id'"),
        ({**GOOD, "id": "\u200b"}, "field 'id'"),
        ({**GOOD, "text": "half \ud83d"}, "surrogate"),
        ({**GOOD, "task": "word_timestamps", "words": [{"word": "a", "start": "x", "end": 1}]}, ""),
        ("[1, 2]", "must be a JSON object"),
        ('{"audio": ', "is not valid JSON"),
        ('{"audio": "a.wav", "task": "asr", "text": NaN}', "is not valid JSON (NaN is not JSON)"),
        (
            '{"audio": "a.wav", "task": "asr", "text": "x", "text": "y"}',
            "field 'text' is there twice",
        ),
        ("[" * 100_000, "is nested more than 100 levels deep"),
        (deep(101), "is nested more than 100 levels deep"),
        (deep(600), "is nested more than 100 levels deep"),
        (json.dumps(GOOD)[:-1] + ', "n": 1e999}', "field 'n': holds a number beyond 1.8e308"),
        (json.dumps(GOOD)[:-1] + ', "n": [{"m": -1e999}]}', "field 'n': holds a number beyond"),
        ({**GOOD, "n": 10**308}, "field 'n': holds a number of more than 308 digits"),
        (json.dumps(GOOD)[:-1] + f', "n": {"9" * 6000}}}', "a number of more than 308 digits"),
        ({**GOOD, "text": 42}, "field 'text': must be a text, not the number 42"),
        ({**GOOD, "language": "endoftext"}, "field 'language': 'endoftext' names no language"),
        ({"audio_filepath": "a.wav", "task": "asr"}, "if 'audio_filepath' is it, call it 'audio'"),
        ({"audio": "a.wav", "Task": "asr"}, "if 'Task' is it, call it 'task'"),
    ],
)
def test_rejections(folder, row, says):
    assert says in reason(folder, row)


def test_bytes_that_are_not_utf8(folder):
    (folder / "m.jsonl").write_bytes(b'{"text": "\xff"}\n' + json.dumps(GOOD).encode())
    rows, rejected = manifest.jobs(folder / "m.jsonl")
    assert len(rows) == 1
    assert rejected == [{"row": 1, "reason": "is not UTF-8 (byte 11 of the line)"}]


def test_missing_and_empty_manifest(folder):
    with pytest.raises(RejectedRecord, match="no such file"):
        manifest.jobs(folder / "gone.jsonl")
    with pytest.raises(RejectedRecord, match="cannot be read"):
        manifest.jobs(folder)
    (folder / "m.jsonl").write_text("\n \n")
    with pytest.raises(RejectedRecord, match="is empty"):
        manifest.jobs(folder / "m.jsonl")


def test_an_address_for_a_manifest(folder):
    with pytest.raises(RejectedRecord, match=r"^--manifest: is an address; download it"):
        manifest.jobs(pathlib.Path("https://a.org/train.jsonl"))


def test_rows_at_the_edge_of_what_is_read(folder):
    digits = {**GOOD, "n": 10**307, "id": "9" * 400, "tiny": 1e-320}
    rows, rejected = read(folder, deep(100), digits)
    assert rejected == []
    assert rows[1].annotation["n"] == 10**307


def test_file_that_vanishes_later(folder):
    (row,), _ = read(folder, GOOD)
    (folder / "a.wav").unlink()
    with pytest.raises(RejectedRecord, match=r"field 'audio': .*a\.wav cannot be read"):
        make(row)


def test_text_needs_no_audio(folder):
    (row,), rejected = read(folder, {"task": "text", "text": "Only words."})
    assert rejected == []
    record = make(row)
    assert (record.id, record.audio, record.annotation) == ("text-1", (), {"text": "Only words."})
    wrong = reason(folder, {"task": "text", "text": "x", "audio": "a.wav"})
    assert wrong == "field 'audio': 1 clips given; task 'text' takes 0"
    assert reason(folder, {"task": "asr", "text": "x"}) == "field 'audio': missing or empty"
