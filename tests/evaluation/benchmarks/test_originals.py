"""The lists of the released Qwen-Audio and Qwen2-Audio scripts."""

import published_lists
import pytest
from published_lists import clip, write

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation.benchmarks import originals
from qwen_audio_jax.rendering.spans import Span


def one(root, name, row, file="a.wav"):
    clip(root / file)
    items, left_out = originals.read(write(root / f"{name}_eval.jsonl", [{"audio": file} | row]))
    return items[0] if items else left_out[0].reason


def test_paths_may_begin_in_a_folder_above(tmp_path):
    items, left_out = originals.read(published_lists.qwen_audio(tmp_path))
    assert not left_out
    assert [item.id for item in items] == ["1089-1", "1221-2"]
    path = tmp_path / "data" / "asr" / "clips" / "1089.flac"
    assert items[0].clips() == (path.read_bytes(),)
    assert items[0].annotation == {
        "text": "<|en|>hello there",
        "source": "test_clean",
        "language": "en",
    }
    assert (items[0].task, items[0].limit, items[0].spans) == ("asr", 256, ())


@pytest.mark.parametrize(
    ("name", "task", "limit"),
    [
        ("aishell1", "asr", 256),
        ("tut2017", "acoustic_scene_classification", 10),
        ("cochlscene", "acoustic_scene_classification", 10),
        ("meld", "emotion_recognition", 4),
        ("vocalsound", "vocal_sound_classification", 4),
    ],
)
def test_the_file_tells_task_and_limit(tmp_path, name, task, limit):
    item = one(tmp_path, name, {"gt": "park", "source": "x"})
    assert (item.task, item.limit, item.annotation["text"]) == (task, limit, "park")


def test_captions_are_a_list(tmp_path):
    item = one(tmp_path, "clotho", {"gt": ["a dog", "barking"], "source": "clotho"})
    assert (item.task, item.limit) == ("audio_captioning", 30)
    assert item.annotation["text"] == ["a dog", "barking"]
    assert one(tmp_path, "clotho", {"gt": "a dog"}).annotation["text"] == ["a dog"]
    assert "must be a caption or a list" in one(tmp_path, "clotho", {"gt": [1]})


def test_questions_and_translations(tmp_path):
    item = one(tmp_path, "clothoaqa", {"gt": "yes", "question": "Is it loud?", "source": "c"})
    assert (item.annotation["question"], item.limit) == ("Is it loud?", 4)
    item = one(tmp_path, "covost2", {"gt": "Guten Tag", "source": "covost2_en_de_test"})
    assert (item.annotation["language"], item.annotation["target_language"]) == ("en", "de")
    assert "must end in the languages" in one(tmp_path, "covost2", {"gt": "x", "source": "covost2"})


def test_labels_with_tags_are_read_back(tmp_path):
    words = "<|0.00|><|sil|><|0.54|>面<|0.86|>条<|1.17|><|sil|><|2.01|>"
    item = one(tmp_path, "industrial_srwt", {"gt": words, "source": "s"})
    assert item.annotation["words"] == [
        {"word": "面", "start": 0.54, "end": 0.86},
        {"word": "条", "start": 0.86, "end": 1.17},
    ]
    note = "<|pitch|><|midi_pitch_60|><|velocity|><|midi_velocity_80|><|instrument|>flute"
    item = one(tmp_path, "nsynth", {"gt": note, "source": "s"})
    assert (item.annotation["pitch"], item.annotation["instrument"]) == (60, "flute")


@pytest.mark.parametrize("name", ["industrial_srwt", "nsynth"])
def test_a_label_that_says_nothing_is_left_out(tmp_path, name):
    assert "field 'gt': is no label of" in one(tmp_path, name, {"gt": "面条", "source": "s"})


def test_prompts_follow_the_clip_and_their_tags_are_control_tokens(tmp_path):
    (item,), _ = originals.read(published_lists.qwen2_audio(tmp_path))
    text = "Detect the language and recognize the speech: "
    assert item.spans == (Span(clip=0), Span(text=text), Span(tag="<|fr|>"))
    assert (item.annotation["language"], item.limit) == ("fr", 256)


def test_prompts_that_name_the_clip_stay_as_they_are(tmp_path):
    whole = "<|audio_bos|><|AUDIO|><|audio_eos|>"
    item = one(tmp_path, "meld", {"gt": "joy", "prompt": f"Hear: {whole}Which emotion?"})
    assert item.spans == (Span(text="Hear: "), Span(clip=0), Span(text="Which emotion?"))
    assert item.limit == 256
    assert "twice" in one(tmp_path, "meld", {"gt": "joy", "prompt": whole * 2})


@pytest.mark.parametrize("prompt", ["", " \n", "<|audio_bos|><|AUDIO|><|audio_eos|> "])
def test_a_prompt_that_asks_nothing_is_left_out(tmp_path, prompt):
    assert "'prompt': asks nothing" in one(tmp_path, "meld", {"gt": "joy", "prompt": prompt})
    assert one(tmp_path, "meld", {"gt": "joy", "prompt": None}).spans == ()
    assert "'prompt': must be a text" in one(tmp_path, "meld", {"gt": "joy", "prompt": 5})


def test_a_set_is_told_by_its_name_or_the_users(tmp_path):
    assert originals.set_name(tmp_path / "list.jsonl", "CV15_asr_yue") == "cv15_asr_yue"
    assert originals.set_name(tmp_path / "clothoaqa_eval.jsonl") == "clothoaqa"
    with pytest.raises(RejectedRecord, match="call the benchmark by one of these names: librisp"):
        originals.set_name(tmp_path / "list.jsonl", "mine")


def test_addresses_and_missing_files_are_left_out(tmp_path):
    rows = [{"audio": name, "gt": "x"} for name in ("https://a.org/b.wav", "gone.wav")]
    items, left_out = originals.read(write(tmp_path / "librispeech.jsonl", [*rows, {"gt": "x"}]))
    assert not items
    assert [one.row for one in left_out] == [1, 2, 3]
    assert "is an address; download it" in left_out[0].reason
    assert "gone.wav is not there" in left_out[1].reason
    assert left_out[2].reason == "field 'audio': must be a text; the row has 'gt'"
