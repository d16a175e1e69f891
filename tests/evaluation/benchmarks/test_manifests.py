"""Lists of our own form and of NeMo's."""

import io

import published_lists
import soundfile

from qwen_audio_jax.evaluation.benchmarks import manifests


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
