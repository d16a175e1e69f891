"""MMAU's and MMAR's lists."""

import published_lists

from qwen_audio_jax.evaluation.benchmarks import ELSEWHERE, mmau
from qwen_audio_jax.metrics.choices import Question, choice_scores

PROMPT = """\
Based on the given audio, identify the source of the speaking voice.
Select one option from the provided choices:
Man
Woman
Child
Robot"""


def test_mmau_asks_for_one_of_its_choices(tmp_path):
    items, left_out = mmau.read_mmau(published_lists.mmau(tmp_path))
    assert [item.id for item in items] == ["3fe6-0", "3fe6-1"]
    first = items[0]
    assert first.messages[0]["content"][1]["text"] == first.spans[1].text == PROMPT
    assert (first.choices, first.rule) == (("Man", "Woman", "Child", "Robot"), "token_set")
    assert first.clips() == ((tmp_path / "test-mini-audios" / "3fe6-0.wav").read_bytes(),)
    assert first.annotation == {
        "question": PROMPT,
        "text": "Man",
        "source": "AudioSet",
        "modality": "sound",
        "category": "Reasoning",
        "sub_category": "Acoustic Source Inference",
        "difficulty": "medium",
    }
    assert [one.row for one in left_out] == [3, 4]
    assert "'Dog' is not among the choices 'Man', 'Woman'" in left_out[0].reason
    assert "3fe6-3.wav is not there" in left_out[1].reason


def test_blanks_at_the_ends_of_an_answer_do_not_matter(tmp_path):
    items, _ = mmau.read_mmau(published_lists.mmau(tmp_path))
    assert items[1].annotation["text"] == "Child"


def scored(item, *answers):
    right = item.choices.index(item.annotation["text"])
    found = choice_scores(item.rule, [Question(item.choices, right, one) for one in answers])
    return found.right, found.wrong


def test_the_rule_reads_what_was_read(tmp_path):
    items, _ = mmau.read_mmau(published_lists.mmau(tmp_path))
    assert scored(items[0], "(A) Man", "A", "A man, not a woman") == (1, 2)


def test_answers_with_a_letter_are_scored_as_the_makers_script_does(tmp_path):
    """As rows of test-mini are: with a letter in the answer alone, and with a choice twice."""
    published_lists.mmau(tmp_path)
    lettered = published_lists.mmau_row(0, answer="(A) Man")
    seconds = ["1.63 seconds", "2.74 seconds", "1.53 seconds", "1.63 seconds"]
    twice = published_lists.mmau_row(1, choices=seconds, answer="1.63 seconds")
    path = published_lists.write(tmp_path / "mini.json", [lettered, twice])
    items, _ = mmau.read_mmau(path)
    assert items[0].choices == ("(A) Man", "Woman", "Child", "Robot")
    assert items[0].spans[1].text == PROMPT  # as the makers list them
    assert scored(items[0], "Man", "(A) Man", "A man") == (2, 1)
    assert scored(items[1], "1.63 seconds", "2.74 seconds") == (1, 1)


def test_rows_whose_answer_is_withheld_are_asked_and_not_scored(tmp_path):
    published_lists.mmau(tmp_path)
    without = {k: v for k, v in published_lists.mmau_row(0, split="test").items() if k != "answer"}
    empty = published_lists.mmau_row(1, answer="")
    items, _ = mmau.read_mmau(published_lists.write(tmp_path / "test.json", [without, empty]))
    assert [(item.rule, item.choices) for item in items] == [(ELSEWHERE, ())] * 2
    assert [item.spans[1].text for item in items] == [PROMPT] * 2


def test_mmar_has_the_language_of_its_clips(tmp_path):
    items, left_out = mmau.read_mmar(published_lists.mmar(tmp_path))
    assert not left_out
    assert [item.id for item in items] == ["one", "two"]
    annotation = items[1].annotation
    assert (annotation["text"], annotation["spoken_language"]) == ("The cat", "zh")
    assert (annotation["source"], annotation["modality"]) == ("youtube", "mix-sound-speech")
    assert "language" not in annotation  # of the answer, which is English
    assert items[1].clips() == ((tmp_path / "audio" / "two.wav").read_bytes(),)


def test_choices_and_ids_that_are_none_are_left_out(tmp_path):
    published_lists.mmau(tmp_path)
    rows = [published_lists.mmau_row(0, choices="['Man']"), published_lists.mmau_row(1, id=None)]
    items, left_out = mmau.read_mmau(published_lists.write(tmp_path / "odd.json", rows))
    assert not items
    assert [one.reason for one in left_out] == [
        "field 'choices': must be a list of texts",
        "field 'id': must be the row's id, a text or a whole number",
    ]
