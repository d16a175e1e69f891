"""Answers of conversations: right or wrong as they stand, and how many words they share."""

import pytest

from qwen_audio_jax.metrics import Answer, counts, part_of, score, score_by_part
from qwen_audio_jax.metrics.conversation import words_of


def answer(reference, said, kind=None, **of_record):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": reference}]
    kind = {} if kind is None else {"kind": kind}
    return Answer({"messages": messages} | kind | of_record, said)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A bell.", "a  bell", True),
        ("Don\u2019t stop!", "dont stop", True),
        ("twenty-five", "twenty five", True),
        ("3.5", "35", False),
        ("5 \u00b0C", "5 C", False),
        ("\u4f60\u597d\uff0c\u4e16\u754c", "\u4f60\u597d\u4e16\u754c\u3002", True),
        # Vowel signs are no letters, and part words all the same.
        ("\u0915\u093f", "\u0915\u0940", False),
        ("e\u0301t\u00e9", "\u00e9te\u0301", True),
        ("!", "?", False),
        ("!", "", False),
        ("yes", "<|en|>yes", False),
    ],
)
def test_case_punctuation_and_spaces_do_not_count(one, other, same):
    assert (words_of(one) == words_of(other)) is same
    (row, _) = score("chat", [answer(one, other)])
    assert row["value"] == float(same)
    assert counts("chat", answer(one, other)) == {"right": int(same)}


def test_words_of_scripts_without_spaces_are_letters():
    assert words_of("\u4f60\u597d ok") == ["\u4f60", "\u597d", "ok"]
    assert words_of("\uc548\ub155 \uc138\uacc4") == ["\uc548\ub155", "\uc138\uacc4"]


TALKS = [
    answer("yes", "Yes.", "voice_chat"),
    answer("yes", "no", "voice_chat"),
    answer("no", "no", "voice_chat"),
    answer("a red dog", "a dog", "audio_analysis"),
    answer("a cat", "a cat", "audio_analysis"),
]


def test_the_baseline_is_the_commonest_answer_of_each_kind():
    rows = {row["metric"]: row for row in score_by_part("chat", TALKS)}
    assert list(rows) == [
        f"{metric}{part}"
        for metric in ("accuracy", "token_f1")
        for part in ("", "/audio_analysis", "/voice_chat")
    ]
    value = {name: (row["value"], row["baseline"], row["n"]) for name, row in rows.items()}
    assert value["accuracy"] == (3 / 5, 3 / 5, 5)  # "yes" twice, and one of the other two
    assert value["accuracy/voice_chat"] == (2 / 3, 2 / 3, 3)
    assert value["accuracy/audio_analysis"] == (1 / 2, 1 / 2, 2)
    # "a red dog", "a dog": 2 words of 3 and of 2. "a red dog" for "a cat": 1 of 3 and of 2.
    value_of, baseline, _ = value["token_f1/audio_analysis"]
    assert value_of == pytest.approx((4 / 5 + 1) / 2)
    assert baseline == pytest.approx((1 + 2 / 5) / 2)


def test_the_reference_is_the_last_message_be_it_in_parts():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]
    assert score("chat", [answer(parts, "a cat")])[0]["value"] == 1.0


def test_a_kind_parts_conversations_and_a_language_does_not():
    assert part_of("chat", {"kind": "voice_chat", "language": "en"}) == "voice_chat"
    assert part_of("chat", {"language": "en"}) == ""
    assert part_of("asr", {"kind": "voice_chat", "language": "en"}) == "en"


def test_parts_may_be_given():
    rows = score_by_part("chat", TALKS[:2], ["one", "two"])
    assert [row["metric"] for row in rows[:3]] == ["accuracy", "accuracy/one", "accuracy/two"]
    assert [row["value"] for row in rows[:3]] == [0.5, 1.0, 0.0]
