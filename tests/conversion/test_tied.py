"""A model whose head is its word embedding is read, of whatever kind it is."""

import functools
import json
import re

import numpy as np
import originals
import pytest
from converting import config_value, exported, imported, read_tensors, run, same, without
from safetensors.numpy import load_file, save_file

from qwen_audio_jax.checkpoint import last_step, saved_shapes
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.conversion.sources import open_source
from qwen_audio_jax.models.parts import read_parts

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
def test_tied_embeddings_are_one_array(tmp_path, capsys, make, head, level):
    folder = make(tmp_path / "tied")
    without(folder, head)
    inner = "text_config/tie_word_embeddings"
    for key in ["tie_word_embeddings", *([inner] if "qwen2_audio" in str(make) else [])]:
        config_value(key, None)(folder)
    assert run("import", f"--source={folder}", f"--out={tmp_path / 'no'}") == 1
    said = capsys.readouterr().err
    assert re.search(rf"missing: {head} .*; with tie_word_embeddings true it is the word emb", said)
    config_value(f"{level}tie_word_embeddings", True)(folder)
    parts, parameters = load_original(folder)
    assert parts.decoder.tied
    assert "head" not in parameters["decoder"]
    assert parameters["decoder"]["embedding"].shape == (64, 16)


@pytest.mark.parametrize("make", [originals.qwen2_audio, originals.qwen_audio, originals.qwen2])
def test_a_head_that_repeats_the_embedding_is_tied_where_it_is_said(tmp_path, make):
    folder = make(tmp_path / "source", "float32")
    (file,) = [
        file for file in folder.glob("*.safetensors") if "lm_head" in str(load_file(file).keys())
    ]
    head = next(name for name in load_file(file) if "lm_head" in name)
    tensors = read_tensors(folder)
    embedding = next(tensors[name] for name in tensors if re.search("embed_tokens|wte", name))
    save_file(load_file(file) | {head: embedding}, file, {"format": "pt"})
    assert not open_source(folder).parts.decoder.tied
    config_value("tie_word_embeddings", True)(folder)
    source = open_source(folder)
    assert source.parts.decoder.tied
    assert head not in source.tensors
    # In one bit another, and it is a head of its own; for Qwen-Audio a contradiction.
    differs = embedding.copy()
    differs.view(np.uint32)[-1, -1] ^= 1
    save_file(load_file(file) | {head: differs}, file, {"format": "pt"})
    if make is originals.qwen_audio:
        with pytest.raises(ConversionError, match="tie_word_embeddings is True; only False"):
            open_source(folder)
    else:
        source = open_source(folder)
        assert not source.parts.decoder.tied
        assert head in source.tensors


def test_tied_without_an_embedding(tmp_path, capsys):
    folder = originals.qwen2(tmp_path / "tied", tied=True)
    without(folder, "model.embed_tokens.weight")
    assert run("import", f"--source={folder}", f"--out={tmp_path / 'no'}") == 1
    assert "missing: model.embed_tokens.weight [64, 16]" in capsys.readouterr().err


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


def test_a_tied_model_goes_there_and_back(tmp_path):
    """An export has the head too, since transformers' Qwen2-Audio ties none and would draw it."""
    source = originals.qwen2_audio(tmp_path / "source")
    without(source, "language_model.lm_head.weight")
    config_value("text_config/tie_word_embeddings", True)(source)
    checkpoint = imported(source, tmp_path / "checkpoint")
    assert "decoder/head" not in saved_shapes(last_step(checkpoint))
    out = exported(checkpoint, tmp_path / "out")
    tensors = read_tensors(source)
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"]
    assert same(read_tensors(out), tensors)
    config = json.loads((out / "config.json").read_text())
    assert config["text_config"]["tie_word_embeddings"] is True
    again = imported(out, tmp_path / "again")
    assert read_parts(again) == read_parts(checkpoint)
    assert same(read_tensors(exported(again, tmp_path / "once_more")), tensors)


def test_a_run_of_before_heads_were_tied_has_both_arrays(tmp_path):
    source = originals.qwen2_audio(tmp_path / "source")
    checkpoint = imported(source, tmp_path / "checkpoint")
    values = json.loads((checkpoint / "model.json").read_text())
    for key in ("tied", "qkv_bias", "qk_norm"):
        del values["decoder"][key]
    for key in [key for key in values["decoder"] if key.startswith("rope_") and key != "rope_base"]:
        del values["decoder"][key]
    before = read_parts(checkpoint)
    (checkpoint / "model.json").write_text(json.dumps(values))
    assert read_parts(checkpoint) == before
    assert same(read_tensors(exported(checkpoint, tmp_path / "out")), read_tensors(source))
