"""What is no adapter of the base, or no adapter, is told in a sentence and leaves nothing."""

import dataclasses
import json
import pathlib

import numpy as np
import originals
import pytest
from adapter_folders import LAYER, adapted, decoder_pairs, pair, write_adapter
from converting import imported, read_tensors, run
from safetensors.numpy import save_file

from qwen_audio_jax.models.parts import read_parts, write_parts
from qwen_audio_jax.models.presets import Adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> pathlib.Path:
    return originals.qwen2_audio(tmp_path_factory.mktemp("qwen2_audio") / "base")


def with_nan() -> dict[str, np.ndarray]:
    tensors = decoder_pairs()
    tensors[f"{LAYER}.1.mlp.gate_proj.lora_A.weight"][1, 3] = np.nan
    return tensors


def without(name: str) -> dict[str, np.ndarray]:
    return {key: tensor for key, tensor in decoder_pairs().items() if name not in key}


def also(name: str, *shape: int) -> dict[str, np.ndarray]:
    return decoder_pairs() | {f"base_model.model.{name}": np.ones(shape, np.float32)}


EMBEDDING = "model.language_model.embed_tokens"
BROKEN = [
    ({"peft_type": "IA3"}, None, "peft_type is 'IA3'; only LORA is read"),
    ({"peft_type": None}, None, "peft_type is ''; only LORA is read, so this is no adapter"),
    ({"use_dora": True}, None, "use_dora is True, which is not read here"),
    ({"bias": "lora_only"}, None, "bias is 'lora_only', which is not read here"),
    ({"lora_bias": True}, None, "lora_bias is True, which"),
    ({"fan_in_fan_out": True}, None, "fan_in_fan_out is True, which"),
    ({"target_parameters": ["w"]}, None, "target_parameters is ['w'], which"),
    ({"trainable_token_indices": [3]}, None, "trainable_token_indices is [3], which"),
    ({"layer_replication": [[0, 2]]}, None, "layer_replication is [[0, 2]], which"),
    ({"a_key_of_tomorrow": {"x": 1}}, None, "a_key_of_tomorrow is {'x': 1}, which"),
    ({"init_lora_weights": "pissa"}, None, "changes the weights of the base too"),
    ({"target_modules": None}, None, "target_modules names nothing"),
    ({"target_modules": 3}, None, "'target_modules' must be a list of names or a string, not 3"),
    ({"target_modules": "(q"}, None, "'target_modules' has '(q', which is no regular expression"),
    ({"rank_pattern": {"o_proj": 0}}, None, "rank_pattern: 'o_proj' must be a positive whole"),
    ({"alpha_pattern": ["o"]}, None, "'alpha_pattern' must be an object"),
    ({"lora_dropout": 1}, None, "'lora_dropout' must be a number from 0 to below 1"),
    ({"layers_to_transform": ["1"]}, None, "'layers_to_transform' must be the number of a layer"),
    (
        {"target_modules": ".*gate_proj", "layers_to_transform": 1},
        None,
        "layers_to_transform goes with a list of target_modules",
    ),
    ({"use_rslora": "yes"}, None, "'use_rslora' must be true or false"),
    ({"r": 3}, None, f"misshapen: {LAYER}.0.mlp.gate_proj.lora_A.weight is [2, 16], and by"),
    (
        {"target_modules": ["gate_proj", "o_proj", "up_proj"]},
        None,
        f"missing: {LAYER}.0.mlp.up_proj.lora_A.weight [2, 16]",
    ),
    ({"target_modules": ["o_proj"]}, None, f"unexpected: {LAYER}.0.mlp.gate_proj.lora_A.weight"),
    ({"exclude_modules": ["gate_proj"]}, None, f"unexpected: {LAYER}.0.mlp.gate_proj.lora_A"),
    ({"target_modules": "nothing"}, {}, "target_modules fits no linear layer"),
    ({}, without("1.mlp.gate_proj.lora_B"), f"missing: {LAYER}.1.mlp.gate_proj.lora_B.weight"),
    ({}, also("x.lora_magnitude_vector", 4), "x.lora_magnitude_vector, DoRA's magnitudes"),
    ({}, also(f"{EMBEDDING}.lora_embedding_A", 2, 64), "lora_embedding_A, an adapter of an emb"),
    ({}, also("model.language_model.layers.0.mlp.gate_proj.lora_B.bias", 20), "(lora_bias)"),
    ({}, decoder_pairs(range(4)), f"unexpected: {LAYER}.3.mlp.gate_proj.lora_A.weight"),
    ({}, with_nan(), "gate_proj.lora_A.weight: 1 of its 32 weights are NaN"),
    (
        {"target_modules": ["gate_proj", "o_proj", "lm_head"]},
        decoder_pairs() | pair("base_model.model.lm_head", 16, 64),
        "adapts the head (lm_head), and here the head can have no adapter",
    ),
    ({}, also(f"{EMBEDDING}.weight", 70, 16), "embed_tokens.weight is [70, 16], and by"),
    ({"modules_to_save": ["embed_tokens"]}, None, f"missing: base_model.model.{EMBEDDING}.weight"),
    ({"modules_to_save": ["mlp.up_proj"]}, None, "layers.{}.mlp.up_proj, and only what is not in"),
    ({"modules_to_save": ["score"]}, None, "modules_to_save has score, which"),
    (
        {"target_modules": ["c_attn"], "base_model_name_or_path": "Qwen/Qwen-Audio"},
        pair("base_model.model.transformer.h.0.attn.c_attn", 16, 48),
        "trained on 'Qwen/Qwen-Audio':\n  unexpected: base_model.model.transformer.h.0.attn",
    ),
]


