"""What cannot be converted is told in one sentence that names it, and nothing is left behind."""

import json
import shutil

import numpy as np
import originals
import pytest
from converting import config_value, imported, read_tensors, run
from safetensors import safe_open
from safetensors.numpy import save_file

from qwen_audio_jax.text.control_tokens import END_OF_TEXT


def test_every_fault_is_named_at_once(tmp_path, capsys):
    source = originals.qwen2_audio(tmp_path / "source")
    shard = source / "model-0.safetensors"
    tensors = read_tensors(source)
    with safe_open(shard, "numpy") as opened:
        here = {name: tensors[name] for name in opened.keys()}  # noqa: SIM118
    missing, misshapen, whole = sorted(name for name in here if name.endswith("norm.weight"))[:3]
    del here[missing]
    here[misshapen] = np.zeros(13, np.float16)
    here[whole] = here[whole].astype(np.int32)
    here["visual.weight"] = np.zeros(1, np.float32)
    save_file(here, shard)
    assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 1
    error = capsys.readouterr().err
    for words in (
        f"missing: {missing} [{len(tensors[missing])}]",
        f"misshapen: {misshapen} is [13], and by config.json it should be "
        f"[{len(tensors[misshapen])}]",
        f"wrong dtype: {whole} is I32",
        "unexpected: visual.weight",
    ):
        assert words in error
    assert not (tmp_path / "out").exists()


