"""PEFT folders in and out, by names and numbers; what is not read here is told in a sentence."""

import dataclasses
import json
import pathlib

import numpy as np
import originals
import pytest
from converting import exported, imported, read_tensors, run, same
from safetensors.numpy import save_file

from qwen_audio_jax.checkpoint import last_step
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.models.parts import Parts, read_parts, write_parts
from qwen_audio_jax.models.presets import Adapter
from qwen_audio_jax.saved_parameters import SavedParameters

CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "/home/somebody/base",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.05,
    "target_modules": ["gate_proj", "o_proj"],
    "megatron_core": "megatron.core",
    "use_dora": False,
    "a_key_of_tomorrow": None,
}
SIZES = {"gate_proj": (16, 20), "o_proj": (16, 16), "q_proj": (16, 16)}
LAYER = "base_model.model.model.language_model.layers"


def pair(module: str, inputs: int, outputs: int, rank: int = 2) -> dict[str, np.ndarray]:
    """Tensors of an adapter, random by name."""
    random = np.random.default_rng(list(module.encode()))
    return {
        f"{module}.lora_A.weight": random.standard_normal((rank, inputs)).astype(np.float32),
        f"{module}.lora_B.weight": random.standard_normal((outputs, rank)).astype(np.float32),
    }


def decoder_pairs(layers=range(3)) -> dict[str, np.ndarray]:
    modules = {"mlp.gate_proj": (16, 20), "self_attn.o_proj": (16, 16)}
    return {
        name: tensor
        for layer in layers
        for module, sizes in modules.items()
        for name, tensor in pair(f"{LAYER}.{layer}.{module}", *sizes).items()
    }


def write_adapter(folder: pathlib.Path, tensors=None, **changes) -> pathlib.Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    tensors = decoder_pairs() if tensors is None else tensors
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def adapted(base, adapter, out) -> pathlib.Path:
    command = ("import", f"--source={base}", f"--source={adapter}", f"--out={out}")
    assert run(*command) == 0
    return out


def parameters(folder) -> dict[str, np.ndarray]:
    saved = SavedParameters(last_step(folder))
    return {path: saved.read(path, store) for path, store in saved.stores.items()}


def written(folder) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> pathlib.Path:
    return originals.qwen2_audio(tmp_path_factory.mktemp("qwen2_audio") / "base")


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> pathlib.Path:
    return originals.qwen_audio(tmp_path_factory.mktemp("qwen_audio") / "base")


FIRST = {
    "transformer.h.{}.attn.c_attn": (3, 16, 48),
    "transformer.h.{}.attn.c_proj": (3, 16, 16),
    "transformer.h.{}.mlp.w1": (3, 16, 20),
    "transformer.h.{}.mlp.w2": (3, 16, 20),
    "transformer.h.{}.mlp.c_proj": (3, 20, 16),
    "transformer.audio.blocks.{}.attn.query": (2, 12, 12),
    "transformer.audio.blocks.{}.mlp.0": (2, 12, 48),
    "transformer.audio.proj": (1, 12, 16),
}
"""Linear layers of Qwen-Audio: number, inputs, outputs."""


def test_the_fused_layers_of_qwen_audio_there_and_back(first, tmp_path):
    tensors = {
        name: tensor
        for module, (layers, *sizes) in FIRST.items()
        for layer in range(layers)
        for name, tensor in pair(f"base_model.model.{module.format(layer)}", *sizes).items()
    }
    ends = ["c_attn", "c_proj", "mlp.0", "proj", "query", "w1", "w2"]
    adapter = write_adapter(tmp_path / "adapter", tensors, target_modules=ends)
    start = adapted(first, adapter, tmp_path / "start")

    arrays = parameters(start)
    a = tensors["base_model.model.transformer.h.1.attn.c_attn.lora_A.weight"]
    b = tensors["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"]
    for number, name in enumerate(("query", "key", "value")):
        np.testing.assert_array_equal(arrays[f"decoder/blocks/{name}/lora_a"][1], a.T)
        rows = b[16 * number : 16 * (number + 1)]
        np.testing.assert_array_equal(arrays[f"decoder/blocks/{name}/lora_b"][1], rows.T)
    gate = tensors["base_model.model.transformer.h.2.mlp.w2.lora_B.weight"]
    np.testing.assert_array_equal(arrays["decoder/blocks/gate/lora_b"][2], gate.T)
    proj = tensors["base_model.model.transformer.audio.proj.lora_A.weight"]
    np.testing.assert_array_equal(arrays["projector/lora_a"], proj.T)
    assert Adapter("decoder/blocks/up", 2, 2.0, 0.05) in read_parts(start).adapters
    assert len(read_parts(start).adapters) == 10

    out = exported(start, tmp_path / "out", "--adapter")
    assert same(read_tensors(out), tensors)
    assert written(out)["target_modules"] == ends
    assert written(out)["base_model_name_or_path"] == ""
    assert written(out)["modules_to_save"] is None


