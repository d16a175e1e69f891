"""Conversion both ways keeps every bit, recognises what it is given, and says what is wrong."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import originals
import pytest
from orbax.checkpoint import v1 as ocp
from originals import ENCODER
from safetensors import safe_open
from safetensors.numpy import save_file

from qwen_audio_jax import convert
from qwen_audio_jax.checkpoint import last_step, saved_shapes
from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.parts import path_name, read_parts
from qwen_audio_jax.text.control_tokens import END_OF_TEXT


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    tensors = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return tensors


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def run(*arguments) -> int:
    return convert.main([str(argument) for argument in arguments])


def imported(source, out):
    assert run("import", f"--source={source}", f"--out={out}") == 0
    return out


def exported(checkpoint, out, *options):
    assert run("export", f"--checkpoint={checkpoint}", f"--out={out}", *options) == 0
    return out


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("make", [originals.qwen_audio, originals.qwen2_audio])
def test_there_and_back_keeps_every_bit(tmp_path, make, dtype):
    source = make(tmp_path / "source", dtype)
    first = imported(source, tmp_path / "first")
    out = exported(first, tmp_path / "out", "--shard-gb=0.000008")
    assert len(list(out.glob("*.safetensors"))) > 2
    assert max(file.stat().st_size for file in out.glob("*.safetensors")) < 12_000
    assert same(read_tensors(out), read_tensors(source))
    again = imported(out, tmp_path / "again")
    assert read_parts(first) == read_parts(again)
    assert same(flat(first), flat(again))


def flat(folder):
    """Parameters of a checkpoint by path."""
    state = ocp.load_checkpointables(last_step(folder), {"state": None})["state"]
    leaves = jax.tree_util.tree_leaves_with_path(state["parameters"])
    return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


def test_both_spellings_of_qwen2_audio_are_one_model(tmp_path):
    published = load_original(originals.qwen2_audio(tmp_path / "published"))
    in_memory = load_original(originals.qwen2_audio(tmp_path / "in_memory", in_memory=True))
    assert published[0] == in_memory[0]
    assert str(published[1]) == str(in_memory[1])


def test_export_casts_when_asked(tmp_path):
    source = originals.qwen2_audio(tmp_path / "source", "float32")
    checkpoint = imported(source, tmp_path / "checkpoint")
    out = exported(checkpoint, tmp_path / "out", "--dtype=bfloat16")
    for name, tensor in read_tensors(out).items():
        expected = read_tensors(source)[name].astype(tensor.dtype)
        assert tensor.dtype.name == "bfloat16"
        assert tensor.tobytes() == expected.tobytes()
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_tables_are_the_originals_one_to_one(references, family):
    """Names and shapes of all 749 and 876 tensors, and every parameter used once."""
    from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
    from qwen_audio_jax.models.parts import Parts
    from qwen_audio_jax.models.presets import preset_parts

    table = json.loads((references / f"golden/names_shapes_{family}.json").read_text())["tensors"]
    name, rows, vocabulary = {
        "v1": ("qwen_audio", names.qwen_audio(), 155947),
        "v2": ("qwen2_audio", names.qwen2_audio(), 156032),
    }[family]
    parts = Parts(name, *preset_parts(f"{name}_7b", name, vocabulary))
    parameters = parameter_shapes(parts)
    ours = tensor_shapes(rows, parameters)
    assert {key: list(shape) for key, shape in ours.items()} == {
        key: value["shape"] if isinstance(value, dict) else value[0] for key, value in table.items()
    }
    assert sorted(row.path for row in rows) == sorted(parameters)
    assert sum(map(np.prod, ours.values())) == sum(map(np.prod, parameters.values()))
    if family == "v2":
        in_memory = tensor_shapes(names.qwen2_audio(in_memory=True), parameters)
        assert in_memory.keys() == {value["module_name_transformers_5"] for value in table.values()}


@pytest.mark.parametrize(
    ("rows", "config"),
    [
        (names.transformers_encoder("model.encoder."), originals.WHISPER),
        (names.transformers_encoder("encoder."), originals.WHISPER),
        (names.openai_encoder("encoder."), originals.WHISPER),
        (
            names.openai_encoder("encoder."),
            {
                "n_mels": 8,
                "n_audio_ctx": 20,
                "n_audio_state": 12,
                "n_audio_head": 3,
                "n_audio_layer": 2,
            },
        ),
    ],
)
def test_whisper_under_all_its_names(tmp_path, rows, config):
    parts, parameters = load_original(originals.whisper(tmp_path / "whisper", rows, config))
    assert parts.encoder == ENCODER
    assert not parts.whole
    assert list(parameters) == ["encoder"]


def test_encoder_and_decoder_together_start_a_model(tmp_path, capsys):
    whisper = originals.whisper(tmp_path / "whisper")
    for decoder in (originals.qwen2(tmp_path / "qwen2"), originals.qwen(tmp_path / "qwen")):
        out = tmp_path / f"start-{decoder.name}"
        assert run("import", f"--source={whisper}", f"--source={decoder}", f"--out={out}") == 0
        parts = read_parts(out)
        assert parts.encoder == ENCODER
        assert parts.family == ""
        paths = saved_shapes(last_step(out))
        assert {path.split("/")[0] for path in paths} == {"encoder", "decoder"}
        assert "--config.init_from=" in capsys.readouterr().out
    assert read_parts(tmp_path / "start-qwen2").decoder.rope_base == 1e6
    log_n = read_parts(tmp_path / "start-qwen").decoder
    assert (log_n.log_n, log_n.trained_length, log_n.mlp_width) == (True, 32, 20)
    assert run("import", f"--source={whisper}", f"--source={whisper}", f"--out={out}2") == 1
    assert "both have an encoder" in capsys.readouterr().err
    assert run("export", f"--checkpoint={out}", f"--out={out}3") == 1
    assert "is a part of a model" in capsys.readouterr().err


def without(folder, name):
    """Takes a tensor out of a folder."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if tensors.pop(name, None) is not None:
            save_file(tensors, file, {"format": "pt"})


