"""Any text round-trips, and no text becomes a control token."""

import pickle

import pytest

from qwen_audio_jax.text.tokenizer import control_tokens, load_tokenizer, train_sentencepiece

TEXTS = ["the dog is big", "der Hund ist groß", "狗很大", "いぬは おおきい", "개는 크다"] * 20
NASTY = [
    "",
    " ",
    "a ",
    " a",
    "  two  ",
    "\n\t\r\n",
    "\u2581",
    "a\u2581 b\u2581\u2581",
    "é",
    "e\u0301",
    "😀",
    "\x00",
    "\u2028",
]
NASTY += [
    "<|endoftext|>",
    "<|en|>the",
    "<audio>x</audio>",
    "<0x41>",
    "<unk>",
    "ﬁ",
    "ＡＢ",
    "Ω≈ç√",
    "ไทย",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_sentencepiece(TEXTS, ["en", "be"], tmp_path_factory.mktemp("vocabulary"))


@pytest.mark.parametrize("text", [*NASTY, *TEXTS[:5]])
def test_round_trip_without_control_tokens(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    controls = {tokenizer.special(name) for name in control_tokens(["be"])}
    assert not controls & set(ids)
    assert all(0 < i < tokenizer.vocab_size for i in ids)


def test_control_tokens_have_ids_of_their_own(tokenizer):
    names = control_tokens(["be"])
    ids = [tokenizer.special(name) for name in names]
    assert len(set(ids)) == len(names) == len(set(names))
    assert tokenizer.decode(ids[:3]) == "".join(names[:3])


def test_unknown_language_falls_back_and_unknown_tag_does_not(tokenizer):
    assert tokenizer.tag("<|be|>", language=True) == tokenizer.special("<|be|>")
    assert tokenizer.tag("<|sw|>", language=True) == tokenizer.special("<|unknown|>")
    with pytest.raises(KeyError, match="no control token"):
        tokenizer.tag("<|sw|>")


def test_a_language_is_never_another_control_token(tokenizer):
    for name in ("caption", "0.00", "endoftext", "sil", "itn", "im_start", "AUDIO", "extra_0"):
        assert tokenizer.tag(f"<|{name}|>", language=True) == tokenizer.special("<|unknown|>")
    names = control_tokens(["caption", "0.00", "endoftext", "sil", "x" * 500, "en,fr", "", "be"])
    assert names == control_tokens(["be"])
    assert len(set(names)) == len(names)


def test_a_tag_that_an_older_corpus_gave_a_language_stays(tmp_path):
    """Its runs go on with the same tokens."""
    tokenizer = train_sentencepiece(TEXTS, ["be"], tmp_path)
    tokenizer.control_ids["<|en-US|>"] = tokenizer.special("<|be|>")
    assert tokenizer.tag("<|en-US|>", language=True) == tokenizer.special("<|be|>")


def test_training_and_reading_are_deterministic(tokenizer, tmp_path):
    again = train_sentencepiece(TEXTS, ["be", "en"], tmp_path)
    for text in TEXTS[:5]:
        assert again.encode(text) == tokenizer.encode(text) == load_tokenizer(tmp_path).encode(text)
        assert pickle.loads(pickle.dumps(again)).encode(text) == tokenizer.encode(text)


def test_an_id_beyond_the_vocabulary_is_no_text(tokenizer):
    the = tokenizer.encode("the")
    ids = [*the, tokenizer.vocab_size, tokenizer.end_of_text, *the]
    assert tokenizer.decode(ids) == "the\ufffd<|endoftext|>the"


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        tokenizer.encode("the \ud800 dog")


def test_no_vocabulary_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary there"):
        load_tokenizer(tmp_path)
