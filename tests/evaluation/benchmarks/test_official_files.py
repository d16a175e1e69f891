"""Files for the official scorers: their keys, in their order, a row for every question asked."""

import json
import pathlib

import published_lists
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.benchmarks import open_benchmark
from qwen_audio_jax.evaluation.official_files import (
    OFFICIAL,
    file_name,
    official_files,
    official_texts,
)
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned


def rows_of(texts, form):
    text = "".join(texts)
    text.encode("ascii")
    return json.loads(text) if OFFICIAL[form][2] else [*map(json.loads, text.splitlines())]


def written(root: pathlib.Path, form: str, answers: list[str], make=None):
    """The rows of a miniature's file, the items' ids answered in turn."""
    path = (make or published_lists.LISTS[form])(root)
    items = open_benchmark("bench", path).items
    told = dict(zip((item.id for item in items), answers, strict=True))
    return rows_of(official_texts(form, path, told), form)


def test_any_name_is_a_file_s():
    names = ["mine", "a/b", "x" * 4000, "x" * 4000 + "y", "百" * 90]
    files = [file_name(name, ".jsonl") for name in names]
    assert files[:2] == ["mine.jsonl", "a%2Fb.jsonl"]
    assert len(set(files)) == len(names)
    assert all(len(file.encode()) < 200 and "/" not in file for file in files)


def test_qwen2_audio_has_four_keys_in_a_list(tmp_path):
    rows = written(tmp_path, "originals", ["hello there", ""])
    assert [list(row) for row in rows] == [["gt", "response", "source", "audio_path"]] * 2
    assert rows[0] == {
        "gt": "<|en|>hello there",
        "response": "hello there",
        "source": "test_clean",
        "audio_path": "data/asr/clips/1089.flac",
    }
    assert rows[1]["response"] == ""


# As Inference_Foundation.py and Inference_Chat.py of AIR-Bench write them.
FOUNDATION_KEYS = (
    "path question choice_a choice_b choice_c choice_d answer_gt task_name dataset_name response "
    "uniq_id"
)
CHAT_KEYS = "meta_info question answer_gt path task_name dataset_name response uniq_id"


def test_air_foundation_has_absent_choices_as_null(tmp_path):
    rows = written(tmp_path, "air_foundation", ["B", "A.", "", "二"])
    assert [" ".join(row) for row in rows] == [FOUNDATION_KEYS] * 4
    assert [row["response"] for row in rows] == ["B", "A.", "", "二"]
    assert [row["uniq_id"] for row in rows] == [0, 1, 2, 5]  # numbers, as they were
    assert [row["choice_c"] for row in rows] == [None, "child", "cat", None]
    assert rows[2]["path"] == "c.wav"  # the list's own name


def test_a_doubled_id_has_the_row_that_was_asked(tmp_path):
    rows = written(tmp_path, "air_foundation", ["B", "A", "D", "B"])
    assert rows[1]["task_name"] == "Speaker_Emotion_Recontion"


def test_air_chat_keeps_its_ids(tmp_path):
    rows = written(tmp_path, "air_chat", ["Sleep.", ""])
    assert [" ".join(row) for row in rows] == [CHAT_KEYS] * 2
    assert [(row["uniq_id"], row["response"]) for row in rows] == [(0, "Sleep."), (2, "")]
    assert rows[0]["meta_info"] == published_lists.CHAT[0]["meta_info"]


def test_mmau_has_both_keys(tmp_path):
    rows = written(tmp_path, "mmau", ["Man", ""])
    told = {"model_prediction": "Man", "model_output": "Man"}
    assert rows[0] == published_lists.MMAU[0] | told
    assert rows[1]["model_output"] == rows[1]["model_prediction"] == ""


def test_mmar_has_the_answer_and_no_thinking(tmp_path):
    rows = written(tmp_path, "mmar", ["The cat", ""])
    keys = [*published_lists.MMAR[0], "model_prediction", "thinking_prediction"]
    assert [list(row) for row in rows] == [[*keys, "answer_prediction"]] * 2
    assert [row["answer_prediction"] for row in rows] == ["The cat", ""]


