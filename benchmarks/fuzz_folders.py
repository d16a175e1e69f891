"""Folders for `fuzz_checkpoints.py`: small models as their makers publish them, then damaged."""

import base64
import dataclasses
import json
import pathlib
import random
import shutil

import numpy as np
import tokenizers
from safetensors.numpy import load_file, save_file

from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig
from qwen_audio_jax.text.control_tokens import control_tokens, qwen_audio_control_tokens
from qwen_audio_jax.text.tokenizer_qwen import SPLIT_PATTERN

ENCODER = EncoderConfig(mel_bins=8, layers=2, width=12, heads=3, max_positions=20)
ROWS = 4096
SHAPE = dict(vocab_size=ROWS, layers=2, width=16, heads=4, head_dim=4, mlp_width=20)
GROUPED = DecoderConfig(**SHAPE, kv_heads=2)
QWEN = DecoderConfig(**SHAPE, kv_heads=4, log_n=True, dynamic_ntk=True, trained_length=32)
GENERATION = {"do_sample": False, "eos_token_id": [0, 1], "temperature": None}
FEATURES = {"feature_size": 8, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400}

PUBLISHED = ("qwen2_audio", "qwen2_audio_sharded", "qwen2_audio_in_memory", "qwen_audio")
PUBLISHED += ("whisper", "whisper_openai", "qwen")
TEXT_MODELS = {
    "qwen2": {},
    "qwen2_tied": dict(tied=True),
    "qwen3": dict(qkv_bias=False, qk_norm=True),
    "llama": dict(qkv_bias=False, tied=True, rope_factor=8.0, rope_length=64),
}
PUBLISHED += tuple(TEXT_MODELS)


def make_seeds(folder: pathlib.Path) -> None:
    """Writes an undamaged folder of each kind in `PUBLISHED`."""
    whole = Parts("qwen2_audio", ENCODER, GROUPED, audio_token=256 + 3)
    config = configs.write_qwen2_audio(whole.model(), "bfloat16", whole.audio_token, {})
    for name, shards, in_memory in (
        ("qwen2_audio", 1, False),
        ("qwen2_audio_sharded", 3, False),
        ("qwen2_audio_in_memory", 1, True),
    ):
        rows = names.qwen2_audio(GROUPED, in_memory=in_memory)
        _write(folder / name, config, whole, rows, shards)
        _json_vocabulary(folder / name)
        _companions(folder / name)
    first = 256 + qwen_audio_control_tokens().index("<audio>")
    qwen_audio = Parts("qwen_audio", ENCODER, QWEN, first, first + 1)
    config = configs.write_qwen_audio(qwen_audio.model(), "bfloat16", 64)
    _write(folder / "qwen_audio", config, qwen_audio, names.qwen_audio(QWEN), 2)
    _ranks(folder / "qwen_audio")
    _companions(folder / "qwen_audio")
    decoder = {key: value for key, value in config.items() if key != "audio"}
    _write(folder / "qwen", decoder, Parts(decoder=QWEN), names.qwen_decoder(QWEN), 1)
    _ranks(folder / "qwen")
    encoder = configs.write_qwen2_audio(whole.model(), "float16", 1, {})["audio_config"]
    encoder |= {"model_type": "whisper", "architectures": ["WhisperModel"], "decoder_layers": 1}
    for name, rows in (
        ("whisper", names.transformers_encoder("model.encoder.")),
        ("whisper_openai", names.openai_encoder("encoder.")),
    ):
        _write(folder / name, encoder, Parts(encoder=ENCODER), rows, 1, "float16")
        _companions(folder / name)
    for name, flags in TEXT_MODELS.items():
        decoder = dataclasses.replace(GROUPED, **flags)
        parts = dataclasses.replace(whole, decoder=decoder)
        text = configs.write_qwen2_audio(parts.model(), "float32", 1, {})["text_config"]
        rows = names.distinct(names.transformers_decoder(decoder))
        _write(folder / name, text, Parts(decoder=decoder), rows, 1, "float32")
        _json_vocabulary(folder / name)


def _write(folder, config, parts, rows, shards: int, dtype: str = "bfloat16") -> None:
    draw = np.random.default_rng(len(rows))
    shapes = tensor_shapes(rows, parameter_shapes(parts)).items()
    tensors = [(name, draw.standard_normal(shape).astype(dtype)) for name, shape in shapes]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(dict(tensors[number::shards]), folder / file, {"format": "pt"})
        weight_map |= {name: file for name, _ in tensors[number::shards]}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _json_vocabulary(folder: pathlib.Path) -> None:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), "isolated")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, level])
    made.decoder = tokenizers.decoders.ByteLevel()
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>"]
    tokens += [token for token in control_tokens()[-6:] if token not in tokens]
    made.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in tokens])
    made.save(str(folder / "tokenizer.json"))


