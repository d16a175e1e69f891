"""An exported vocabulary gives transformers the ids that training had, whosever it was."""

import json
import random

import originals
import pytest
import tokenizers
from converting import exported, imported

from qwen_audio_jax.conversion import companions
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.text.tokenizer_qwen import SPLIT_PATTERN

CONTROL = (END_OF_TEXT, IM_START, IM_END, *AUDIO_TAGS["qwen2_audio"])
ROWS = 512
TEXTS = (
    *("a message\n\nyes", "\n\n", " \n \n", "  two", "a  b   c", " ", "\t\tx", "\r\n\r\n", ""),
    *("it's 1234 DON'T", "  123  456", "x=1;\n\ny=22", "é e\u0301", "\u00a0x", "a" * 300),
    *("...!!!\n\n", "<s>", "<unk>", "end \n", "\x00", "\u2581x", "Ω≈ç√", "مرحبا"),
    *("😀👩\u200d👧", "狗很大", "ไทย"),
)
SAID = [
    *("a message\n\nyes, it's here  twice", "and 1234 words, and words\n\n\n", "the dog barks"),
] * 5


def smollm() -> tokenizers.Tokenizer:
    """Single digits, then GPT-2's splitting; nothing is normalised."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([digits, level])
    return made


def qwen2() -> tokenizers.Tokenizer:
    """Qwen2's own splitting, normalised."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.normalizer = tokenizers.normalizers.NFC()
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), "isolated")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, level])
    return made


def one_that_adds_and_cuts() -> tokenizers.Tokenizer:
    """Llama 3's kind: a token before each text; and cut short, or merged by chance, as some are."""
    made = smollm()
    made.model = tokenizers.models.BPE(dropout=0.5)
    made.add_special_tokens([END_OF_TEXT])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)]
    )
    made.enable_truncation(5)
    return made


def train(made: tokenizers.Tokenizer, path) -> None:
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train_from_iterator(
        SAID,
        tokenizers.trainers.BpeTrainer(
            vocab_size=ROWS - 64,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(CONTROL),
            show_progress=False,
        ),
    )
    made.save(str(path))


CONFIGS = (
    None,
    {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "unk_token": END_OF_TEXT},
    {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 7, "auto_map": {"AutoTokenizer": 1}},
    {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": END_OF_TEXT},
)


@pytest.fixture(scope="module", params=[smollm, qwen2, one_that_adds_and_cuts])
def checkpoint(request, tmp_path_factory):
    """An imported model with a vocabulary of this kind."""
    folder = tmp_path_factory.mktemp("vocabulary")
    source = originals.qwen2_audio(folder / "source", vocab_size=ROWS)
    train(request.param(), source / "tokenizer.json")
    config = json.loads((source / "config.json").read_text())
    placeholder = load_tokenizer(source).special("<|AUDIO|>")
    (source / "config.json").write_text(json.dumps(config | {"audio_token_index": placeholder}))
    return imported(source, folder / "checkpoint")


@pytest.mark.parity
def test_transformers_gives_the_ids_of_training(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    trained = load_tokenizer(checkpoint / "tokenizer")
    draw = random.Random(0)
    joined = ["".join(draw.choice(TEXTS) for _ in range(4)) for _ in range(200)]
    folder = checkpoint / companions.FOLDER
    for number, before in enumerate(CONFIGS):
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer_config.json").unlink(missing_ok=True)
        if before:
            (folder / "tokenizer_config.json").write_text(json.dumps(before))
        out = exported(checkpoint, tmp_path / str(number))
        theirs = transformers.AutoTokenizer.from_pretrained(out)
        for text in [*TEXTS, *joined]:
            assert theirs(text)["input_ids"] == trained.encode(text), (before, text)
        assert len(theirs) == trained.vocab_size
        assert theirs.convert_tokens_to_ids(list(CONTROL)) == [*map(trained.special, CONTROL)]
        assert theirs.pad_token_id == trained.special(END_OF_TEXT)
        said = theirs.apply_chat_template(
            [{"role": "user", "content": "a\n\nb"}], add_generation_prompt=True, tokenize=False
        )
        assert said.endswith("a\n\nb<|im_end|>\n<|im_start|>assistant\n")


def test_what_an_original_says_of_its_tokens_is_kept(checkpoint, tmp_path):
    folder = checkpoint / companions.FOLDER
    folder.mkdir(exist_ok=True)
    before = {"eos_token": "<|endoftext|>", "model_max_length": 99, "tokenizer_class": "X"}
    (folder / "tokenizer_config.json").write_text(json.dumps(before))
    out = exported(checkpoint, tmp_path / "out")
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert (config["eos_token"], config["model_max_length"]) == ("<|endoftext|>", 99)
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