TIED_AUDIO = (
    (originals.qwen2_audio, "language_model.lm_head.weight"),
    (functools.partial(originals.qwen2_audio, in_memory=True), "lm_head.weight"),
)
TIED = (
    *TIED_AUDIO,
    (originals.qwen_audio, "lm_head.weight"),
    (originals.qwen2, "lm_head.weight"),
    (originals.qwen, "lm_head.weight"),
)


@pytest.mark.parametrize(
    ("make", "head", "level"),
    [(*case, "") for case in TIED] + [(*case, "text_config/") for case in TIED_AUDIO],
)
def test_tied_embeddings_become_a_head(tmp_path, capsys, make, head, level):
    folder = make(tmp_path / "tied")
    without(folder, head)
    inner = "text_config/tie_word_embeddings"
    for key in ["tie_word_embeddings", *([inner] if "qwen2_audio" in str(make) else [])]:
        config_value(key, None)(folder)
    assert run("import", f"--source={folder}", f"--out={tmp_path / 'no'}") == 1
    assert f"missing: {head}" in capsys.readouterr().err
    config_value(f"{level}tie_word_embeddings", True)(folder)
    decoder = load_original(folder)[1]["decoder"]
    np.testing.assert_array_equal(decoder["head"], decoder["embedding"].T)


@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True)])
def test_tied_and_not_tied(tmp_path, capsys, outer, inner):
    folder = originals.qwen2_audio(tmp_path / "source")
    config_value("tie_word_embeddings", outer)(folder)
    config_value("text_config/tie_word_embeddings", inner)(folder)
    head = load_original(folder)[1]["decoder"]["head"]
    name = "language_model.lm_head.weight"
    np.testing.assert_array_equal(head, read_tensors(folder)[name].T)
    without(folder, name)
    assert run("import", f"--source={folder}", f"--out={tmp_path / 'no'}") == 1
    said = capsys.readouterr().err
    assert f"{str(inner).lower()} in {folder / 'config.json'}, text_config and " in said
    assert f"{str(outer).lower()} in {folder / 'config.json'}, and no tensor is the head" in said