def random_adapters(start: pathlib.Path, out: pathlib.Path, adapters, **extra) -> pathlib.Path:
    """An imported folder with these adapters beside its parameters."""
    arrays = parameters(start) | extra
    random = np.random.default_rng(0)
    for adapter in adapters:
        layers, inputs, outputs = arrays[f"{adapter.path}/kernel"].shape
        shapes = {"a": (layers, inputs, adapter.rank), "b": (layers, adapter.rank, outputs)}
        for letter, shape in shapes.items():
            array = random.standard_normal(shape).astype(np.float32)
            arrays[f"{adapter.path}/lora_{letter}"] = array
    write_checkpoint(out / "checkpoints" / "0", arrays.items(), 1)
    parts = dataclasses.replace(read_parts(start), adapters=tuple(adapters))
    write_parts(out, parts)
    return out


@pytest.mark.parametrize("scales", [(2.0, 2.0, 2.0), (2.0, 0.7, 3.0)])
def test_adapters_of_their_own_make_a_fused_one(first, tmp_path, capsys, scales):
    names = ("query", "key", "value")
    adapters = [
        Adapter(f"decoder/blocks/{name}", rank, scale)
        for name, rank, scale in zip(names, (2, 3, 1), scales, strict=True)
    ]
    start = random_adapters(imported(first, tmp_path / "import"), tmp_path / "start", adapters)
    out = exported(start, tmp_path / "out", "--adapter")
    tensors, config = read_tensors(out), written(out)
    assert config["r"] == 6
    arrays = parameters(start)
    scale = config["lora_alpha"] / config["r"]
    for layer in range(3):
        name = f"base_model.model.transformer.h.{layer}.attn.c_attn"
        b, a = (tensors[f"{name}.lora_{x}.weight"].astype(np.float64) for x in "BA")
        for number, adapter in enumerate(adapters):
            mine = (arrays[f"{adapter.path}/lora_{x}"][layer].astype(np.float64) for x in "ab")
            wanted = adapter.scale * np.matmul(*mine).T
            change = scale * (b @ a)[16 * number : 16 * (number + 1)]
            np.testing.assert_allclose(change, wanted, rtol=1e-6, atol=1e-6)

    capsys.readouterr()
    again = adapted(first, out, tmp_path / "again")
    flags = (
        """--config.lora.rank_pattern='{"^decoder/blocks/key$": 3, "^decoder/blocks/value$": 1}'"""
    )
    assert flags in capsys.readouterr().out
    assert [adapter.rank for adapter in read_parts(again).adapters] == [2, 3, 1]
    if len(set(scales)) == 1:
        assert read_parts(again) == read_parts(start)
        assert same(parameters(again), arrays)


def test_one_of_three_fused_layers_stays_one(first, tmp_path):
    adapters = [Adapter("decoder/blocks/value", 2, 0.5)]
    start = random_adapters(imported(first, tmp_path / "import"), tmp_path / "start", adapters)
    again = adapted(first, exported(start, tmp_path / "out", "--adapter"), tmp_path / "again")
    assert read_parts(again) == read_parts(start)
    assert same(parameters(again), parameters(start))


def test_a_name_that_hits_more_than_meant_becomes_an_expression(base, tmp_path):
    start = imported(base, tmp_path / "import")
    paths = [*("decoder/blocks/query", "decoder/blocks/gate"), "encoder/blocks/up"]
    adapters = [Adapter(path, rank, 1.0) for path, rank in zip(paths, (2, 2, 3), strict=True)]
    adapted_ = random_adapters(start, tmp_path / "start", adapters)
    config = written(exported(adapted_, tmp_path / "5", "--adapter"))
    assert config["target_modules"] == (
        r"(model\.audio_tower\.layers\.\d+\.fc1|"
        r"model\.language_model\.layers\.\d+\.(self_attn\.q_proj|mlp\.gate_proj))"
    )
    assert config["rank_pattern"] == {r"model\.audio_tower\.layers\.\d+\.fc1": 3}
    older = exported(adapted_, tmp_path / "4", "--adapter", "--spelling=4")
    assert r"language_model\.model\.layers\.\d+\.(" in written(older)["target_modules"]
    assert any(
        name.startswith("base_model.model.audio_tower.layers.1.fc1.lora_A")
        for name in read_tensors(older)
    )