def truncated(folder):
    path = folder / "model-1.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder):
    for path in folder.glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def without_shard(folder):
    index = {"weight_map": {"a": "model-0.safetensors", "b": "model-7.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated, "model-1.safetensors: is not a whole safetensors file"),
        (pickled, "its weights are pickled (model-0.bin)"),
        (without_shard, "names model-7.safetensors, which the folder lacks"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: is not JSON"),
        (config_value("model_type", "gemma"), "model_type is 'gemma'; known are"),
        (config_value("text_config/hidden_size", 20), "misshapen: language_model.model.norm"),
        (
            config_value("text_config/num_hidden_layers", 4),
            "missing: language_model.model.layers.3",
        ),
        (
            config_value("text_config/num_hidden_layers", 2),
            "unexpected: language_model.model.layer",
        ),
        (config_value("text_config/hidden_size", "16"), "must be a positive whole number"),
        (config_value("text_config/use_sliding_window", True), "use_sliding_window is True; only"),
        (config_value("audio_config/encoder_ffn_dim", 50), "encoder_ffn_dim is 50; only 48"),
        (config_value("audio_config/encoder_attention_heads", 5), "is not divided by 5 heads"),
        (
            config_value("text_config/rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
            "rotary scaling 'yarn' is not supported",
        ),
    ],
)
def test_a_bad_folder_is_told_in_a_sentence(tmp_path, capsys, change, message):
    source = originals.qwen2_audio(tmp_path / "source")
    change(source)
    assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def spoilt(folder, name, value):
    """Gives a tensor one weight of another value."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if name in tensors:
            tensors[name].reshape(-1)[-1] = value
            save_file(tensors, file, {"format": "pt"})
            return file.name
    raise AssertionError(name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["norm.weight", "layers.1.mlp.up_proj.weight"])
def test_weights_that_are_no_numbers_are_named(tmp_path, capfd, name, value):
    source = originals.qwen2_audio(tmp_path / "source", "float32")
    file = spoilt(source, f"language_model.model.{name}", value)
    assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 1
    said = capfd.readouterr().err
    assert f"{file}: language_model.model.{name}: " in said
    assert "NaN" in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_nor_are_they_exported(tmp_path, capfd, monkeypatch):
    source = originals.qwen2_audio(tmp_path / "source", "float32")
    spoilt(source, "language_model.model.norm.weight", 1e5)
    spoilt(source, "language_model.model.layers.1.mlp.up_proj.weight", np.nan)
    with monkeypatch.context() as patched:
        # A run that went wrong has such weights; an import would not take them.
        patched.setattr("qwen_audio_jax.conversion.importing.require_finite", lambda *_: None)
        checkpoint = imported(source, tmp_path / "checkpoint")
    capfd.readouterr()
    for option, name, says in (
        ("--shard-gb=1", "layers.1.mlp.up_proj", "1 of its 320 weights are NaN and 0 infinite"),
        ("--dtype=float16", "layers.1.mlp.up_proj", "1 of its 320 weights are NaN"),
    ):
        arguments = [f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}", option]
        assert run("export", *arguments) == 1
        said = capfd.readouterr().err
        assert f"checkpoints/0: language_model.model.{name}.weight: {says}" in said
        assert said.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "source"]


def test_a_cast_that_overflows_is_named(tmp_path, capfd):
    source = originals.qwen2_audio(tmp_path / "source", "float32")
    spoilt(source, "language_model.model.norm.weight", 1e5)
    checkpoint = imported(source, tmp_path / "checkpoint")
    capfd.readouterr()
    arguments = [f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}"]
    assert run("export", *arguments, "--dtype=float16") == 1
    said = capfd.readouterr().err
    assert "language_model.model.norm.weight: its largest weight is 1e+05, and float16 en" in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "source"]
    assert run("export", *arguments, "--dtype=bfloat16") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", ["inf", "nan", "0", "-1", "-inf", "1e300"])
def test_a_size_of_files_that_is_none(tmp_path, capsys, size):
    arguments = [f"--checkpoint={tmp_path}", f"--out={tmp_path / 'out'}", f"--shard-gb={size}"]
    assert run("export", *arguments) == 1
    assert "--shard-gb: must be a number of gigabytes above 0" in capsys.readouterr().err


def test_layers_of_different_dtypes_are_told_before_anything_is_read(tmp_path, capsys):
    source = originals.qwen2_audio(tmp_path / "source")
    file = source / "model-0.safetensors"
    with safe_open(file, "numpy") as opened:
        here = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    name = next(name for name in here if "layers.1." in name)
    save_file(here | {name: here[name].astype(np.float32)}, file, {"format": "pt"})
    assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 1
    assert "is BF16 in some layers and F32 in others" in capsys.readouterr().err


def test_a_run_folder_that_is_damaged(tmp_path, capfd):
    whole = imported(originals.qwen2_audio(tmp_path / "source"), tmp_path / "checkpoint")
    metadata = "checkpoints/0/state/_METADATA"
    model = json.loads((whole / "model.json").read_text())
    capfd.readouterr()
    for number, (name, content, says) in enumerate(
        (
            ("model.json", b"\xff", "model.json: is not a model description"),
            ("model.json", b"[" * 100_000, "model.json: is not a model description"),
            ("model.json", {"encoder": [1]}, "model.json: is not a model description"),
            ("model.json", {"audio_token": "60"}, "(audio_token is '60')"),
            ("model.json", {"decoder": model["decoder"] | {"layers": 10**18}}, "(layers is '1000"),
            ("model.json", {"decoder": model["decoder"] | {"norm_eps": "1"}}, "(norm_eps is '1')"),
            ("model.json", {"decoder": model["decoder"] | {"kv_heads": 3}}, "kv_heads must divide"),
            ("model.json", {"decoder": model["decoder"] | {"rope_high": 1.0}}, "rope_high must be"),
            ("model.json", {"decoder": model["decoder"] | {"tied": 1}}, "tied is '1'"),
            (
                "model.json",
                {"decoder": model["decoder"] | {"tied": True}},
                "unexpected: decoder/h",
            ),
            ("model.json", {"decoder": model["decoder"] | {"qk_norm": True}}, "has both biases"),
            ("model.json", {"encoder": model["encoder"] | {"heads": 5}}, "5 heads do not divide"),
            (metadata, b"{}", "_METADATA: has no 'tree_metadata'"),
            (metadata, {"tree_metadata": {"x": [1]}}, "_METADATA: 'x' is not what Orbax writes"),
            (metadata, {"tree_metadata": {}}, "missing: decoder/blocks/attention_norm/scale"),
            ("checkpoints/0/state/manifest.ocdbt", b"", "cannot be read, so the checkpoint is dam"),
            ("companions/generation_config.json", b"[", "generation_config.json: is not JSON"),
            ("companions/tokenizer_config.json", b"[]", "must hold a JSON object"),
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        (folder / name).parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps((model if name == "model.json" else {}) | content).encode()
        (folder / name).write_bytes(content)
        assert run("export", f"--checkpoint={folder}", f"--out={tmp_path / 'out'}") == 1
        said = capfd.readouterr().err
        assert says in said, said
        assert said.startswith("error: ")
        assert "Traceback" not in said
        assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_not_its_model(tmp_path, capsys):
    checkpoint = imported(originals.qwen2_audio(tmp_path / "source"), tmp_path / "checkpoint")
    path = checkpoint / "model.json"
    model = json.loads(path.read_text())
    model["decoder"]["width"] = 20
    path.write_text(json.dumps(model))
    assert run("export", f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}") == 1
    assert "misshapen: decoder/embedding is [64, 16]" in capsys.readouterr().err
    path.write_text('{"family": "llama", "encoder": null, "decoder": null}')
    assert run("export", f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}") == 1
    assert "family 'llama' is none of" in capsys.readouterr().err
    path.unlink()
    assert run("export", f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}") == 1
    assert "is neither a run folder nor" in capsys.readouterr().err


def test_a_family_refuses_what_it_has_no_place_for(tmp_path, capsys):
    for make, change, message in (
        (originals.qwen2_audio, {"family": "qwen_audio"}, "missing: delimiters"),
        (originals.qwen_audio, {"family": "qwen2_audio"}, "unexpected: delimiters"),
    ):
        checkpoint = imported(make(tmp_path / message), tmp_path / f"{message}2")
        path = checkpoint / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert run("export", f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}") == 1
        assert message in capsys.readouterr().err


def test_a_vocabulary_of_another_model(tmp_path, capsys):
    for number, (make, change, says) in enumerate(
        (
            (originals.qwen2, {"<big>": 10**9}, "has ids up to 1000000000 and the model 64 tokens"),
            (originals.qwen2_audio, {"<big>": 99}, "has 100 tokens and the model 64"),
            (originals.qwen2_audio, {}, "no control token '<|audio_bos|>', which a qwen2_audio mo"),
        )
    ):
        source = make(tmp_path / f"source-{number}")
        tokens = {END_OF_TEXT: 1} | change
        added = [{"content": name, "id": i, "special": True} for name, i in tokens.items()]
        model = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
        content = json.dumps({"added_tokens": added, "model": model})
        (source / "tokenizer.json").write_text(content)
        assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {source}: the ")
        assert says in said
        assert not (tmp_path / "out").exists()
