"""The exported vocabulary gives our ids for any text, here and in the libraries that read it."""

import io
import json
import random
import shutil

import numpy as np
import pytest
import sentencepiece
import tokenizers

from qwen_audio_jax.conversion.fast_tokenizer import sentencepiece_to_fast, tokenizer_config
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.tasks import TASKS
from qwen_audio_jax.text.tokenizer import encode_with_control, load_tokenizer, train_sentencepiece

ANNOTATION = {
    "text": "the dog barks, aaaa aaa aaaaaaa, ababab abab",
    "language": "en",
    "target_language": "be",
    "question": "Сабака? 狗很大, いぬは おおきい",
    "pitch": 60,
    "velocity": 100,
    "instrument": "flute",
    "words": [{"word": "the", "start": 0.54, "end": 0.8}],
    "events": [{"event": "siren", "start": 0.1, "end": 1.5}],
    "texts": ["good morning", "いぬ"],
    "turns": [{"speaker": "A", "start": 0.0, "end": 1.3}],
    "entities": [{"type": "city", "value": 'the "Big" one'}],
    "scenario": "alarm",
    "action": "set",
    "phrase": "a dog barks",
    "segments": [{"start": 0.5, "end": 1.2}],
}
TEXTS = [text for task in TASKS for text in texts_of(task, ANNOTATION)]
NAMES = ["<|im_end|>", "<|2.33|>", "<audio>", "<|AUDIO|>", "[[[AUDIO:modality]]]", "<|be|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with our vocabulary, and `fast/` in it with the exported one."""
    path = tmp_path_factory.mktemp("vocabulary")
    train_sentencepiece(TEXTS, ["en", "be"], path)
    (path / "fast").mkdir()
    fast = sentencepiece_to_fast((path / "tokenizer.model").read_bytes())
    (path / "fast/tokenizer.json").write_text(fast, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ours(folder):
    return load_tokenizer(folder)


def random_texts(number: int) -> list[str]:
    """Strings of what the corpus says, in whole and in pieces, and of what it never says."""
    draw = random.Random(0)
    said = sorted(set("".join(TEXTS)))
    odd = ["\u2581", " \u2581", "  ", "\n", "\t", "\x00", "é", "e\u0301", "😀", "0123", "<unk>"]
    odd += ["<0x41>", "<s>", "\ufffd", "Ω", "ไทย", "\r\n", *NAMES]

    def piece():
        kind = draw.random()
        if kind < 0.3:
            text = draw.choice(TEXTS)
            begin = draw.randrange(len(text))
            return text[begin : begin + draw.randrange(20)]
        if kind < 0.5:
            return draw.choice(odd)
        if kind < 0.6:
            return chr(draw.choice([*range(0xD800), *range(0xE000, 0x20000)]))
        return "".join(draw.choice(draw.choice((said, "ab ", "a "))) for _ in range(8))

    return ["".join(piece() for _ in range(draw.randrange(6))) for _ in range(number)]


def test_ids_and_text_are_the_same(folder, ours):
    fast = tokenizers.Tokenizer.from_file(str(folder / "fast/tokenizer.json"))
    assert fast.get_vocab_size() == ours.vocab_size
    assert {name: fast.token_to_id(name) for name in ours.control_ids} == ours.control_ids
    fast.encode_special_tokens = True
    for text in [*TEXTS, *random_texts(5000), "a" * 5000, " ab" * 2000]:
        ids = fast.encode(text).ids
        assert ids == ours.encode(text), repr(text)
        assert fast.decode(ids, skip_special_tokens=False) == text
    fast.encode_special_tokens = False
    for text in random_texts(2000):
        assert fast.encode(text).ids == encode_with_control(ours, text), repr(text)


def test_generated_ids_decode_the_same(folder, ours):
    fast = tokenizers.Tokenizer.from_file(str(folder / "fast/tokenizer.json"))
    draw = random.Random(0)
    byte = ours.encode("\x01")[0] - 1
    plain = [i for i in range(1, ours.vocab_size) if not byte <= i < byte + 256]
    for _ in range(2000):
        ids = [draw.choice(plain) for _ in range(10)]
        assert fast.decode(ids, skip_special_tokens=False) == ours.decode(ids)
        skipped = [i for i in ids if i not in set(ours.control_ids.values())]
        assert fast.decode(ids) == ours.decode(skipped)
    broken = [byte + 0xE7, byte + 0x8B]
    assert set(fast.decode(broken)) == set(ours.decode(broken)) == {"\ufffd"}


def test_we_read_what_we_wrote(folder, ours):
    again = load_tokenizer(folder / "fast")
    assert again.control_ids == ours.control_ids
    assert (again.vocab_size, again.end_of_text) == (ours.vocab_size, ours.end_of_text)
    for text in random_texts(2000):
        assert again.encode(text) == ours.encode(text)
        assert again.decode(again.encode(text)) == text


def test_only_our_kind_of_model_is_taken():

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the dog"]), model_writer=model, vocab_size=10, minloglevel=2
    )
    with pytest.raises(ValueError, match="no byte fallback"):
        sentencepiece_to_fast(model.getvalue())


@pytest.mark.parity
def test_transformers_opens_the_folder(folder, ours, references, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    example = references / "golden/qwen2_audio/folder_example"
    for name in ("config.json", "processor_config.json", "chat_template.jinja"):
        shutil.copyfile(example / name, tmp_path / name)
    shutil.copyfile(folder / "fast/tokenizer.json", tmp_path / "tokenizer.json")
    config = tokenizer_config(2048, ours.control_ids, {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.vocab_size
    assert (theirs.pad_token_id, theirs.eos_token_id) == tuple(
        ours.special(name) for name in ("<|endoftext|>", "<|im_end|>")
    )
    for text in [*TEXTS, *random_texts(1000)]:
        ids = theirs(text)["input_ids"]
        assert ids == encode_with_control(ours, text)
        assert theirs(text, split_special_tokens=True)["input_ids"] == ours.encode(text)
        assert theirs.decode(ids) == text
    plain = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert plain(TEXTS)["input_ids"] == [ours.encode(text) for text in TEXTS]

    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, transformers.Qwen2AudioProcessor)
    wave = np.zeros(16000, np.float32)
    made = processor(
        text=["<|audio_bos|><|AUDIO|><|audio_eos|>the dog", "the"],
        audio=[wave],
        sampling_rate=16000,
        padding=True,
        return_tensors="np",
    )
    expected = "<|audio_bos|>" + "<|AUDIO|>" * 25 + "<|audio_eos|>the dog"
    assert made["input_ids"][0].tolist() == encode_with_control(ours, expected)
    padded = made["input_ids"][1][made["attention_mask"][1] == 0]
    assert len(padded) > 0
    assert set(padded.tolist()) == {ours.end_of_text}
    assert made["input_ids"][1][made["attention_mask"][1] == 1].tolist() == ours.encode("the")


def test_a_vocabulary_that_saw_no_space(tmp_path):
    ours = train_sentencepiece(["tone", "noise"], [], tmp_path, pieces=4)
    fast = tokenizers.Tokenizer.from_str(
        sentencepiece_to_fast((tmp_path / "tokenizer.model").read_bytes())
    )
    for text in (" ", "a tone  of noise ", "\u2581 \u2581"):
        assert ours.encode(text) == fast.encode(text).ids
        assert ours.decode(ours.encode(text)) == text