@pytest.mark.parametrize(("changes", "tensors", "message"), BROKEN)
def test_a_bad_adapter_is_told_in_a_sentence(base, tmp_path, capsys, changes, tensors, message):
    adapter = write_adapter(tmp_path / "adapter", tensors, **changes)
    sources = (f"--source={base}", f"--source={adapter}")
    assert run("import", *sources, f"--out={tmp_path / 'out'}") == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_pickles_and_integers_are_not_read(base, tmp_path, capsys):
    whole = {name: tensor.astype(np.int32) for name, tensor in decoder_pairs().items()}
    adapter = write_adapter(tmp_path / "adapter", whole)
    sources = (f"--source={base}", f"--source={adapter}", f"--out={tmp_path / 'out'}")
    assert run("import", *sources) == 1
    assert f"wrong dtype: {LAYER}.0.mlp.gate_proj.lora_A.weight is I32" in capsys.readouterr().err
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert run("import", *sources) == 1
    assert "its weights are pickled (adapter_model.bin)" in capsys.readouterr().err


def test_a_tied_model_takes_no_other_word_embedding(tmp_path, capsys):
    base = originals.qwen2_audio(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = config["tie_word_embeddings"] = True
    (base / "config.json").write_text(json.dumps(config))
    tensors = read_tensors(base)
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"]
    for file in base.glob("*.safetensors"):
        file.unlink()
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    adapter = write_adapter(tmp_path / "adapter", also(f"{EMBEDDING}.weight", 64, 16))
    sources = (f"--source={base}", f"--source={adapter}", f"--out={tmp_path / 'out'}")
    assert run("import", *sources) == 1
    assert "word embedding and head are one tensor" in capsys.readouterr().err
    (adapter / "adapter_model.safetensors").unlink()
    both = also(f"{EMBEDDING}.weight", 64, 16) | also("lm_head.weight", 64, 16)
    save_file(both, adapter / "adapter_model.safetensors")
    assert run("import", *sources) == 0


def test_an_export_without_adapters_is_refused(base, tmp_path, capsys):
    start, out = imported(base, tmp_path / "import"), tmp_path / "out"
    command = ("export", f"--checkpoint={start}", f"--out={out}")
    assert run(*command, "--adapter") == 1
    assert "has no adapters; export the merged model (without --adapter)" in capsys.readouterr().err
    assert run(*command, "--spelling=4") == 1
    assert "--spelling: is of the names in an adapter; add --adapter" in capsys.readouterr().err

    tensors = decoder_pairs()
    for name in tensors:
        if name.endswith("lora_B.weight"):
            tensors[name][:] = 0
    untrained = write_adapter(tmp_path / "untrained", tensors)
    start = adapted(base, untrained, tmp_path / "zero")
    assert run("export", f"--checkpoint={start}", f"--out={out}", "--adapter") == 1
    assert "lora_b is 0 in all of its adapters, so they change nothing" in capsys.readouterr().err

    parts = read_parts(start)
    other = tuple(dataclasses.replace(adapter, rank=3) for adapter in parts.adapters)
    write_parts(start, dataclasses.replace(parts, adapters=other))
    assert run("export", f"--checkpoint={start}", f"--out={out}", "--adapter") == 1
    error = capsys.readouterr().err
    assert "its adapters are not those of its model.json" in error
    assert "decoder/blocks/gate/lora_a: is (3, 16, 2), and by model.json it should be (3," in error
    write_parts(start, dataclasses.replace(parts, adapters=(Adapter("decoder/norm", 1, 1.0),)))
    assert run("export", f"--checkpoint={start}", f"--out={out}", "--adapter") == 1
    assert "adapters: 'decoder/norm' is there twice, or no linear" in capsys.readouterr().err
    assert not out.exists()
