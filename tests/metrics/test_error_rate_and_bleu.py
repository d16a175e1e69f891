"""wer, bleu and caption against jiwer and sacrebleu called directly."""

import collections

import jiwer
import pytest
import sacrebleu

from qwen_audio_jax.metrics import Answer, counts, score, score_by_part
from qwen_audio_jax.metrics.error_rate import word_error_rate
from qwen_audio_jax.metrics.scales import scale_of
from qwen_audio_jax.metrics.text import base_language, scoring_units, without_tags


def asr(text, hypothesis, language="en"):
    return Answer({"text": text, "language": language}, hypothesis)


def test_tags_spaces_and_punctuation_follow_the_original_script():
    assert without_tags("<|en|> hello ,  world<|0.54|> !\n") == "hello, world!"
    assert without_tags("a < b |> c") == "a < b |> c"
    assert without_tags("") == ""


@pytest.mark.parametrize("code", ["zh", "zh-CN", "zh_tr", "ZH"])
def test_regional_codes_count_as_their_language(code):
    assert base_language(code) == "zh"
    assert scoring_units("<|zh|>你 好", code) == ["你", "好"]


def test_wer_equals_jiwer_on_clean_text():
    references = ["the cat sat", "on the mat today", "yes"]
    hypotheses = ["the cat sat down", "in the mat", ""]
    rows = score("asr", [asr(r, h) for r, h in zip(references, hypotheses, strict=True)])
    rates = {"wer": jiwer.wer(references, hypotheses), "cer": jiwer.cer(references, hypotheses)}
    assert rows == [
        {"task": "asr", "metric": name, "value": pytest.approx(rate), "baseline": 1.0, "n": 3}
        for name, rate in rates.items()
    ]


def test_cer_sums_edits_over_the_set_and_counts_spaces_where_words_have_them():
    # "a b" has three characters and one is deleted; "你 好" has two and one is replaced.
    answers = [asr("A  b", "ab"), asr("你 好", "你们", "zh")]
    assert score("asr", answers)[1]["value"] == pytest.approx(2 / 5)
    # Without spaces between words the two rates are one.
    wer, cer = score("asr", answers[1:])
    assert wer["value"] == cer["value"] == 1 / 2


def test_counts_of_single_answers_add_up_to_the_rates():
    answers = [asr("One two", "<|en|>one to"), asr("你好", "你", "zh"), asr("", "x"), asr("a", "b")]
    wer, cer = score("asr", answers)
    sums = collections.Counter()
    for answer in answers:
        sums.update(counts("asr", answer))
    assert wer["value"] == sums["word_edits"] / sums["words"] == 4 / 5
    assert cer["value"] == sums["character_edits"] / sums["characters"] == 4 / 10
    assert counts("speaker_gender", asr("male", "male")) == {"right": 1}
    assert counts("speaker_gender", asr("male", "Male")) == {"right": 0}
    assert counts("audio_captioning", asr("a", "a")) == {}


def test_languages_have_rows_of_their_own_where_there_are_several():
    answers = [asr("a b", "a"), asr("c d", "c d", "fr"), asr("e", "f", "fr"), asr("g", "g", None)]
    rows = score_by_part("asr", answers)
    assert [(row["metric"], row["value"], row["n"]) for row in rows] == [
        ("wer", 2 / 6, 4), ("wer/en", 1 / 2, 1), ("wer/fr", 1 / 3, 2),
        ("cer", 3 / 8, 4), ("cer/en", 2 / 3, 1), ("cer/fr", 1 / 4, 2),
    ]  # fmt: skip
    assert scale_of("wer/fr").name == "WER, fr"
    assert score_by_part("asr", answers[:1]) == score("asr", answers[:1])


def test_translations_are_told_apart_by_both_languages():
    answers = [
        Answer({"text": text, "language": "de", "target_language": target}, text)
        for text, target in (("a b c d", "en"), ("e f g h", "fr"))
    ]
    rows = score_by_part("speech_translation", answers)
    assert [row["metric"] for row in rows] == ["bleu", "bleu/de-en", "bleu/de-fr"]