def test_what_an_adapter_says_of_its_base_comes_back(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base_model_name_or_path="Qwen/Qwen2-Audio-7B")
    start = adapted(base, adapter, tmp_path / "start")
    out = exported(start, tmp_path / "out", "--adapter", "--dtype=bfloat16")
    config = written(out)
    assert config["base_model_name_or_path"] == "Qwen/Qwen2-Audio-7B"
    assert config["target_modules"] == ["gate_proj", "o_proj"]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 4, 0.05)
    assert {str(tensor.dtype) for tensor in read_tensors(out).values()} == {"bfloat16"}


@pytest.mark.slow
def test_what_was_trained_beside_adapters_goes_along(base, tmp_path):
    adapters = [Adapter("decoder/blocks/gate", 2, 1.0)]
    start = imported(base, tmp_path / "import")
    whole = random_adapters(start, tmp_path / "whole", adapters)
    everything = parameters(whole)
    trained = {path: array for path, array in everything.items() if "lora_" in path}
    trained["decoder/embedding"] = everything["decoder/embedding"] + 1
    lora = training_on(start, tmp_path / "lora", trained, read_parts(whole))
    out = exported(lora, tmp_path / "out", "--adapter")
    assert written(out)["modules_to_save"] == ["model.language_model.embed_tokens"]
    again = parameters(adapted(base, out, tmp_path / "again"))
    np.testing.assert_array_equal(again["decoder/embedding"], trained["decoder/embedding"])

    trained["decoder/blocks/mlp_norm/scale"] = everything["decoder/blocks/mlp_norm/scale"]
    lora = training_on(start, tmp_path / "norms", trained, read_parts(whole))
    assert run("export", f"--checkpoint={lora}", f"--out={tmp_path / 'no'}", "--adapter") == 1


def training_on(start, out, trained, parts: Parts) -> pathlib.Path:
    """A run folder whose step has what was trained, and points to the start for the rest."""
    step = out / "checkpoints" / "5"
    write_checkpoint(step, trained.items(), 1)
    write_parts(out, parts)
    frozen = parameters(start).keys() - trained.keys()
    (step / "frozen").mkdir()
    content = {
        "step": str(last_step(start).absolute()),
        "relative": ".",
        "parameters": {path: {"fingerprint": ""} for path in frozen},
    }
    (step / "frozen" / "data.json").write_text(json.dumps(content))
    return out


@pytest.mark.parametrize("rslora", [False, True])
def test_a_run_is_told_how_to_train_it_on(base, tmp_path, capsys, rslora):
    pattern = {r"layers\.\d+\.self_attn\.o_proj": 5}
    adapter = write_adapter(tmp_path / "adapter", use_rslora=rslora, alpha_pattern=pattern)
    start = adapted(base, adapter, tmp_path / "start")
    scales = {adapter.path: adapter.scale for adapter in read_parts(start).adapters}
    divisor = 2**0.5 if rslora else 2
    assert scales == {"decoder/blocks/out": 5 / divisor, "decoder/blocks/gate": 4 / divisor}
    flag = "--config.lora.rslora=True " * rslora
    assert (
        f"to train it on: --config.lora.rank=2 --config.lora.alpha=5 {flag}"
        "--config.lora.dropout=0.05 "
        """--config.lora.targets='("^decoder/blocks/out$", "^decoder/blocks/gate$",)' """
        """--config.lora.alpha_pattern='{"^decoder/blocks/gate$": 4}'"""
    ) in capsys.readouterr().out


def test_alone_it_says_that_it_needs_its_base(base, tmp_path, capsys):
    adapter, out = write_adapter(tmp_path / "adapter"), tmp_path / "out"
    assert run("import", f"--source={adapter}", f"--out={out}") == 1
    assert f"on beside it: --source=BASE --source={adapter}\n" in capsys.readouterr().err
    twice = write_adapter(tmp_path / "another")
    sources = [f"--source={folder}" for folder in (base, adapter, twice)]
    assert run("import", *sources, f"--out={out}") == 1
    assert "both hold a PEFT adapter; a model has one at a time" in capsys.readouterr().err
    text = originals.qwen2(tmp_path / "text")
    assert run("import", f"--source={text}", f"--source={adapter}", f"--out={out}") == 1
    assert "only adapters of whole models" in capsys.readouterr().err
    assert not out.exists()


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
