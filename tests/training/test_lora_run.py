"""Whole runs with adapters: their checkpoints, how they go on, what they are exported as."""

import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest
from conftest import changed, on_eight_devices, pretrain_values, tiny_config, write_corpus
from flax import nnx

from qwen_audio_jax import convert
from qwen_audio_jax.checkpoint import by_path, last_step
from qwen_audio_jax.conversion.importing import load_original, write_checkpoint
from qwen_audio_jax.models.adapters import is_adapter, merged
from qwen_audio_jax.models.parts import Parts, parts_of, read_parts, write_parts
from qwen_audio_jax.models.presets import model_config
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.start import check_start

LORA = {"lora.rank": 3, "lora.alpha": 6.0, "lora.dropout": 0.1}
NEW = 4
"""Tokens at the end of the vocabulary that an import is said to have added."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, data/tones, and a model to start from, start."""
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "data" / "tones", train=24)
    tokenizer = load_tokenizer(folder / "data" / "tones" / "tokenizer")
    size, width = tokenizer.vocab_size, dict(layers=2, width=32, heads=4, kv_heads=2)
    tiny = tiny_config(
        "qwen2_audio",
        vocab_size=size,
        head_dim=8,
        mlp_width=48,
        first_new_token=size - NEW,
        **width,
    )
    begin, end = map(tokenizer.special, ("<|audio_bos|>", "<|audio_eos|>"))
    model = model_config(
        "qwen2_audio", tiny.encoder, tiny.decoder, audio_begin=begin, audio_end=end
    )
    leaves = by_path(nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(5)))[1]))
    parts = parts_of(model, tokenizer.special("<|AUDIO|>"))
    write(folder / "start", leaves, parts, tokenizer)
    write(
        folder / "parts",
        {path: x for path, x in leaves.items() if not path.startswith("projector")},
        Parts(encoder=parts.encoder, decoder=parts.decoder),
        tokenizer,
    )
    return folder


def write(folder, leaves, parts, tokenizer):
    arrays = {path: np.asarray(leaf) for path, leaf in leaves.items()}
    write_checkpoint(folder / "checkpoints" / "0", iter(arrays.items()), 1)
    write_parts(folder, parts)
    tokenizer.save(folder / "tokenizer")


def config(place, **more):
    values = pretrain_values()
    options = {
        "data.root": str(place / "data"),
        "data.mixture": {"tones": 1.0},
        "data.shapes": ((8, 64, 128),),
        "data.workers": 0,
        "optimizer.warmup_steps": 1,
        "train.steps": 6,
        "checkpoint.every": 2,
        "checkpoint.keep": 3,
        "init_from": str(place / "start"),
    }
    for key, value in (options | LORA | more).items():
        values = changed(values, key, value)
    return from_mapping(values)


@pytest.fixture(scope="module")
def run(place) -> pathlib.Path:
    workdir = place / "run"
    loop.run(config(place), workdir)
    return workdir


def parameters(folder):
    saved = SavedParameters(last_step(folder))
    return {path: saved.read(path, store) for path, store in saved.stores.items()}


def interrupted(run, workdir):
    """A copy of a run that was stopped after its second step."""
    shutil.copytree(run, workdir)
    for step in (4, 6):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    return workdir


def test_checkpoints_hold_adapters_and_new_rows_alone(place, run):
    saved = SavedParameters(last_step(run))
    own = set(saved._names())
    tables = {"decoder/embedding", "decoder/head"}
    assert own - tables == {path for path in saved.stores if is_adapter(path)}
    assert tables < own
    assert len(own) == 2 * 7 + 2
    assert saved._open("decoder/embedding").shape == (NEW, 32)
    # The model itself is as it was, to the bit; what is trained is not.
    before, after = parameters(place / "start"), parameters(run)
    for path, array in before.items():
        if path == "decoder/head":
            np.testing.assert_array_equal(after[path][:, :-NEW], array[:, :-NEW])
            assert not np.array_equal(after[path], array)
        elif path == "decoder/embedding":
            np.testing.assert_array_equal(after[path][:-NEW], array[:-NEW])
        else:
            np.testing.assert_array_equal(after[path], array)
    assert all(after[path].any() for path in after.keys() - before.keys())
    assert {a.path for a in read_parts(run).adapters} == {
        path.removesuffix("/lora_a") for path in after if path.endswith("lora_a")
    }


