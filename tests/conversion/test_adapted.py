"""A published text model becomes an audio model: imported, trained a step, exported, split alike.

The text model is Llama in its shape, its head tied, and the vocabulary not Qwen's: SentencePiece's
splitting, none of our control tokens, a token before each text.
"""

import dataclasses
import json
import pathlib
import random
import subprocess
import sys

import numpy as np
import originals
import pytest
import tokenizers
from conftest import write_corpus
from converting import exported, read_tensors, run

from qwen_audio_jax.checkpoint import last_step, saved_shapes
from qwen_audio_jax.conversion import configs
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.parts import read_parts
from qwen_audio_jax.text.tokenizer import encode_with_control, load_tokenizer

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "pretrain.py"
ROWS = 448
SAID = ["a message\n\nyes, it's here  twice", "and 1234 words, and words\n", "the dog barks"] * 5
TEXTS = (
    *("a message\n\nyes", "\n\n", " \n \n", "  two", "a  b   c", " ", "\t\tx", "\r\n\r\n", ""),
    *("it's 1234 DON'T", "  123  456", "x=1;\n\ny=22", "\u2581x", "狗很大", "😀👩\u200d👧", "é"),
    *("<|im_start|>user\n", "<|im_end|>\n", "<|audio_bos|><|AUDIO|><|audio_eos|>\n", "<|en|>"),
    *("<|transcribe|>", "<|0.00|>", "<|endoftext|>", "<s>", "</s>"),
)
SOURCE_CONFIG = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "chat_template": "{{ 'not of an audio model' }}",
    "legacy": False,
}


def write_vocabulary(folder: pathlib.Path) -> None:
    """Llama 2's kind of `tokenizer.json`; beside it lies what it was made from."""
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    decoders = tokenizers.decoders
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>"]
    made.train_from_iterator(
        SAID,
        tokenizers.trainers.BpeTrainer(
            vocab_size=ROWS - 64, special_tokens=[*special, *byte_pieces], show_progress=False
        ),
    )
    content = json.loads(made.to_str())
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] in special
    ]
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))
    (folder / "tokenizer.model").write_bytes(b"SentencePiece's, of another maker")
    (folder / "tokenizer_config.json").write_text(json.dumps(SOURCE_CONFIG))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama") / "source"
    originals.qwen2(folder, "float32", kind="llama", tied=True, vocab_size=ROWS)
    write_vocabulary(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    return folder


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    """The run folder."""
    folder = tmp_path_factory.mktemp("run")
    whisper = originals.whisper(folder / "whisper", positions=1500)
    (whisper / "tokenizer_config.json").write_text('{"tokenizer_class": "WhisperTokenizer"}')
    start, corpus = folder / "start", folder / "data" / "tones"
    # In this order the encoder's files would replace the decoder's.
    assert run("import", f"--source={source}", f"--source={whisper}", f"--out={start}") == 0
    write_corpus(corpus, train=16)
    options = {
        "init_from": start,
        "data.root": corpus.parent,
        "data.mixture": '{"tones": 1.0}',
        "data.shapes": "((4, 96, 128),)",
        "train.steps": 2,
        "optimizer.warmup_steps": 1,
        "optimizer.frozen": "('^encoder',)",
    }
    flags = [f"--config.{key}={value}" for key, value in options.items()]
    main = [sys.executable, "-m", "qwen_audio_jax.main", f"--config={CONFIG}"]
    done = subprocess.run(
        [*main, *flags, f"--workdir={folder / 'run'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


@pytest.fixture(scope="module")
def out(trained, tmp_path_factory):
    return exported(trained, tmp_path_factory.mktemp("exported") / "out")


@pytest.mark.slow
def test_a_tied_head_is_trained_as_one_array(source, trained, out):
    decoder = read_parts(trained).decoder
    assert (decoder.tied, decoder.qkv_bias, decoder.qk_norm) == (True, False, False)
    saved = saved_shapes(last_step(trained))
    assert saved["decoder/embedding"].shape == (decoder.vocab_size, decoder.width)
    assert not saved.keys() & {"decoder/head", "decoder/blocks/query/bias"}
    tensors = read_tensors(out)
    embedding = tensors["language_model.model.embed_tokens.weight"]
    np.testing.assert_array_equal(tensors["language_model.lm_head.weight"], embedding)
    # Rows that no text of the corpus has are moved by the head's part of the gradient alone.
    before = load_original(source)[1]["decoder"]["embedding"]
    assert np.all(np.any(embedding[:ROWS] != before, axis=1))


def test_an_export_says_what_it_is(trained, out):
    text = json.loads((out / "config.json").read_text())["text_config"]
    assert (text["model_type"], text["tie_word_embeddings"]) == ("llama", True)
    parts, parameters = load_original(out)
    decoder = read_parts(trained).decoder
    assert decoder.first_new_token > 0
    assert parts.decoder == dataclasses.replace(decoder, first_new_token=0)  # it is not new there
    assert "head" not in parameters["decoder"]
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (config["bos_token"], config["eos_token"]) == ("<s>", "</s>")
    # How the text model answered, and to what conversation, is not this model's.
    assert "chat_template" not in config
    assert "eos_token_id" in json.loads((out / "generation_config.json").read_text())
    assert "<|AUDIO|>" in (out / "chat_template.jinja").read_text()


@pytest.mark.parity
def test_transformers_splits_as_trained(trained, out, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    ours = load_tokenizer(trained / "tokenizer")
    library = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    auto = transformers.AutoTokenizer.from_pretrained(out)
    processor = transformers.AutoProcessor.from_pretrained(out)
    assert type(processor).__name__ == "Qwen2AudioProcessor"
    draw = random.Random(0)
    joined = ["".join(draw.choice(TEXTS) for _ in range(4)) for _ in range(80)]
    for text in [*TEXTS, *joined]:
        ids = encode_with_control(ours, text)
        assert library.encode(text).ids == ids, text
        assert auto(text)["input_ids"] == ids, text
        assert processor.tokenizer(text)["input_ids"] == ids, text
    assert len(auto) == ours.vocab_size


def test_qwen_audio_has_no_place_for_it(trained):
    model = dataclasses.replace(read_parts(trained).model(), family="qwen_audio")
    heads = dataclasses.replace(model.decoder, kv_heads=model.decoder.heads)
    model = dataclasses.replace(model, decoder=heads)
    with pytest.raises(ConversionError, match="this decoder is of the llama type"):
        configs.write_qwen_audio(model, "float32", 64)
    plain = dataclasses.replace(heads, qkv_bias=True)
    model = dataclasses.replace(model, decoder=plain, audio_end=model.audio_begin + 1)
    assert configs.write_qwen_audio(model, "float32", 64)["tie_word_embeddings"] is True
    slowed = dataclasses.replace(model, decoder=dataclasses.replace(plain, rope_factor=8.0))
    with pytest.raises(ConversionError, match=r"qwen2 type, rotary factor 8\.0"):
        configs.write_qwen_audio(slowed, "float32", 64)
