"""Pieces of text, joined, are the text of all ids, and no piece breaks a character."""

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.inference.text_stream import TextStream
from qwen_audio_jax.metrics.text import scoring_text
from qwen_audio_jax.text.tokenizer import train_sentencepiece
from qwen_audio_jax.text.tokenizer_qwen import JsonTokenizer, RanksTokenizer, added_token

TEXT = "Der Mann 听到 你好世界 😀👩‍👩‍👧 naïve  two\n\nlines 1.25 \ufffd ▁"


@functools.cache
def vocabularies(folder):
    """Own pieces with single bytes, and both forms of Qwen's bytes, with hardly a merge."""
    import base64

    merges = [bytes([b]) for b in range(256)] + ["你".encode(), "好".encode()[:2], b" t", b"wo"]
    ranks = "".join(f"{base64.b64encode(m).decode()} {i}\n" for i, m in enumerate(merges))
    return (
        train_sentencepiece([TEXT[:9]], ["en"], folder, pieces=8),
        RanksTokenizer(ranks.encode()),
        byte_level(),
    )


def byte_level():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    content = json.loads(made.to_str())
    names = ("<|endoftext|>", "<|im_end|>", "<|1.25|>")
    content["added_tokens"] = [added_token(256 + n, name) for n, name in enumerate(names)]
    return JsonTokenizer(json.dumps(content).encode())


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["pieces", "ranks", "json"])
def tokenizer(request, tmp_path_factory):
    return vocabularies(str(tmp_path_factory.getbasetemp() / "v"))[request.param]


def streamed(tokenizer, ids, **options):
    stream = TextStream(tokenizer, **options)
    return [*map(stream.push, ids), stream.end()]


@given(text=st.text(st.characters(codec="utf-8")) | st.text("你好😀 két\n\u200d"))
def test_of_any_text(tokenizer, text):
    ids = tokenizer.encode(text)
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(pieces)


@given(data=st.data())
def test_of_any_ids(tokenizer, data):
    """Broken bytes too; what is certain is not held back for more than an unfinished character."""
    controls = {*tokenizer.control_ids.values()}
    plain = [i for i in range(tokenizer.vocab_size) if i not in controls]
    ids = data.draw(st.lists(st.sampled_from(plain), max_size=30))
    stream, pieces = TextStream(tokenizer), []
    for n, token in enumerate(ids, start=1):
        pieces.append(stream.push(token))
        so_far = tokenizer.decode(ids[:n])
        assert so_far.startswith("".join(pieces))
        assert len(so_far) - len("".join(pieces)) <= 3
    assert "".join(pieces) + stream.end() == tokenizer.decode(ids)


def test_a_character_comes_whole(tokenizer):
    ids = tokenizer.encode("😀好")
    pieces = [piece for piece in streamed(tokenizer, ids) if piece]
    assert "".join(pieces) == "😀好"
    assert set("".join(pieces)) == {"😀", "好"}
    assert len(ids) > len(pieces)


@given(data=st.data())
def test_a_tag_parts_words_as_it_does_for_scores(tokenizer, data):
    """Whatever stands around it; the text is scored as the one with tags is."""
    letters = tokenizer.encode("ab .")
    tags = [i for name, i in tokenizer.control_ids.items() if name.startswith("<|")]
    ids = data.draw(st.lists(st.sampled_from([*letters, *tags[:3]]), max_size=30))
    text = "".join(streamed(tokenizer, ids))
    assert scoring_text(text, "en") == scoring_text(tokenizer.decode(ids), "en")
    assert "<|" not in text


def test_control_tokens_are_no_text(tokenizer):
    special = tokenizer.control_ids
    hello, end, time = tokenizer.encode("wo"), special["<|im_end|>"], special["<|1.25|>"]
    ids = [*hello, time, *hello, end, tokenizer.vocab_size + 3, *tokenizer.encode("😀")[:1]]
    assert "".join(streamed(tokenizer, ids)) == "wo wo \ufffd\ufffd"
    assert "".join(streamed(tokenizer, ids, tags=True)) == "wo<|1.25|>wo\ufffd\ufffd"
    begun = TextStream(tokenizer)
    begun.push(tokenizer.encode("😀")[0])
    assert begun.end() == "\ufffd"
    assert begun.end() == ""
    assert begun.push(hello[0]) + begun.end() == tokenizer.decode(hello[:1])
