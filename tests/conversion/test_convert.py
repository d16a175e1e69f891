"""Conversion both ways keeps every bit, recognises what it is given, and overwrites nothing."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import originals
import pytest
from converting import exported, imported, read_tensors, run, same
from orbax.checkpoint import v1 as ocp
from originals import ENCODER
from safetensors import safe_open
from safetensors.numpy import save_file

from qwen_audio_jax.checkpoint import last_step, saved_shapes
from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.parts import path_name, read_parts


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
    name, rows_of, vocabulary = {
        "v1": ("qwen_audio", names.qwen_audio, 155947),
        "v2": ("qwen2_audio", names.qwen2_audio, 156032),
    }[family]
    parts = Parts(name, *preset_parts(f"{name}_7b", name, vocabulary))
    rows = rows_of(parts.decoder)
    parameters = parameter_shapes(parts)
    ours = tensor_shapes(rows, parameters)
    assert {key: list(shape) for key, shape in ours.items()} == {
        key: value["shape"] if isinstance(value, dict) else value[0] for key, value in table.items()
    }
    assert sorted(row.path for row in rows) == sorted(parameters)
    assert sum(map(np.prod, ours.values())) == sum(map(np.prod, parameters.values()))
    if family == "v2":
        in_memory = tensor_shapes(rows_of(parts.decoder, in_memory=True), parameters)
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
    assert parts.encoder == dataclasses.replace(ENCODER, window="window")
    assert not parts.whole
    assert list(parameters) == ["encoder"]


def test_encoder_and_decoder_together_start_a_model(tmp_path, capsys):
    whisper = originals.whisper(tmp_path / "whisper")
    for decoder in (originals.qwen2(tmp_path / "qwen2"), originals.qwen(tmp_path / "qwen")):
        out = tmp_path / f"start-{decoder.name}"
        assert run("import", f"--source={whisper}", f"--source={decoder}", f"--out={out}") == 0
        parts = read_parts(out)
        assert parts.encoder == dataclasses.replace(ENCODER, window="window")
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


def test_the_dtype_of_a_mixed_model_holds_all_of_it(tmp_path):
    """Each tensor keeps its own; transformers loads all in the one that config.json names."""
    source = originals.qwen2_audio(tmp_path / "source", "bfloat16")
    for file in source.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        halves = {
            name: tensor.astype(np.float16) if "audio_tower" in name else tensor
            for name, tensor in tensors.items()
        }
        save_file(halves, file, {"format": "pt"})
    out = exported(imported(source, tmp_path / "checkpoint"), tmp_path / "out")
    assert same(read_tensors(out), read_tensors(source))
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float32"
