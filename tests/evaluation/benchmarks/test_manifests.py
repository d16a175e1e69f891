"""Lists of our own form and of NeMo's."""

import io
import json

import published_lists
import pytest
import soundfile

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.benchmarks import digest_of, manifests
from qwen_audio_jax.evaluation.official_files import official_files
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned, Window
from qwen_audio_jax.evaluation.recordings import parts_of, with_whole_answers


def test_our_own_form_leaves_out_what_is_not_evaluated(tmp_path):
    items, left_out = manifests.read(published_lists.manifest(tmp_path))
    (item,) = items
    assert (item.task, item.spans, item.choices, item.rule) == ("asr", (), (), "")
    assert item.annotation == {"text": "hello", "language": "en", "speaker": "7"}
    assert item.clips() == ((tmp_path / "a.wav").read_bytes(),)
    assert {one.row for one in left_out} == {2, 3}
    assert "its task 'text' is not evaluated" in {one.reason for one in left_out}


def test_nemo_is_speech_recognition(tmp_path):
    items, left_out = manifests.read_nemo(published_lists.nemo(tmp_path))
    assert [(item.id, item.task) for item in items] == [("a-1", "asr"), ("a-2", "asr")]
    assert items[0].annotation == {"text": "hello", "lang": "de", "language": "de"}
    assert [one.row for one in left_out] == [3]


def test_an_offset_cuts_the_clip_and_a_duration_alone_does_not(tmp_path):
    items, _ = manifests.read_nemo(published_lists.nemo(tmp_path))
    whole, part = (soundfile.read(io.BytesIO(item.clips()[0]))[0] for item in items)
    assert (len(whole), len(part)) == (1600, 800)


def test_rows_name_themselves_if_they_do(tmp_path):
    published_lists.clip(tmp_path / "a.wav")
    row = {"audio_filepath": "a.wav", "text": "x"}
    rows = [row | {"id": "u1"}, row | {"audio_id": "u2"}, row | {"id": "u1"}, {"text": "x"}]
    path = published_lists.write(tmp_path / "list.json", rows)
    items, left_out = manifests.read_nemo(path)
    assert [item.id for item in items] == ["u1", "u2"]
    assert [one.row for one in left_out] == [3, 4]


def test_stretches_of_ted_lium_that_are_not_to_be_scored_are_left_out(tmp_path):
    published_lists.clip(tmp_path / "a.wav")
    row = {"audio_filepath": "a.wav"}
    texts = ("ignore_time_segment_in_scoring", "Ignore time segment in scoring ", "ignore time")
    path = published_lists.write(tmp_path / "list.jsonl", [row | {"text": t} for t in texts])
    items, left_out = manifests.read_nemo(path)
    assert [item.annotation["text"] for item in items] == ["ignore time"]
    assert [one.row for one in left_out] == [1, 2]
    assert all("which says to pass it over" in one.reason for one in left_out)


def chunks(root, *numbers, **fields):
    """Rows of a call, whose text each of them has."""
    rows = []
    for number in numbers:
        published_lists.clip(root / f"call-{number}.wav")
        row = {"audio_filepath": f"call-{number}.wav", "text": "good morning all", "lang": "en"}
        rows.append(row | {"parent_id": "call", "chunk_index": number} | fields)
    return rows


def test_chunks_of_a_call_are_one_recording_in_the_order_of_their_numbers(tmp_path):
    published_lists.clip(tmp_path / "a.wav")
    rows = [*chunks(tmp_path, 2, 0, 1), {"audio_filepath": "a.wav", "text": "x"}]
    items, left_out = manifests.read_nemo(published_lists.write(tmp_path / "list.jsonl", rows))
    assert not left_out
    call, other = items
    assert (call.id, other.id) == ("call", "a-4")
    assert call.clips() == tuple((tmp_path / f"call-{n}.wav").read_bytes() for n in range(3))
    assert call.annotation["text"] == "good morning all"
    assert "chunk_index" not in call.annotation
    assert [part.row for part in parts_of(call)] == ["call-0-2", "call-1-3", "call-2-1"]


@pytest.mark.parametrize(
    ("numbers", "fields", "reason"),
    [
        ((0, 2), {}, "must have 0, 1 ... each once; those that can be asked have 0, 2"),
        ((0, 1, 1), {"id": None}, "each once; those that can be asked have 0, 1, 1"),
        ((0, 1), {"chunk_index": "0"}, "each once; those that can be asked have 0, 0"),
        ((0, 1), {"chunk_index": [0]}, "each once"),
    ],
)
def test_a_call_that_lacks_a_chunk_is_told(tmp_path, numbers, fields, reason):
    path = published_lists.write(tmp_path / "list.jsonl", chunks(tmp_path, *numbers, **fields))
    items, left_out = manifests.read_nemo(path)
    assert items == []
    assert [one.row for one in left_out] == ["call"]
    assert reason in left_out[0].reason


def test_a_chunk_without_its_file_leaves_out_the_call(tmp_path):
    rows = chunks(tmp_path, 0, 1, 2)
    (tmp_path / "call-1.wav").unlink()
    items, left_out = manifests.read_nemo(published_lists.write(tmp_path / "list.jsonl", rows))
    assert items == []
    assert [one.row for one in left_out] == [2, "call"]


def test_chunks_with_texts_of_their_own_are_no_recording(tmp_path):
    rows = [row | {"text": str(n)} for n, row in enumerate(chunks(tmp_path, 0, 1))]
    _, left_out = manifests.read_nemo(published_lists.write(tmp_path / "list.jsonl", rows))
    assert "leave out 'chunk_index' where each has its own" in left_out[0].reason


def test_the_leaderboard_gets_a_row_of_each_chunk_which_it_joins_itself(tmp_path):
    path = published_lists.write(tmp_path / "list.jsonl", chunks(tmp_path, 1, 0))
    windows = tuple(Window(key, 1600, row) for key, row in (("k", "call-0-2"), ("l", "call-1-1")))
    item = Planned("b", "call", "asr", {"language": "en"}, key="whole", windows=windows)
    answers = {"k": Answered("k", "good", "stop"), "l": Answered("l", "morning", "stop")}
    answered = with_whole_answers([item], answers)
    assert answered["whole"].text == "good morning"
    asked = Asked("b", "nemo", digest_of(path), str(path), 1, 0, ())
    ((name, texts),) = official_files(Plan({}, {}, [asked], [item]), answered)
    rows = [json.loads(text) for text in texts]
    assert name == "b.jsonl"
    assert [(row["chunk_index"], row["pred_text"]) for row in rows] == [(1, "morning"), (0, "good")]
    assert {row["parent_id"] for row in rows} == {"call"}