def test_mmsu_has_the_rows_own_sub_category(tmp_path):
    rows = written(tmp_path, "mmsu", ["B", ""])
    keys = (
        "id audio_path question choice_a choice_b choice_c choice_d answer_gt response task_name "
        "category sub-category sub-sub-category linguistics_sub_discipline"
    )
    assert [" ".join(row) for row in rows] == [keys] * 2
    assert (rows[0]["category"], rows[0]["sub-category"]) == ("Perception", "Linguistics")
    assert (rows[1]["choice_c"], rows[1]["response"]) == (None, "")


@pytest.mark.parametrize("name", published_lists.VOICE_BENCH)
def test_voice_bench_has_the_row_without_its_audio(tmp_path, name):
    path = published_lists.voice_bench(tmp_path, name)
    items = open_benchmark("bench", path).items
    rows = rows_of(official_texts("voice_bench", path, {items[0].id: "B."}), "voice_bench")
    first = published_lists.VOICE_BENCH[name][0]
    kept = {key: value for key, value in first.items() if key != "audio"}
    assert rows == [kept | {"response": "B."}]


def test_open_asr_has_the_manifest_and_its_prediction(tmp_path):
    rows = written(tmp_path, "nemo", ["hello", ""])
    keys = ["audio_filepath", "duration", "time", "text"]
    assert list(rows[0]) == [*keys, "lang", "pred_text"]
    assert rows[0] == published_lists.NEMO[0] | {"time": None, "pred_text": "hello"}
    assert rows[1]["pred_text"] == ""


@given(asked=st.sets(st.integers(0, 3)), said=st.text(max_size=5))
def test_every_row_that_was_asked_is_written_and_no_other(tmp_path_factory, asked, said):
    path = published_lists.air_foundation(tmp_path_factory.mktemp("air"))
    items = open_benchmark("bench", path).items
    answers = {items[number].id: said for number in asked}
    rows = rows_of(official_texts("air_foundation", path, answers), "air_foundation")
    assert [str(row["uniq_id"]) for row in rows] == [items[number].id for number in sorted(asked)]
    assert all(row["response"] == said for row in rows)


def plan_of(root: pathlib.Path) -> Plan:
    benchmarks, items = [], []
    for form in ("mmau", "air_chat", "manifest"):
        found = open_benchmark(f"my/{form}", published_lists.LISTS[form](root / form))
        benchmarks.append(Asked(found.name, form, found.digest, str(found.path), 2, 0, ()))
        for item in found.items:
            key = f"{form} {item.id}"
            items.append(Planned(found.name, item.id, item.task, item.annotation, key))
    return Plan({}, {}, benchmarks, items)


def test_a_plan_has_a_file_for_each_benchmark_with_a_scorer(tmp_path):
    answered = {
        "mmau 3fe6-0": Answered("mmau 3fe6-0", "Man", "stop"),
        "mmau 3fe6-1": Answered("mmau 3fe6-1", "", "failed", error="a clip cannot be decoded"),
        "air_chat 0": Answered("air_chat 0", "Sleep.", "length"),
    }
    files = dict(official_files(plan_of(tmp_path), answered))
    assert list(files) == ["my%2Fmmau.json", "my%2Fair_chat.jsonl"]
    said = [row["model_output"] for row in rows_of(files["my%2Fmmau.json"], "mmau")]
    assert said == ["Man", ""]
    said = [row["response"] for row in rows_of(files["my%2Fair_chat.jsonl"], "air_chat")]
    assert said == ["Sleep.", ""]


def test_a_list_that_has_changed_is_refused(tmp_path):
    plan = plan_of(tmp_path)
    path = tmp_path / "mmau" / "mmau-test-mini.json"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"mmau-test-mini\.json: has changed since"):
        list(official_files(plan, {}))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(official_files(plan, {}))


def test_a_row_that_is_not_there_is_named(tmp_path):
    path = published_lists.mmau(tmp_path)
    with pytest.raises(ValueError, match="has no row 'x', which was asked"):
        official_texts("mmau", path, {"x": "Man"})
