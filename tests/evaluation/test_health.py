"""Signs of ill answers: what has them, and what only looks so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.evaluation.health import (
    SIGNS,
    Given,
    Share,
    commonest_answer,
    health,
    signs,
)
from qwen_audio_jax.evaluation.loops import is_looping
from qwen_audio_jax.evaluation.scripts import is_wrong_script


def has_preamble(text, reference=""):
    return "preamble" in signs(Given(text, reference))


REFERENCE = "the quick brown fox jumps over the lazy dog near me"


@pytest.mark.parametrize(
    "text",
    [
        f"{REFERENCE} {'over and over again ' * 67}",
        "no " * 40,
        "thank you. " * 15,
        # Cut off within a word.
        "a long way " * 12 + "a lo",
        "the sound of rain on a tin roof and of a distant train that passes by " * 4,
        "谢谢大家" * 12,
        "はい" * 20,
        "ครับ" * 20,
        "!" * 64,
        "h" + "a" * 200,
        "<|sil|><|0.50|>" * 20,
    ],
)
def test_loops(text):
    assert is_looping(text)


def test_268_words_that_repeat_and_an_answer_of_as_many_that_do_not():
    extra = (["and", "then", "she", "said"] * 67)[:268]
    assert is_looping(f"{REFERENCE} {' '.join(extra)}")
    assert not is_looping(f"{REFERENCE} {' '.join(f'word{n}' for n in range(268))}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no no no no no",
        "ha ha ha ha ha ha ha ha",
        "very very very very good",
        "We will, we will rock you! " * 3,
        "Row, row, row your boat, gently down the stream. " * 2,
        "merrily merrily merrily merrily life is but a dream",
        "哈哈哈哈哈哈哈哈",
        "la la la la " * 4,
        # A sentence said twice, however long it is.
        " ".join(f"word{n}" for n in range(100)) * 2,
        # What goes on after a refrain is no loop.
        "la " * 40 + "and then the song goes on with other words for a while",
        # The label of a late time.
        "<|30.00|>" * 20 + "<|4.20|>bell<|5.00|>",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20",
        "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
    ],
)
def test_what_is_no_loop(text):
    assert not is_looping(text)


@pytest.mark.parametrize("period", [1, 2, 7, 15, 40])
def test_a_loop_begins_at_30_repeated_words_said_three_times(period):
    words = [f"w{n}" for n in range(period)] * 100
    least = max(30, 2 * period) + period
    assert is_looping(" ".join(words[:least]))
    # One less, and before that a word of its own.
    assert not is_looping(" ".join(["other", *words[: least - 1]]))


@pytest.mark.parametrize(
    "text",
    [
        "the original content of this audio is a b c d",
        "The original content of this audio is: 'a b c d'",
        '"The original content of this audio is a b"',
        "The original content of this audio is你好",
        "This audio says a b c d",
        "The audio clip says: hello",
        "The speaker says: 'hello there'",
        "The man said, “I will come.”",
        "In this audio, a woman says 'hello'",
        "Sure, here is the transcription: hello",
        "Here's the translation of it",
        "Transcript: hello",
        "这段音频的原始内容是：“你好”",
        "这段音频的原始内容是你好",
        "这段录音的内容为：你好",
        "该音频中说：你好",
        "这段语音说的是你好",
        "音频内容是：你好",
    ],
)
def test_preambles(text):
    assert has_preamble(text)
    assert not has_preamble(text, reference=text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "we lost the original content of this audio is what he told me",
        "I heard that this audio says nothing",
        "this audio essay is long",
        "the man said that he was tired",
        "the speaker says he will resign",
        "this audio contains rain and thunder",
        "the translation was poor",
        "here is the book",
        "我们讨论这段音频的原始内容是什么",
        "录音的内容是保密的",
        "这段音频很好听",
    ],
)
def test_what_merely_has_the_words_is_no_preamble(text):
    assert not has_preamble(text)


CHINESE, RUSSIAN = "今天天气很好", "сегодня хорошая погода"


@pytest.mark.parametrize(
    ("text", "reference", "language", "wrong"),
    [
        ("the weather is fine", CHINESE, "zh", True),
        ("the weather is fine", CHINESE, "yue", True),
        ("the weather is fine", "今日はいい天気です", "ja", True),
        ("the weather is fine", "오늘 날씨가 좋다", "ko", True),
        ("the weather is fine", "วันนี้อากาศดี", "th", True),
        ("the weather is fine", RUSSIAN, "ru", True),
        ("the weather is fine", "الطقس جميل اليوم", "ar", True),
        ("the weather is fine", "आज मौसम अच्छा है", "hi", True),
        ("the weather is fine", CHINESE, "zh-TW", True),
        (CHINESE, "the weather is fine", "en", True),
        (RUSSIAN, "das Wetter ist gut", "de", True),
        (RUSSIAN, CHINESE, "zh", True),
        ("ｔｈｅ ｗｅａｔｈｅｒ", CHINESE, "zh", True),
        # Right, or at least in part.
        (CHINESE, CHINESE, "zh", False),
        ("他说hello world", "他说 hello", "zh", False),
        ("天気", "今日はいい天気です", "ja", False),
        # Of one script: never a guess.
        ("das Wetter ist gut", "the weather is fine", "en", False),
        ("погода", "времето", "bg", False),
        # Without letters, or with a reference that has none of its own.
        ("12:30!", CHINESE, "zh", False),
        ("", CHINESE, "zh", False),
        ("<|en|>", CHINESE, "zh", False),
        ("OK", "OK", "zh", False),
        # More than one script, no language, and none that is known.
        ("dobar dan", "добар дан", "sr", False),
        ("the weather", CHINESE, "", False),
        ("the weather", CHINESE, "unknown", False),
    ],
)
def test_wrong_languages(text, reference, language, wrong):
    assert is_wrong_script(text, reference, language) is wrong


def test_an_answer_may_have_several_signs():
    assert signs(Given("  <|en|> ", "a", "en")) == ["empty"]
    said = "This audio says " + "no " * 40
    assert signs(Given(said, CHINESE, "zh", truncated=True)) == [
        "truncated",
        "looping",
        "preamble",
        "wrong_language",
    ]
    assert signs(Given("a b c d", "a b c d", "en")) == []


def test_shares_have_their_counts():
    answers = [
        Given("", "hello", "en"),
        Given("hello", CHINESE, "zh", truncated=True),
        Given(CHINESE, CHINESE, "zh"),
        Given("no " * 40, "no", ""),
    ]
    assert health(answers) == {
        "empty": Share(1, 4),
        "truncated": Share(1, 4),
        "looping": Share(1, 4),
        "preamble": Share(0, 4),
        # Of the last it cannot be told.
        "wrong_language": Share(1, 3),
    }
    assert health(answers)["empty"].value == 0.25
    assert {share.value for share in health([]).values()} == {None}


def clips(answers, references=None):
    references = references or [f"r{n}" for n in range(len(answers))]
    return [Given(a, r, audio=n) for n, (a, r) in enumerate(zip(answers, references, strict=True))]


def test_one_answer_for_all_clips_is_suspicious():
    found = commonest_answer(clips(["A dog barks."] * 20 + ["a  dog barks."] * 10 + ["rain"] * 10))
    assert found.text == "A dog barks."
    assert (found.answers, found.references) == (Share(30, 40), Share(1, 40))
    assert found.is_suspicious


def test_one_answer_is_not_suspicious_where_references_are_alike_or_clips_few():
    assert not commonest_answer(clips(["yes"] * 40, ["yes"] * 31 + ["no"] * 9)).is_suspicious
    assert commonest_answer(clips(["yes"] * 40, ["yes"] * 30 + ["no"] * 10)).is_suspicious
    assert not commonest_answer(clips(["yes"] * 9)).is_suspicious
    assert not commonest_answer(clips([f"a{n}" for n in range(40)])).is_suspicious


def test_many_answers_to_one_clip_are_one_clip():
    same = [Given("yes", audio="one clip")] * 100
    assert commonest_answer(same).answers == Share(1, 1)
    assert commonest_answer([Given("yes")] * 100) is None


ANY = st.builds(
    Given,
    text=st.text() | st.text("ab <|>.好は").map(lambda text: text * 40),
    reference=st.text(),
    language=st.sampled_from(["", "en", "zh", "zh_tr", "sr", "x", "unknown"]) | st.text(),
    truncated=st.booleans(),
    audio=st.none() | st.integers(0, 3),
)


@given(st.lists(ANY, max_size=5))
def test_any_texts_have_shares(answers):
    found = health(answers)
    assert tuple(found) == SIGNS
    assert all(0 <= share.count <= share.of <= len(answers) for share in found.values())
    commonest = commonest_answer(answers)
    if commonest:
        assert 1 <= commonest.answers.count <= commonest.answers.of


@given(st.text(), st.integers(0, 200))
def test_words_that_all_differ_never_loop(text, number):
    assert not is_looping(" ".join(f"{n}x" for n in range(number)))
    assert not has_preamble(text, reference=text)
    assert not is_wrong_script(text, text, "zh")
