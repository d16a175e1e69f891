"""Whole runs that start from weights and keep a part of them frozen."""

import dataclasses
import hashlib
import json
import random
import shutil
import signal

import jax
import numpy as np
import pytest
from commands import finished, losses, started, wait_for
from conftest import changed, pretrain_values, tiny_config, write_corpus
from flax import nnx

from qwen_audio_jax import convert, frozen_base
from qwen_audio_jax.checkpoint import by_path, last_step
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.models.parts import Parts, write_parts
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig, model_config
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import make_mesh, shardings
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.start import check_start, missing
from qwen_audio_jax.training.step import Recipe, make_init
from qwen_audio_jax.training.workdir import check_config

STEPS = 12
# Of the decoder, its last layer and the rows of its new tokens are trained.
FROZEN = ("^encoder/", "^decoder/blocks[0:2]", "^decoder/(embedding|head)$")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, data/tones, and an encoder and a decoder to start from, start."""
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "data" / "tones", train=24)
    tokenizer = load_tokenizer(folder / "data" / "tones" / "tokenizer")
    write_start(folder / "start", tokenizer, seed=5)
    return folder


def write_start(folder, tokenizer, seed):
    """What `convert import` would make of two small models."""
    parts = Parts(
        encoder=EncoderConfig(mel_bins=16, layers=2, width=24, heads=3, max_positions=64),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size,
            layers=3,
            width=32,
            heads=4,
            kv_heads=2,
            head_dim=8,
            mlp_width=48,
            first_new_token=tokenizer.vocab_size - 4,
        ),
    )
    model = model_config("qwen2_audio", parts.encoder, parts.decoder, audio_begin=0, audio_end=1)
    whole = nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(seed)))[1])
    leaves = {
        path: np.asarray(leaf)
        for path, leaf in by_path(whole).items()
        if path.startswith(("encoder/", "decoder/"))
    }
    write_checkpoint(folder / "checkpoints" / "0", iter(leaves.items()), 1)
    write_parts(folder, parts)
    tokenizer.save(folder / "tokenizer")


def options(place):
    frozen = ", ".join(f'"{pattern}"' for pattern in FROZEN)
    return {
        "init_from": place / "start",
        "optimizer.frozen": f"({frozen})",
        "train.steps": STEPS,
        "checkpoint.every": 2,
    }


def config(place, **more):
    """The same for a run in this process."""
    values = pretrain_values()
    for key, value in (
        {
            "data.root": str(place / "data"),
            "data.mixture": {"tones": 1.0},
            "data.shapes": ((4, 64, 128),),
            "data.workers": 0,
            "optimizer.warmup_steps": 3,
            "train.steps": STEPS,
            "checkpoint.every": 2,
            "init_from": str(place / "start"),
            "optimizer.frozen": FROZEN,
        }
        | more
    ).items():
        values = changed(values, key, value)
    return from_mapping(values)


@pytest.fixture(scope="module")
def uninterrupted(place):
    workdir = place / "uninterrupted"
    loop.run(config(place), workdir)
    return workdir


def parameters(workdir):
    saved = SavedParameters(last_step(workdir))
    return {path: saved.read(path, store) for path, store in saved.stores.items()}


def content(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(place, uninterrupted, tmp_path):
    # Before the fifth step's line, the checkpoint of the second is complete.
    workdir, kill_after = tmp_path / "killed", random.randint(5, STEPS - 2)
    process = started(place / "data", workdir, environment={}, **options(place))
    wait_for(process, workdir, kill_after)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"was over before it could be killed: {errors}"
    # It goes on where what it started from now lies.
    shutil.copytree(place / "start", tmp_path / "moved")
    done = finished(place / "data", workdir, **options(place) | {"init_from": tmp_path / "moved"})
    assert "Some donated buffers" not in done.stderr
    assert losses(workdir) == losses(uninterrupted)
    one, other = parameters(workdir), parameters(uninterrupted)
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], other[path])
    pointer = json.loads((last_step(workdir) / "frozen" / "data.json").read_text())
    assert pointer["step"] == str(tmp_path / "moved" / "checkpoints" / "0")
    # Whoever types the first command again is told where it went on from.
    with pytest.raises(ConfigError, match=f"last start of this run had {tmp_path / 'moved'} there"):
        check_config(workdir, config(place, init_from=str(tmp_path / "gone")))


def test_an_export_is_that_of_the_run_with_everything_written(
    place, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen_base, "keep", lambda *_: False)
    whole = tmp_path / "whole"
    loop.run(config(place), whole)
    assert not (last_step(whole) / "frozen").exists()
    assert losses(whole) == losses(uninterrupted)
    for workdir in (whole, uninterrupted):
        out = tmp_path / f"exported-{workdir.name}"
        assert convert.main(["export", f"--checkpoint={workdir}", f"--out={out}"]) == 0
    one = content(tmp_path / "exported-whole")
    assert one == content(tmp_path / "exported-uninterrupted")
    assert "model.safetensors" in one


def test_an_export_finds_what_was_moved(place, uninterrupted, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    pointer = last_step(workdir) / "frozen" / "data.json"
    nowhere = {"step": str(tmp_path / "nowhere" / "checkpoints" / "0"), "relative": "nowhere"}
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | nowhere))
    export = ["export", f"--checkpoint={workdir}", f"--out={tmp_path / 'out'}"]
    assert convert.main(export) == 1
    assert "with --init-from=DIR to export" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert convert.main([*export, f"--init-from={place / 'start'}"]) == 0
    assert "model.safetensors" in content(tmp_path / "out")


class TestRefused:
    """Before anything is written, and in one sentence."""

    @pytest.fixture
    def workdir(self, uninterrupted, tmp_path):
        """A copy of the run, to be gone on with from its tenth step."""
        workdir = tmp_path / "run"
        shutil.copytree(uninterrupted, workdir)
        shutil.rmtree(workdir / "checkpoints" / str(STEPS))
        return workdir

    def refused(self, workdir, place, says, **more):
        before = content(workdir)
        with pytest.raises(ValueError, match=says) as error:
            loop.run(config(place, **more), workdir)
        assert "\n" not in str(error.value)
        assert content(workdir) == before

    def test_other_weights(self, place, workdir, tmp_path):
        tokenizer = load_tokenizer(place / "start" / "tokenizer")
        write_start(tmp_path / "other", tokenizer, seed=6)
        says = r"other/checkpoints/0: is not what the run started from .*: decoder/blocks/"
        self.refused(workdir, place, says, init_from=str(tmp_path / "other"))

    def test_no_weights(self, place, workdir, tmp_path):
        says = r"config\.init_from: .*nowhere: holds no checkpoint"
        self.refused(workdir, place, says, init_from=str(tmp_path / "nowhere"))

    def test_its_own_folder(self, place, workdir):
        for folder in (workdir, workdir / "checkpoints" / "10"):
            with pytest.raises(ConfigError, match="is the run's own folder; name another"):
                check_start(config(place, init_from=str(folder)), workdir)


def test_only_what_is_missing_is_drawn_and_as_ever():
    values = from_mapping(pretrain_values()).optimizer
    optimizer = dataclasses.replace(values, frozen=("^encoder/", "^decoder/blocks[0:1]"))
    _, init = make_init(Recipe(tiny_config("qwen2_audio"), optimizer, steps=20, seed=3))
    mesh = make_mesh({"replica": 1, "fsdp": -1, "tensor": 1}, jax.devices()[:1])
    layout = shardings(jax.eval_shape(init), mesh)
    loaded = [
        {path for path in by_path(tree) if "projector" not in path}
        for tree in (layout.parameters, layout.frozen)
    ]
    program, everything = missing(init, layout, *loaded).lower().compile(), jax.jit(init).lower()
    made, whole = program(), everything.compile()()
    assert by_path(made.parameters).keys() == {"projector/kernel", "projector/bias"}
    assert not by_path(made.frozen)
    for path, leaf in by_path(made.parameters).items():
        np.testing.assert_array_equal(leaf, by_path(whole.parameters)[path])
    spent = [one.cost_analysis()["flops"] for one in (program, everything.compile())]
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(one.parameters)) for one in (made, whole)]
    assert spent[0] < 2 * spent[1] * sizes[0] / sizes[1]
