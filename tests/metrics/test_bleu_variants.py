"""Named variants of BLEU and what they say of themselves, against sacrebleu called directly."""

import pytest
import sacrebleu
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers import tokenizer_ja_mecab

from qwen_audio_jax.metrics.bleu import VARIANTS, _tokenizer, check, corpus_bleu, signature

TODAY = [(["The cat sat on the mat today."], "the cat sat on the mat today", "en")]


def test_case_and_punctuation_by_hand():
    assert corpus_bleu(TODAY) == pytest.approx(70.14, abs=5e-3)
    # All seven words are right, and the point is missing: exp(1 - 8/7).
    assert corpus_bleu(TODAY, "bleu_lower") == pytest.approx(86.69, abs=5e-3)
    assert corpus_bleu(TODAY, "bleu_lower_no_punctuation") == pytest.approx(100)


@pytest.mark.parametrize(
    ("language", "tokenizer", "text", "said"),
    [
        ("en", "13a", "A Dog barks, twice.", "a dog barks twice."),
        ("zh", "zh", "他说HELLO你好。", "他说hello您好。"),
        ("ja", "char", "今日はABCです。", "今日はabcだ。"),
    ],
)
@pytest.mark.parametrize("lower_case", [False, True])
def test_signature_and_value_are_sacrebleus(language, tokenizer, text, said, lower_case):
    metric = BLEU(tokenize=tokenizer, lowercase=lower_case)
    value = metric.corpus_score([said], [[text]]).score
    variant = "bleu_lower" if lower_case else "bleu"
    assert corpus_bleu([([text], said, language)], variant) == pytest.approx(value)
    assert signature([([text], said, language)], variant) == str(metric.get_signature())


def test_signature_says_what_is_unusual():
    version = sacrebleu.__version__
    usual = f"eff:no|tok:13a|smooth:exp|version:{version}"
    assert signature(TODAY) == f"nrefs:1|case:mixed|{usual}"
    assert signature(TODAY, "bleu_lower_no_punctuation").endswith(f"{usual}|punctuation:no")
    mixed = [*TODAY, (["今天去了学校", "今天"], "今天去学校", "zh-CN")]
    assert "nrefs:var|" in signature(mixed)
    assert "|tok:13a+zh|" in signature(mixed)
    assert signature([(["a b"], "a b", "en")]).endswith("|order:2")
    assert signature([]).startswith("nrefs:1|case:mixed")


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="no variant 'chrf' of BLEU; there are bleu, "):
        corpus_bleu(TODAY, "chrf")


def test_japanese_by_words_is_refused_without_mecab(monkeypatch):
    monkeypatch.setattr(tokenizer_ja_mecab, "MeCab", None)
    _tokenizer.cache_clear()
    with pytest.raises(ValueError, match=r'pip install "sacrebleu\[ja\]"'):
        check("bleu_ja_mecab", ["en", "ja-JP"])
    check("bleu_ja_mecab", ["en", "zh"])
    for variant in VARIANTS.keys() - {"bleu_ja_mecab"}:
        check(variant, ["en", "zh", "ja", None])


def test_japanese_by_words_is_sacrebleus():
    pytest.importorskip("MeCab")
    _tokenizer.cache_clear()
    text, said = "今日は学校に行きました。", "今日学校へ行きました。"
    metric = BLEU(tokenize="ja-mecab")
    value = metric.corpus_score([said], [[text]]).score
    assert corpus_bleu([([text], said, "ja")], "bleu_ja_mecab") == pytest.approx(value)
    assert signature([([text], said, "ja")], "bleu_ja_mecab") == str(metric.get_signature())
    assert value < corpus_bleu([([text], said, "ja")])
