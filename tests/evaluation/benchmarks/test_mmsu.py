"""MMSU's list, read as its own script reads it."""

import published_lists

from qwen_audio_jax.evaluation.benchmarks import mmsu

# As mmsu_inference.py puts it.
PROMPT = """\
Choose the most suitable answer from options A, B, C, and D to respond the question in next line, \
**you should only choose A or B or C or D.** Do not provide any additional explanations or content.

Question: Which word is stressed?

A. I
B. never
C. {c}
D. {d}"""


def test_it_asks_in_the_makers_words(tmp_path):
    items, left_out = mmsu.read(published_lists.mmsu(tmp_path))  # has a byte order mark
    assert not left_out
    assert [item.id for item in items] == ["intonation_0", "intonation_1"]
    assert items[0].spans[1].text == PROMPT.format(c="said", d="it")
    assert items[1].spans[1].text == PROMPT.format(c="None", d="None")
    assert [item.choices for item in items] == [("I", "never", "said", "it"), ("I", "never")]
    assert {item.rule for item in items} == {"mmsu_official"}
    assert items[0].clips() == ((tmp_path / "audio" / "0.wav").read_bytes(),)
    assert items[1].annotation == {
        "question": PROMPT.format(c="None", d="None"),
        "text": "never",
        "category": "Perception",
        "sub_category": "Linguistics",
        "task_name": "intonation_perception",
    }


def test_the_clip_may_be_called_audio(tmp_path):
    published_lists.mmsu(tmp_path)
    row = dict(published_lists.MMSU[0])
    row["audio"] = row.pop("audio_path")
    items, _ = mmsu.read(published_lists.write(tmp_path / "table.jsonl", [row]))
    assert items[0].clips() == ((tmp_path / "audio" / "0.wav").read_bytes(),)
