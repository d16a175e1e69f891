"""PEFT folders in and out, by names and numbers; what is not read here is told in a sentence."""

import dataclasses
import json
import pathlib

import numpy as np
import originals
import pytest
from adapter_folders import adapted, pair, write_adapter, written
from converting import exported, imported, read_tensors, run, same

from qwen_audio_jax.checkpoint import last_step
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.models.parts import Parts, read_parts, write_parts
from qwen_audio_jax.models.presets import Adapter
from qwen_audio_jax.saved_parameters import SavedParameters


def parameters(folder) -> dict[str, np.ndarray]:
    saved = SavedParameters(last_step(folder))
    return {path: saved.read(path, store) for path, store in saved.stores.items()}


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
