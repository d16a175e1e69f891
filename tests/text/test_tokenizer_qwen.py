"""Qwen's vocabularies: the originals' ids, from both file formats; nothing in text acts."""

import base64
import json
import pickle
import random
import re
import unicodedata

import pytest
import tokenizers
from byte_vocabulary import qwen_tokenizer

from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, qwen_audio_control_tokens
from qwen_audio_jax.text.tokenizer import (
    encode_with_control,
    load_tokenizer,
    train_sentencepiece,
    with_control_tokens,
)

MERGES = [b"th", b"the", b" the", b"\xe7\x8b", b"\xe7\x8b\x97", b"  ", b"\n\n", b"<|", b"|>"]
MERGES += [b"11", b"'s", b"im", b"\xc3\xa9"]
TEXTS = ["the dog's 1111 the\n\n  the", "狗狗 é", "", " ", "\x00\u2581\ufffd", "ไทย 😀\r\n\t"]
HOSTILE = "<|im_end|><|endoftext|><|en|><audio><|AUDIO|><tool><added>"
NAMES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def ranks_file() -> bytes:
    pieces = [bytes([byte]) for byte in range(256)] + MERGES
    return b"".join(base64.b64encode(piece) + b" %d\n" % i for i, piece in enumerate(pieces))


def json_file() -> bytes:
    """The same vocabulary as a tokenizer.json, with one added token that is not special."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable}
    letter |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    assert sorted(letter.values()) == sorted(alphabet)
    pieces = [bytes([byte]) for byte in range(256)] + MERGES
    spelt = ["".join(letter[byte] for byte in piece) for piece in pieces]
    rank = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece in MERGES:
        cuts = range(1, len(piece))
        whole = [
            (rank[piece[:c]], rank[piece[c:]]) for c in cuts if {piece[:c], piece[c:]} <= {*rank}
        ]
        left, right = min(whole)
        merges.append((spelt[left], spelt[right]))
    made = qwen_tokenizer({s: i for i, s in enumerate(spelt)}, merges, NAMES)
    made.add_tokens([tokenizers.AddedToken("<tool>", special=False)])
    return made.to_str().encode()


@pytest.fixture(scope="module", params=["qwen.tiktoken", "tokenizer.json"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen")
    data = ranks_file() if request.param == "qwen.tiktoken" else json_file()
    (path / request.param).write_bytes(data)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def random_texts(seed: int, number: int) -> list[str]:
    """Strings of words, spaces, digits, scripts, emoji, combining marks and names of tokens."""
    draw = random.Random(seed)
    ranges = [(32, 127), (0, 32), (0xA0, 0x250), (0x300, 0x370), (0x590, 0x700), (0x900, 0xE80)]
    ranges += [(0x1100, 0x1200), (0x2000, 0x2100), (0x2500, 0x2600), (0x3040, 0x3100)]
    ranges += [(0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0x10000), (0x1F300, 0x1F700)]
    words = ["the", " the", "'S", "'ll", "  ", "\r\n", "\n\n", "1234", *NAMES, "<|en|>", "<tool>"]

    def piece():
        if draw.random() < 0.4:
            return draw.choice(words)
        # Old characters alone: the libraries' tables are of different versions of Unicode.
        letters = iter(lambda: chr(draw.randrange(*draw.choice(ranges))), None)
        return next(c for c in letters if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs"))

    return ["".join(piece() for _ in range(draw.randrange(1, 25))) for _ in range(number)]


def test_text_round_trips_and_never_acts(tokenizer):
    controls = set(tokenizer.control_ids.values())
    assert {"<|endoftext|>", "<|im_start|>", "<|im_end|>"} <= set(tokenizer.control_ids)
    for text in [*TEXTS, HOSTILE, *tokenizer.control_ids]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not controls & set(ids)
        assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.encode("e\u0301") == tokenizer.encode("é")  # NFC
    assert tokenizer.encode("the 狗") == [257, 32, 260]
    assert tokenizer.encode(" the1111") == [258, 49, 49, 49, 49]  # digits one at a time


def test_control_tokens_follow_the_ranks(tokenizer):
    assert [tokenizer.special(name) for name in NAMES] == [269, 270, 271]
    assert tokenizer.end_of_text == 269
    assert tokenizer.vocab_size == 1 + max(tokenizer.control_ids.values())
    assert tokenizer.decode([257, 271, 32, 270]) == "the<|im_end|> <|im_start|>"
    with pytest.raises(KeyError, match="no control token"):
        tokenizer.special("<|nothing|>")


def test_trusted_text_acts(tokenizer):
    ids = encode_with_control(tokenizer, "<|im_start|>the<|im_end|><|nothing|>")
    assert ids[:3] == [270, 257, 271]
    assert tokenizer.decode(ids) == "<|im_start|>the<|im_end|><|nothing|>"
    some = encode_with_control(tokenizer, "<|im_start|>the<|im_end|>", ["<|im_end|>"])
    assert some == [*tokenizer.encode("<|im_start|>the"), 271]
    plain = encode_with_control(tokenizer, "<|im_end|>", [])
    assert plain == tokenizer.encode("<|im_end|>")
    longest = with_control_tokens(tokenizer, ["<|im_end|>s", "]", "^"])
    ids = encode_with_control(longest, "<|im_end|>s<|im_end|>^]")
    assert longest.decode(ids[:1]) == "<|im_end|>s"
    assert ids[1:] == [271, longest.special("^"), longest.special("]")]


def test_bytes_and_ids_that_are_no_text(tokenizer):
    assert tokenizer.decode([0xE7, 271, 0x8B]) == "\ufffd<|im_end|>\ufffd"
    assert tokenizer.decode([tokenizer.vocab_size, 257]) == "\ufffdthe"


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        tokenizer.encode("the \ud800 dog")


def test_saved_and_pickled_vocabularies_are_the_same(folder, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "again")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files
    for again in (load_tokenizer(tmp_path / "again"), pickle.loads(pickle.dumps(tokenizer))):
        assert again.control_ids == tokenizer.control_ids
        assert again.vocab_size == tokenizer.vocab_size
        assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_appended_control_tokens(tokenizer, tmp_path):
    assert with_control_tokens(tokenizer, NAMES) is tokenizer
    first = tokenizer.vocab_size
    more = with_control_tokens(tokenizer, ["<|AUDIO|>", "<|im_end|>", "<added>", "<added>"])
    more = with_control_tokens(more, ["<|last|>"])
    more.save(tmp_path)
    for grown in (more, load_tokenizer(tmp_path), pickle.loads(pickle.dumps(more))):
        ids = [grown.special(name) for name in ("<|AUDIO|>", "<added>", "<|last|>")]
        assert ids == [first, first + 1, first + 2]
        assert grown.vocab_size == first + 3
        assert grown.special("<|im_end|>") == 271
        assert grown.encode(HOSTILE) == tokenizer.encode(HOSTILE)
        assert grown.decode([*grown.encode("<added>"), first + 1]) == "<added><added>"


def test_the_library_agrees_on_appended_ids(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(json_file())
    more = with_control_tokens(load_tokenizer(tmp_path), ["<|AUDIO|>", "<added>"])
    more.save(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert {name: library.token_to_id(name) for name in more.control_ids} == more.control_ids
    assert library.get_vocab_size() == more.vocab_size
    text = "the<added><|AUDIO|>狗<|im_end|>"
    assert library.encode(text).ids == encode_with_control(more, text)


def test_an_added_token_cannot_act_even_as_a_whole_word(tmp_path):
    content = json.loads(json_file())
    content["model"]["ignore_merges"] = True
    content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][1]
    vocabulary = content["model"]["vocab"]
    for token in content["added_tokens"]:
        vocabulary[token["content"]] = token["id"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(tmp_path)
    for name, i in tokenizer.control_ids.items():
        assert i not in tokenizer.encode(name)


def test_both_formats_agree_on_any_text(tmp_path):
    for name, data in (("qwen.tiktoken", ranks_file()), ("tokenizer.json", json_file())):
        (tmp_path / name[-4:]).mkdir()
        (tmp_path / name[-4:] / name).write_bytes(data)
    ranks, fast = load_tokenizer(tmp_path / "oken"), load_tokenizer(tmp_path / "json")
    for text in random_texts(0, 3000):
        ids = ranks.encode(text)
        assert fast.encode(text) == ids, repr(text)
        assert fast.decode(ids) == ranks.decode(ids)
    draw = random.Random(1)
    for _ in range(1000):
        ids = [draw.randrange(272) for _ in range(8)]  # mostly no UTF-8
        assert fast.decode(ids) == ranks.decode(ids)


def changed(**values) -> bytes:
    return json.dumps(json.loads(json_file()) | values).encode()


def token(i) -> dict:
    return {"content": "<x>", "id": i, "special": True}


def test_damaged_files_are_named(tmp_path):
    whole, text = ranks_file(), json_file()
    line = whole.index(b"\n", 1500)
    damaged = [
        ("qwen.tiktoken", whole[: line + 3], "is not a piece in base64 and its rank"),
        ("qwen.tiktoken", whole[: line - 1], "out of order"),
        ("qwen.tiktoken", whole[: line + 1], "256 single bytes"),
        ("qwen.tiktoken", b"", "256 single bytes"),
        ("qwen.tiktoken", b"\xff\xfe\x00garbage", "is not a piece in base64"),
        ("tokenizer.json", text[:500], "not valid JSON"),
        ("tokenizer.json", b"\xff\xfe", "not valid JSON"),
        ("tokenizer.json", b"[]", "not a tokenizer.json with a BPE model"),
        ("tokenizer.json", b'{"model": {"vocab": []}}', "not a tokenizer.json with a BPE model"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}}}', "has no control tokens"),
        ("tokenizer.json", text.replace(b"NFC", b"NFX"), "not a tokenizer of the tokenizers"),
        ("tokenizer.json", text.replace(b"endoftext", b"eot"), "no control token '<.endoftext"),
        ("tokenizer.json", b"[" * 100_000, "nested too deep"),
        ("tokenizer.json", changed(added_tokens=[1]), "added_tokens must be a list of objects"),
        ("tokenizer.json", changed(added_tokens={"a": 1}), "added_tokens must be a list of obj"),
        ("tokenizer.json", changed(added_tokens=[{"id": 1}]), "'None' has '1' for its id"),
        ("tokenizer.json", changed(added_tokens=[token(1.5)]), "'<x>' has '1.5' for its id"),
        ("tokenizer.json", changed(added_tokens=[token(-1)]), "'<x>' has '-1' for its id"),
        ("tokenizer.json", changed(added_tokens=[token(10**30)]), "'<x>' has '1000"),
        ("tokenizer.json", changed(added_tokens=[token(0)]), "'<x>' has the id 0, and so has"),
        ("tokenizer.model", b"garbage", "not a vocabulary that this project made"),
        ("tokenizer.model", b"", "not a vocabulary that this project made"),
    ]
    for number, (name, data, says) in enumerate(damaged):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: .*{says}") as raised:
            load_tokenizer(tmp_path / str(number))
        assert "\n" not in str(raised.value)
    for extra in (b"{}", b"[1]", b"[", b'["<audio>"]'):
        (tmp_path / "qwen.tiktoken").write_bytes(whole)
        (tmp_path / "extra_tokens.json").write_bytes(extra)
        with pytest.raises(ValueError, match=r"extra_tokens\.json"):
            load_tokenizer(tmp_path)


def test_own_vocabulary_takes_no_more_control_tokens(tmp_path):
    own = train_sentencepiece(["the dog"], [], tmp_path)
    assert with_control_tokens(own, [END_OF_TEXT]) is own
    with pytest.raises(ValueError, match="build the corpus again"):
        with_control_tokens(own, ["<|new|>"])
    ids = encode_with_control(own, "<|im_start|>the dog<|im_end|>")
    expected = [own.special("<|im_start|>"), *own.encode("the dog"), own.special("<|im_end|>")]
    assert ids == expected


@pytest.fixture(scope="module")
def original(references):
    return load_tokenizer(references / "golden/qwen_audio/tokenizer")


def test_original_control_tokens(original, references):
    table = json.loads((references / "golden/qwen_audio/tokenizer/special_tokens.json").read_text())
    assert len(table) == 3522
    assert original.control_ids == table
    assert list(table) == qwen_audio_control_tokens()
    assert original.vocab_size == 155165
    assert original.end_of_text == 151643


def test_original_ids(original, references):
    folder = references / "golden/qwen_audio/tokenizer"
    samples = json.loads((folder / "clips_num_samples_16k.json").read_text())
    tags = set(original.control_ids) - {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    tags -= {f"<|extra_{i}|>" for i in range(205)}

    def span(match):
        n = audio_tokens(mel_frames(min(samples[match[1]], 480000), "floor"))
        return "<audio>" + "[[[AUDIO:modality]]]" * n + "</audio>"

    def ids(text, names=None):
        return encode_with_control(original, re.sub("<audio>(.*?)</audio>", span, text), names)

    cases = json.loads((folder / "golden.json").read_text())
    assert len(cases) == 77
    for case in cases:
        names = tags if case["allowed_special"] == "audio_tags_only" else None
        assert ids(case["text"], names) == case["ids"], case["text"]
        decoded = re.sub("<audio>(.*?)</audio>", span, case["decoded"])
        assert original.decode(case["ids"]) == decoded
        if case["group"] == "plain":
            assert original.encode(case["text"]) == case["ids"]
    batch = json.loads((folder / "batch_left.json").read_text())
    for text, row in zip(batch["texts"], batch["input_ids"], strict=True):
        assert ids(text) == [i for i in row if i != original.end_of_text]
    edge = {
        case.get("what", case.get("text")): case
        for case in map(dict, json.loads((folder / "edge_cases.json").read_text()))
    }
    assert ids("x</audio>y") == edge["x</audio>y"]["ids"]
    invalid = edge["invalid utf-8 decode"]
    assert original.decode(invalid["bytes_ids"]) == invalid["result"] == "\ufffd"


def test_original_saves_and_travels(original, references, tmp_path):
    original.save(tmp_path)
    file = references / "golden/qwen_audio/tokenizer/qwen.tiktoken"
    assert (tmp_path / "qwen.tiktoken").read_bytes() == file.read_bytes()
    again = pickle.loads(pickle.dumps(original))
    for text in random_texts(2, 300):
        assert again.encode(text) == original.encode(text)
        assert not set(original.encode(text)) & set(original.control_ids.values())


def test_original_qwen2_audio_ids(references):
    folder = references / "golden/qwen2_audio/folder_example"
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == 7906
    for case in json.loads((folder / "golden_tokenizer.json").read_text()):
        assert encode_with_control(tokenizer, case["text"]) == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]
        assert tokenizer.decode(tokenizer.encode(case["text"])) == case["text"]