def test_the_language_that_is_asked_for_parts_nothing():
    answers = [Answer({"text": text, "language": text}, text) for text in ("de", "en")]
    assert len(score_by_part("language_identification", answers)) == 1


def test_wer_sums_edits_over_the_set_and_mixes_words_with_characters():
    # 1 of 4 words wrong, 1 of 2 characters wrong: 2 / 6, not the mean of 1/4 and 1/2.
    answers = [
        asr("One two three four", "<|en|>one two three for"),
        asr("你好", "<|zh|>你 们", "zh"),
    ]
    assert score("asr", answers)[0]["value"] == pytest.approx(2 / 6)


def test_wer_may_exceed_one_and_counts_insertions_against_an_empty_reference():
    assert word_error_rate([("a", "b c d", "en")]) == 3.0
    assert word_error_rate([("", "b", "en"), ("a", "a", "en")]) == 1.0
    assert word_error_rate([("", "b", "en")]) is None


def test_the_empty_answer_scores_the_baseline():
    rows = score("asr", [asr("one two", ""), asr("你好", "<|zh|>", "zh")])
    assert [(row["value"], row["baseline"]) for row in rows] == [(1.0, 1.0), (1.0, 1.0)]


def translation(text, hypothesis, language):
    return Answer({"text": text, "target_language": language}, hypothesis)


@pytest.mark.parametrize(
    ("language", "tokenizer", "references", "hypotheses"),
    [
        ("de", "13a", ["Das ist ein kleiner Test, nicht wahr?"], ["Das ist ein Test, nicht wahr?"]),
        (
            "zh",
            "zh",
            ["我今天去了北京的学校。", "他说hello。"],
            ["我今天去北京的学校。", "他说hi。"],
        ),
        ("ja", "char", ["今日は学校に行きました。"], ["今日学校へ行きました。"]),
    ],
)
def test_bleu_equals_sacrebleu_of_the_language(language, tokenizer, references, hypotheses):
    answers = [translation(r, h, language) for r, h in zip(references, hypotheses, strict=True)]
    (row,) = score("speech_translation", answers)
    direct = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score
    assert row["value"] == pytest.approx(direct)
    assert 0 < row["value"] < 100
    assert (row["metric"], row["baseline"]) == ("bleu", 0.0)


def test_bleu_is_cased_and_counts_punctuation():
    """By hand: 6/7, 5/6, 4/5 and 3/4 of the n-grams, with a brevity penalty of exp(1 - 8/7)."""
    right, said = "The cat sat on the mat today.", "the cat sat on the mat today"
    (row,) = score("speech_translation", [translation(right, said, "en")])
    assert row["value"] == pytest.approx(70.14, abs=0.005)
    (row,) = score("speech_translation", [translation(right.lower()[:-1], said, "en")])
    assert row["value"] == pytest.approx(100)


def test_bleu_of_a_mixed_set_sums_statistics():
    english, chinese = ("a b c d e", "a b c d f"), ("我今天去学校", "我今天去北京")
    answers = [translation(*english, "en"), translation(*chinese, "zh")]
    spaced = [" ".join(text) for text in chinese]
    direct = sacrebleu.corpus_bleu(
        [english[1], spaced[1]], [[english[0], spaced[0]]], tokenize="none"
    ).score
    assert score("speech_translation", answers)[0]["value"] == pytest.approx(direct)


def test_captions_take_one_reference_or_several():
    two = ["A dog barks in the yard", "Some dog is barking outside the house"]
    one = "Rain falls on a tin roof"
    hypotheses = ["Some dog barks in the yard", "Rain falls on a roof"]
    answers = [Answer({"text": two}, hypotheses[0]), Answer({"text": one}, hypotheses[1])]
    (row,) = score("audio_captioning", answers)
    direct = sacrebleu.corpus_bleu(hypotheses, [[two[0], one], [two[1], None]]).score
    assert row["value"] == pytest.approx(direct)
    assert row["metric"] == "bleu"
