"""Units and counts of each protocol: hand cases, and jiwer called directly."""

import sys
import types

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics.error_rate import word_edits
from qwen_audio_jax.metrics.protocols import PROTOCOLS, EditCounts, check, error_rate

V1, V2, PLAIN = PROTOCOLS["v1"], PROTOCOLS["v2"], PROTOCOLS["plain"]
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)

words = st.lists(st.sampled_from("abcde"), max_size=12).map(" ".join)
texts = st.text(max_size=40) | st.text("0123456789.%$年月日元二个/+-aB' ,，", max_size=20)


def rate(protocol, *pairs, language="en"):
    return error_rate(protocol.edit_counts(*pair, language) for pair in pairs)


@given(words, words)
def test_counts_are_jiwers(reference, hypothesis):
    counts = V1.edit_counts(reference, hypothesis, "en")
    out = jiwer.process_words(reference, hypothesis)
    assert counts == (out.hits, out.substitutions, out.deletions, out.insertions)
    assert counts.reference_length == len(reference.split())


@given(texts, texts, st.sampled_from(["en", "zh", "fr", "ja", None]))
def test_v1_is_what_the_metric_wer_counts(reference, hypothesis, language):
    counts = V1.edit_counts(reference, hypothesis, language)
    assert (counts.edits, counts.reference_length) == word_edits(
        [(reference, hypothesis, language)]
    )


@every_protocol
@given(texts, st.sampled_from(["en", "zh", "fr", "ja", "hi", None]))
def test_any_text_has_units_and_none_is_blank(protocol, text, language):
    assert all(unit and not any(map(str.isspace, unit)) for unit in protocol.units(text, language))


@every_protocol
def test_the_rate_is_of_sums_and_no_mean_of_rates(protocol):
    right = "a b c d e f g h i"
    assert rate(protocol, ("x", "y"), (right, right)) == 1 / 10


@every_protocol
def test_an_empty_reference_counts_its_insertions(protocol):
    assert protocol.edit_counts("", "", "en") == EditCounts(0, 0, 0, 0)
    assert protocol.edit_counts("", "a b", "en") == EditCounts(0, 0, 0, 2)
    assert rate(protocol, ("", "a b")) is None


def test_a_reference_that_the_normaliser_empties_stays_in_the_set():
    assert rate(V2, ("mm mm", "yes"), ("a b c d", "a b c d")) == 1 / 4


@every_protocol
def test_a_preamble_is_counted_as_errors(protocol):
    answer = "the original content of this audio is a b c d"
    assert rate(protocol, ("a b c d", answer)) == 7 / 4


@every_protocol
def test_a_loop_is_not_capped(protocol):
    text = "he said the same words over and over till it ended"
    assert len(text.split()) == 11
    percent = 100 * rate(protocol, (text, f"{text} {'again ' * 268}"))
    assert percent == pytest.approx(2436.36, abs=0.005)


@every_protocol
def test_a_seam_costs_what_is_wrong_at_it(protocol):
    reference = "kept me honest"
    assert rate(protocol, (reference, "kept me honest")) == 0
    assert rate(protocol, (reference, "kept mehonest")) == pytest.approx(2 / 3)
    assert rate(protocol, (reference, "kept me me honest")) == pytest.approx(1 / 3)


def test_code_switched_chinese_counts_letters():
    counts = V2.edit_counts("他说hello world", "他说hello word", "zh")
    assert (counts.edits, counts.reference_length) == (1, 12)


def test_regional_codes_are_normalised_as_their_language():
    assert V2.units("I can't, colour", "en-GB") == ["i", "can", "not", "color"]
    assert V2.units("3个", "zh-CN") == ["三", "个"]


@pytest.mark.parametrize("protocol", [V2, PLAIN], ids=["v2", "plain"])
def test_japanese_and_thai_are_counted_by_character(protocol):
    assert protocol.units("今日は、 晴れ。", "ja") == list("今日は晴れ")
    assert protocol.units("กา มา", "th") == list("กามา")


def test_plain_keeps_marks_that_v2_takes_for_symbols():
    assert PLAIN.units("नमस्ते, दुनिया!", "hi") == ["नमस्ते", "दुनिया"]
    assert V2.units("नमस्ते दुनिया", "hi") == ["नमस", "त", "द", "न", "य"]
    assert "".join(PLAIN.units("สวัสดีครับ ที่นี่", "th")) == "สวัสดีครับที่นี่"


def test_plain_takes_punctuation_and_symbols_for_spaces():
    assert PLAIN.units("<|en|> L'été — Ｗｉｄｅ, 3.5 €!", "fr") == ["l", "été", "wide", "3", "5"]
    # The accent that stands for an apostrophe is a space and a mark in NFKC.
    assert PLAIN.units("don´t", "en") == ["don", "t"]


@given(texts, st.sampled_from(["en", "zh"]))
def test_plain_leaves_what_it_made_as_it_is(text, language):
    units = PLAIN.units(text, language)
    assert PLAIN.units(" ".join(units), language) == units


def test_every_protocol_signs_its_rates():
    assert [name for name, protocol in PROTOCOLS.items() if protocol.name != name] == []
    signatures = [protocol.signature for protocol in PROTOCOLS.values()]
    assert all(s.startswith(f"wer:{name}|") for s, name in zip(signatures, PROTOCOLS, strict=True))
    assert "|en:openai-whisper-c0d2f62+basic|" in V2.signature
    assert "|whisper-normalizer-0.1.0|" in V2.signature
    assert all("|rapidfuzz-" in signature for signature in signatures)


@pytest.mark.parametrize(
    ("protocol", "languages", "told"),
    [
        ("v3", ["en"], "there is no protocol 'v3'; write one of v1, v2, plain"),
        ("v2", ["en", None], "a record has no language; fill in its field language"),
        ("v2", ["unknown"], "a record has no language"),
        ("plain", ["English"], "field language: 'English' is 'en' in short; write that"),
        ("v1", ["zh-yue"], "'zh-yue' is 'yue' in short"),
        ("v1", ["xx"], "field language: 'xx' names no language of ISO 639"),
    ],
)
def test_what_cannot_be_scored_is_refused_before(protocol, languages, told):
    with pytest.raises(ValueError, match=told):
        check(protocol, languages)


def test_what_can_be_scored_passes():
    for name in PROTOCOLS:
        check(name, ["en", "EN-us", "zh_tr", "zh-CN", "hi", "ja"])
    check("v1", [None, "yue"])
    check("plain", [None, "unknown", "yue"])


def test_cantonese_without_zhconv_is_refused_with_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "zhconv", None)
    for attempt in (lambda: check("v2", ["en", "yue"]), lambda: V2.units("點", "yue")):
        with pytest.raises(ValueError, match=r"pip install zhconv .* GPL"):
            attempt()
    check("v2", ["en", "zh"])


def test_cantonese_is_made_simplified_and_keeps_its_digits(monkeypatch):
    def convert(text, locale):
        assert locale == "zh-cn"
        return text.replace("點", "点")

    monkeypatch.setitem(sys.modules, "zhconv", types.SimpleNamespace(convert=convert))
    check("v2", ["yue"])
    assert V2.units("5 點，Hello", "yue") == list("5点hello")
