"""A model whose head is its word embedding is read, of whatever kind it is."""

import functools
import json

import numpy as np
import originals
import pytest
from converting import config_value, exported, imported, read_tensors, run, same, without

from qwen_audio_jax.conversion.importing import load_original

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