@pytest.mark.slow
def test_resumed_is_bit_identical(place, run, tmp_path):
    """With its dropout."""
    workdir = interrupted(run, tmp_path / "resumed")
    loop.run(config(place), workdir)
    one, other = parameters(run), parameters(workdir)
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], other[path])


@pytest.mark.slow
@on_eight_devices
def test_resumed_on_another_mesh_is_the_same(place, run, tmp_path):
    workdir = interrupted(run, tmp_path / "resumed")
    mesh = {"mesh.replica": 2, "mesh.fsdp": 2, "mesh.tensor": 2}
    loop.run(config(place, **mesh), workdir)
    one, other = parameters(run), parameters(workdir)
    for path in one:
        np.testing.assert_allclose(one[path], other[path], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_run_starts_with_the_adapters_of_another(place, run, tmp_path):
    """And finds the model through it, in the place that it started from."""
    again = config(
        place,
        init_from=str(run),
        **{
            "train.steps": 2,
            "optimizer.learning_rate": 1e-12,
            "optimizer.final_learning_rate": 0.0,
        },
    )
    loop.run(again, tmp_path / "again")
    one, other = parameters(run), parameters(tmp_path / "again")
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_allclose(one[path], other[path], rtol=0, atol=1e-9)
    assert "decoder/blocks/up/lora_a" in set(
        SavedParameters(last_step(tmp_path / "again"))._names()
    )


@pytest.mark.parametrize(
    ("start", "changes", "sentence"),
    [
        (
            "run",
            {"lora.rank": 0},
            "decoder/blocks/down has an adapter of rank 3, scale 2 in .*run "
            "and no adapter here; give the config.lora",
        ),
        (
            "run",
            {"lora.alpha": 3.0},
            "of rank 3, scale 2 in .*run and an adapter of rank 3, scale 1",
        ),
        ("run", {"lora.targets": ("query",)}, "decoder/blocks/down .* no adapter here"),
        ("", {}, "config.lora: .* config.init_from names none"),
        ("parts", {}, r"has no projector, .* add --config.lora.train='\(\"\^projector\",\)'"),
        ("start", {"lora.targets": ("^decoder/blocks/q_proj",)}, "config.lora.targets: .* did you"),
    ],
)
def test_what_it_cannot_start_from_is_a_sentence(place, run, tmp_path, start, changes, sentence):
    init_from = str(place / start) if start else ""
    wrong = config(place, init_from=init_from, **changes)
    with pytest.raises(ConfigError, match=sentence):
        check_start(wrong, tmp_path / "never")
    with pytest.raises(ConfigError, match=sentence):
        loop.run(wrong, tmp_path / "never")
    assert not (tmp_path / "never" / "config.json").exists()


def test_an_export_is_merged_and_rounded_once(run, tmp_path):
    after = parameters(run)
    scale = read_parts(run).adapters[0].scale
    for dtype in ("float32", "bfloat16"):
        out = tmp_path / dtype
        command = ["export", f"--checkpoint={run}", f"--out={out}", f"--dtype={dtype}"]
        assert convert.main(command) == 0
        parts, exported = load_original(out)
        exported = by_path(exported)
        assert parts.adapters == ()
        assert exported.keys() == {path for path in after if not is_adapter(path)}
        for path, array in exported.items():
            linear, expected = path.removesuffix("/kernel"), after[path]
            if f"{linear}/lora_a" in after:
                both = (after[f"{linear}/{name}"] for name in ("lora_a", "lora_b"))
                expected = merged(after[path], *both, scale)
                assert np.abs(expected - after[path]).max() > 1e-4
            rounded = np.asarray(expected).astype(getattr(ml_dtypes, dtype, np.float32))
            largest = np.abs(expected).max()
            np.testing.assert_allclose(
                np.asarray(array, np.float32), rounded.astype(np.float32), atol=1e-6 * largest
            )