def test_a_tied_model_goes_there_and_back_with_a_head_of_its_own(tmp_path):
    source = originals.qwen2_audio(tmp_path / "source")
    without(source, "language_model.lm_head.weight")
    config_value("text_config/tie_word_embeddings", True)(source)
    out = exported(imported(source, tmp_path / "checkpoint"), tmp_path / "out")
    tensors = read_tensors(source)
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"]
    assert same(read_tensors(out), tensors)
    config = json.loads((out / "config.json").read_text())
    assert config["text_config"]["tie_word_embeddings"] is False


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


def config_value(key, value):
    def change(folder):
        path = folder / "config.json"
        config = json.loads(path.read_text())
        *groups, last = key.split("/")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
        path.write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated, "model-1.safetensors: is not a whole safetensors file"),
        (pickled, "its weights are pickled (model-0.bin)"),
        (without_shard, "names model-7.safetensors, which the folder lacks"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: is not JSON"),
        (config_value("model_type", "llama"), "model_type is 'llama'; known are"),
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


def test_nothing_is_overwritten_and_the_disk_is_asked_first(tmp_path, capsys, monkeypatch):
    source = originals.qwen_audio(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 1
    assert "is there already" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert run("import", f"--source={source}", f"--out={tmp_path / 'new'}") == 1
    assert "and the disk has 0.0 GB free" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_write_that_fails_leaves_nothing(tmp_path):
    """The real error of a file that cannot grow, as on a full disk."""
    source = originals.qwen_audio(tmp_path / "source", "float32")
    checkpoint = imported(source, tmp_path / "checkpoint")
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from qwen_audio_jax.convert import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for command, given, out in (
        ("export", f"--checkpoint={checkpoint}", "exported"),
        ("import", f"--source={source}", "imported"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, command, given, f"--out={out}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "error: " in done.stderr
        assert "File too large" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "source"]


def test_killed_conversion_does_not_look_finished(tmp_path):
    source = originals.qwen_audio(tmp_path / "source", "float32")
    checkpoint = imported(source, tmp_path / "checkpoint")
    script = (
        "import time, qwen_audio_jax.conversion.exporting as e\n"
        "write = e.companions.write\n"
        "e.companions.write = lambda *a: (print('now', flush=True), time.sleep(60))\n"
        f"e.run(__import__('pathlib').Path({str(checkpoint)!r}), "
        f"__import__('pathlib').Path({str(tmp_path / 'out')!r}), None, 5.0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith("out")]
    assert len(left) == 1
    assert ".unfinished-" in left[0]
    exported(checkpoint, tmp_path / "out")
    assert same(read_tensors(tmp_path / "out"), read_tensors(source))


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


def test_a_decoder_without_vocabulary_is_told(tmp_path, capsys):
    imported(originals.qwen2(tmp_path / "source"), tmp_path / "out")
    assert "no vocabulary: " in capsys.readouterr().out


def test_a_folder_whose_name_is_no_text(tmp_path):
    folder = pathlib.Path(os.fsdecode(bytes(tmp_path / "whisper") + b"-\xff"))
    options = [f"--source={originals.whisper(folder)}", f"--out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "qwen_audio_jax.convert", "import", *options],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_companions_are_kept(tmp_path):
    source = originals.qwen2_audio(tmp_path / "source")
    (source / "generation_config.json").write_text('{"repetition_penalty": 1.1}')
    (source / "chat_template.json").write_text('{"chat_template": "x"}')
    out = exported(imported(source, tmp_path / "checkpoint"), tmp_path / "out")
    assert json.loads((out / "generation_config.json").read_text()) == {"repetition_penalty": 1.1}
    assert (out / "chat_template.json").is_file()


def test_help_teaches():
    for command in ([], ["import"], ["export"]):
        done = subprocess.run(
            [sys.executable, "-m", "qwen_audio_jax.convert", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "safetensors" in done.stdout or "PyTorch" in done.stdout
