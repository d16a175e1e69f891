"""AIR-Bench's lists, read as its own scripts read them."""

import published_lists
import pytest

from qwen_audio_jax.evaluation.benchmarks import JUDGED, air_bench, mmsu
from qwen_audio_jax.rendering.spans import Span

# As Inference_Foundation.py puts it.
PROMPT = """\
Choose the most suitable answer from options A, B, C, and D to respond the question in next line, \
you may only choose A or B or C or D.
What is heard?
A. man
B. woman
C. None
D. None"""


def read(root):
    return air_bench.read_foundation(published_lists.air_foundation(root))


def test_foundation_asks_in_the_makers_words(tmp_path):
    items, _ = read(tmp_path)
    assert [item.id for item in items] == ["0", "1", "2", "5"]
    first = items[0]
    assert first.spans == (Span(clip=0), Span(text=PROMPT))
    content = [{"type": "audio"}, {"type": "text", "text": PROMPT}]
    assert first.messages == ({"role": "user", "content": content},)
    assert first.annotation["question"] == PROMPT
    assert (first.task, first.rule, first.limit) == (
        "audio_question_answering",
        "air_official",
        256,
    )


def test_absent_choices_are_none_in_the_prompt_and_no_choices(tmp_path):
    items, _ = read(tmp_path)
    assert items[0].choices == items[3].choices == ("man", "woman")
    assert items[3].annotation["question"] == PROMPT
    assert items[1].choices == ("man", "woman", "child")
    assert items[1].annotation["question"].endswith("\nC. child\nD. None")
    assert items[2].choices == ("man", "woman", "cat", "dog")
    assert [item.annotation["text"] for item in items] == ["woman", "woman", "dog", "woman"]


def test_clips_lie_in_the_folder_of_task_and_data(tmp_path):
    items, _ = read(tmp_path)
    folder = tmp_path / "Foundation"
    places = (
        "Speaker_Gender_Recognition_meld/a.wav",
        "Speaker_Emotion_Recontion_iemocap/b.wav",
        "Audio_Grounding_AudioGrounding/c.flac",
        "Sound_AQA_avqa/d.wav",
    )
    heard = [item.clips() for item in items]
    assert heard == [((folder / place).read_bytes(),) for place in places]


def test_slices_are_of_task_and_data(tmp_path):
    items, _ = read(tmp_path)
    annotation = items[1].annotation
    assert annotation["source"] == "iemocap"
    assert annotation["category"] == "Speaker_Emotion_Recontion"
    assert annotation["sub_category"] == "Speaker_Emotion_Recontion_iemocap"


def test_rows_that_cannot_be_asked_are_named(tmp_path):
    _, left_out = read(tmp_path)
    missing, doubled, odd = left_out
    assert (missing.row, doubled.row, odd.row) == (4, 5, 6)
    assert missing.reason.endswith("Sound_AQA_avqa/gone.mp3 is not there")
    assert "'1' is row 2's already" in doubled.reason
    assert odd.reason == "field 'answer_gt': 'robot' is not among the choices 'man', 'woman'"


def test_a_doubled_id_is_the_first_rows_even_if_that_cannot_be_asked(tmp_path):
    clips = published_lists.air_foundation(tmp_path).parent
    rows = [published_lists.FOUNDATION[3], published_lists.FOUNDATION[5] | {"uniq_id": 3}]
    items, left_out = air_bench.read_foundation(published_lists.write(clips / "two.json", rows))
    assert not items
    assert [one.row for one in left_out] == [1, 2]


@pytest.mark.parametrize("fields", [{}, {"choice_c": None}, {"choice_c": ""}])
def test_a_choice_that_is_absent_null_or_empty_is_none(tmp_path, fields):
    clips = published_lists.air_foundation(tmp_path).parent
    row = published_lists.FOUNDATION[0] | fields
    rows = [row | {"uniq_id": 0, "choice_d": ""}, row | {"uniq_id": 1, "choice_d": None}]
    path = published_lists.write(clips / "absent.json", rows)
    for items, left_out in (air_bench.read_foundation(path), mmsu.read(mmsu_rows(clips, rows))):
        assert not left_out
        assert [item.choices for item in items] == [("man", "woman")] * 2
        for item in items:
            assert item.annotation["question"].endswith("C. None\nD. None")


def mmsu_rows(clips, rows):
    where = {"audio_path": "Speaker_Gender_Recognition_meld/a.wav"}
    rows = [row | where | {"id": str(row["uniq_id"])} for row in rows]
    return published_lists.write(clips / "mmsu.json", rows)


@pytest.mark.parametrize("fields", [{}, {"choice_c": ""}])
def test_a_gap_in_the_choices_is_refused(tmp_path, fields):
    clips = published_lists.air_foundation(tmp_path).parent
    row = published_lists.FOUNDATION[0] | fields | {"choice_d": "dog"}
    _, left_out = air_bench.read_foundation(published_lists.write(clips / "gap.json", [row]))
    assert left_out[0].reason.startswith("field 'choice_c': must be a text")


def test_chat_is_free_and_for_a_judge(tmp_path):
    items, left_out = air_bench.read_chat(published_lists.air_chat(tmp_path))
    assert [item.id for item in items] == ["0", "2"]
    assert [one.row for one in left_out] == [2]
    first = items[0]
    assert (first.choices, first.rule, first.limit) == ((), JUDGED, 256)
    assert first.spans == (Span(clip=0), Span(text="What might he do next?"))
    assert first.annotation == {
        "question": "What might he do next?",
        "text": "He might have breakfast.",
        "description": "A man says good morning. 一个男人",
        "source": "fisher",
        "category": "speech_dialogue_QA",
        "sub_category": "speech_dialogue_QA_fisher",
        "group": "speech",
    }