def _ranks(folder: pathlib.Path) -> None:
    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}\n" for i in range(256)]
    (folder / "qwen.tiktoken").write_text("".join(lines))


def _companions(folder: pathlib.Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    (folder / "preprocessor_config.json").write_text(json.dumps(FEATURES))
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@dataclasses.dataclass
class Damage:
    """Damages a folder, the same way for the same number.

    Attributes:
        folder: is changed in place.
        draw: where chance comes from.
        other: an undamaged folder of another kind, to mix in files of.
    """

    folder: pathlib.Path
    draw: random.Random
    other: pathlib.Path

    def apply(self, kinds: tuple[str, ...]) -> list[str]:
        """One to three of the named kinds of damage; returns which, in words."""
        done = []
        for _ in range(self.draw.choice((1, 1, 1, 2, 3))):
            kind = self.draw.choice(kinds)
            done.append(f"{kind} {getattr(self, kind)()}")
        return done

    def setting(self) -> str:
        """A known key of a configuration takes a value that contradicts or means another model."""
        path = self._file("config.json")
        config = self._json(path)
        if not isinstance(config, dict):
            return ""
        inner = [value for value in config.values() if isinstance(value, dict)]
        level = self.draw.choice([config, config, *inner])
        key, value = self.draw.choice(SETTINGS)
        level[key] = value
        _save(path, config)
        return f"{key}={value!r}"

    def value(self) -> str:
        """Somewhere in a JSON file, a value is replaced, taken out, doubled or moved."""
        files = [f for f in self._files() if f.suffix == ".json" or f.name == "_METADATA"]
        # Long ones are mostly alike inside.
        often = [f for f in files for _ in range(4 if "config" in f.name else 1)]
        path = self.draw.choice(often or [self._file("none.json")])
        root = self._json(path)
        if not isinstance(root, dict | list) or not root:
            return ""
        node, depth = root, self.draw.choice((0, 1, 1, 2, 2, 3))
        for _ in range(depth):
            values = node.values() if isinstance(node, dict) else node
            inner = [value for value in values if isinstance(value, dict | list) and value]
            if not inner:
                break
            node = self.draw.choice(inner)
        key = self.draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if self.draw.random() < 0.15:
            del node[key]
        else:
            node[key] = self.draw.choice(GARBAGE)
        text = json.dumps(root)
        for sign, raw in RAW.items():
            text = text.replace(json.dumps(sign), raw)
        path.write_text(text)
        return f"{path.name}:{str(key)[:40]}"

    def bytes(self) -> str:
        """A file is cut, flipped, emptied, or led by bytes that are no UTF-8."""
        if not (files := self._files()):
            return ""
        path = self.draw.choice(files)
        data = bytearray(path.read_bytes())
        kind = self.draw.randrange(6)
        if kind == 0:
            data = data[: self.draw.randrange(len(data) + 1)]
        elif kind == 1:
            # Headers are where the harm is.
            end = self.draw.choice((8, 64, 2000, len(data))) if data else 0
            for _ in range(self.draw.choice((1, 3, 30))):
                if data:
                    data[self.draw.randrange(min(end, len(data)))] ^= 1 << self.draw.randrange(8)
        elif kind == 2:
            data = bytearray(self.draw.choice(CONTENTS))
        elif kind == 3:
            data = bytearray(b"\xef\xbb\xbf" if self.draw.random() < 0.5 else b"\xff\xfe") + data
        elif kind == 4:
            place = self.draw.randrange(len(data) + 1)
            data[place:place] = bytes(self.draw.randrange(256) for _ in range(5))
        else:
            data = data + data
        path.write_bytes(data)
        return f"{path.name} {kind}"

    def files(self) -> str:
        """A file is gone, a folder, a dead link, another's, or under another name."""
        if not (files := self._files()):
            return ""
        path = self.draw.choice(files)
        name = self.draw.choice([name for name in NAMES if not path.with_name(name).is_dir()])
        kind = self.draw.randrange(6)
        if kind == 0:
            path.unlink()
        elif kind == 1:
            path.unlink()
            path.mkdir()
        elif kind == 2:
            path.unlink()
            path.symlink_to("nowhere")
        elif kind == 3:
            theirs = self.draw.choice([f for f in self.other.rglob("*") if f.is_file()])
            shutil.copyfile(theirs, path)
        elif kind == 4 and path.name != name:
            shutil.copyfile(path, path.with_name(name))
        else:
            path.rename(path.with_name(name))
        return f"{path.name} {kind} {name if kind > 3 else ''}"

    def weights(self) -> str:
        """A tensor is NaN, infinite, of another dtype or shape, gone, new, or in two files."""
        path = self.draw.choice([f for f in self._files() if f.suffix == ".safetensors"] or [None])
        try:
            tensors = load_file(path)
        except Exception:  # not there, or damaged before
            return ""
        name, kind = self.draw.choice(sorted(tensors)), self.draw.randrange(8)
        array = np.array(tensors[name])
        if kind < 3:
            array.reshape(-1)[-1:] = (np.nan, np.inf, -np.inf)[kind]
            tensors[name] = array
        elif kind == 3:
            tensors[name] = array.astype(self.draw.choice(("float64", "int8", "float16")))
        elif kind == 4:
            tensors[name] = array[..., :-1].copy()
        elif kind == 5:
            del tensors[name]
        elif kind == 6:
            tensors["extra.weight"] = array
        else:
            path = path.with_name(self.draw.choice(NAMES))
        save_file(tensors, path, {"format": "pt"})
        return f"{name} {kind}"

    def _files(self) -> list[pathlib.Path]:
        return sorted(f for f in self.folder.rglob("*") if f.is_file() and not f.is_symlink())

    def _file(self, name: str) -> pathlib.Path:
        return self.folder / name

    def _json(self, path: pathlib.Path):
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None


def _save(path: pathlib.Path, content) -> None:
    path.write_text(json.dumps(content))


RAW = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "many digits": "9" * 6000,
    "too large": "1e999",
    "twice": '{"a": 1, "a": 2}',
    "half a pair": '"\\ud800"',
}
GARBAGE = (
    *(None, True, False, 0, 1, 2, -1, 3, 16, 64, 1.5, 1e-7, 1e18, 1e300, 10**9, 10**18, 10**30),
    *("", "x", "1", "16", "1e-5x", "nan", "\n", "\x00", "../model.safetensors", "x" * 5000),
    *([], {}, [1], [[]], {"a": 1}, [None], {"": {}}, *RAW),
)
CONTENTS = (b"", b"null", b"[]", b"{}", b'""', b"0", b"\x00" * 64, b"\xff" * 64, b"{" * 100_000)
NAMES = (
    *("model.safetensors", "model.safetensors.index.json", "adapter_config.json", "config.json"),
    *("pytorch_model.bin", "model.fp16.safetensors", "consolidated.safetensors", "tokenizer.json"),
    *("tokenizer.model", "qwen.tiktoken", "extra_tokens.json", "processor_config.json"),
    *("adapter_model.safetensors", "model-00001-of-00002.safetensors", "special_tokens_map.json"),
)
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
SETTINGS = (
    *(("rope_scaling", value) for value in (None, {}, [], {"type": "yarn", "factor": 4.0})),
    *(("rope_scaling", {"rope_type": "default", **more}) for more in ({}, {"rope_theta": 5e5})),
    *(("rope_parameters", {"rope_theta": theta}) for theta in (1e6, None, "1e6", -1, 0)),
    ("rope_parameters", {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}}),
    ("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
    *(("rope_scaling", _LLAMA3 | more) for more in ({}, {"factor": 0.5}, {"high_freq_factor": 1})),
    *(("attention_bias", bias) for bias in (True, False, None)),
    *(("rope_theta", theta) for theta in (1e6, None, 500000)),
    *(("tie_word_embeddings", tied) for tied in (True, False, None, "true")),
    *((key, dtype) for key in ("dtype", "torch_dtype") for dtype in ("float32", "float16", None)),
    *(("model_type", kind) for kind in ("qwen", "qwen2", "whisper", "qwen2_audio", "llama")),
    *(("model_type", kind) for kind in ("qwen3", [])),
    *(("hidden_size", 16), ("hidden_size", 12), ("num_attention_heads", 2), ("head_dim", 8)),
    *(("num_key_value_heads", heads) for heads in (1, 2, 4, 3, None)),
    *(("encoder_attention_heads", heads) for heads in (1, 2, 4, 6, 12)),
    *(("rms_norm_eps", eps) for eps in (1e-5, 1e-6, 0, "1e-6", 1)),
    *(("layer_types", kinds) for kinds in (["full_attention"] * 2, ["sliding_attention"] * 2, [])),
    *(("transformers_weights", name) for name in ("model.safetensors", "other.safetensors", 1)),
    *(("use_sliding_window", True), ("partial_rotary_factor", 0.5), ("per_layer_config", {})),
    *(("audio_token_id", 259), ("audio_token_id", 7), ("text_config", None), ("audio_config", {})),
)
