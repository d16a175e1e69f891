"""A run that starts from an encoder and a language model: what it says, scales and refuses."""

import dataclasses
import logging

import jax
import numpy as np
import originals
import pytest
from byte_vocabulary import byte_vocabulary
from conftest import changed, flac, pretrain_values, tiny_config
from converting import run

from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.models.cuts import merge
from qwen_audio_jax.models.parts import Parts, parts_of, write_parts
from qwen_audio_jax.monitoring.goodput import Clock
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import ConfigError, from_mapping, to_json
from qwen_audio_jax.text.control_tokens import control_tokens
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.start import restore_or_init, tell_of_export

SECOND = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A start without tags of further languages, and speech in three."""
    folder = tmp_path_factory.mktemp("parts")
    whisper = originals.whisper(folder / "whisper", positions=1500)
    text = originals.qwen2(folder / "qwen2", "float32", vocab_size=257)
    byte_vocabulary(text / "tokenizer.json")
    sources = (f"--source={whisper}", f"--source={text}")
    assert run("import", *sources, f"--out={folder / 'start'}", "--languages=nl") == 0
    (folder / "speech").mkdir()
    wave = flac(np.sin(np.arange(SECOND) / 8) / 4)
    for split, languages in (("train", ("cs", "cs", "nl", "en")), ("validation", ("cs", "ro"))):
        records = (
            Record(f"{split}-{i}", "asr", (wave,), {"text": "good morning", "language": language})
            for i, language in enumerate(languages)
        )
        write_split(folder / "speech", split, ((record, (SECOND,)) for record in records))
    return folder


def configuration(folder, init_from, **changes):
    values = pretrain_values()
    changes = {"init_from": str(init_from), "data.root": str(folder)} | changes
    changes |= {"data.mixture": {"speech": 1.0}, "data.shapes": ((2, 64, 128),)}
    for key, value in changes.items():
        values = changed(values, key, value)
    return from_mapping(values)


def test_what_cannot_be_exported_is_told_at_the_start(caplog):
    config, model = from_mapping(pretrain_values()), tiny_config("qwen_audio")

    def told(**changes):
        caplog.clear()
        heads = dict(heads=4, kv_heads=4, head_dim=model.decoder.width // 4)
        decoder = dataclasses.replace(model.decoder, **heads | changes)
        tell_of_export(config, Parts(), dataclasses.replace(model, decoder=decoder))
        return caplog.text

    assert told() == ""
    assert "cannot be exported: Qwen-Audio has query" in told(qkv_bias=False)
    assert "cannot be exported: Qwen-Audio knows neither grouped" in told(kv_heads=2)


def begun(config, workdir):
    """A run before its first step, and its state."""
    made, recipe, layout = loop.build_run(config, workdir, Group(), Clock(), None)
    return made, restore_or_init(config, made.checkpoints, recipe, layout)[0]


def test_what_a_run_says_and_scales(folder, tmp_path, caplog, capsys):
    config = configuration(folder, folder / "start", **{"optimizer.frozen": ("^encoder/",)})
    with caplog.at_level(logging.WARNING):
        made, state = begun(config, tmp_path / "run")
    whole = merge(state.parameters, state.frozen, made.cuts)
    assert "note: 4 records are in languages that the vocabulary has no tag for" in caplog.text
    told = "cs (train 2, validation 1), ro (validation 1)"
    assert f"is written instead: {told}. " in caplog.text
    assert "--languages=cs,nl,ro, and start another run" in caplog.text

    loop.describe(made, state)
    first = capsys.readouterr().out.splitlines()[0]
    encoder, projector, decoder = (
        sum(leaf.size for leaf in jax.tree.leaves(whole[part]))
        for part in ("encoder", "projector", "decoder")
    )
    rows = made.model.decoder.vocab_size
    assert first == (
        f"qwen2_audio, encoder (2 layers of 12) and decoder (3 layers of 16) from "
        f"{folder / 'start'}, projector new: {encoder + projector + decoder:,} parameters "
        f"({projector + decoder:,} trained, {encoder:,} frozen), float32, "
        f"vocabulary of {rows:,}, {rows - 257:,} of them new"
    )

    norm, kernel = (
        whole["encoder"]["norm"],
        whole["projector"]["kernel"],
    )
    squares = np.asarray(norm["scale"]) ** 2 + np.asarray(norm["bias"]) ** 2
    audio = (squares[:, None] * np.asarray(kernel) ** 2).sum() ** 0.5
    words = np.linalg.norm(whole["decoder"]["embedding"][:257], axis=1)
    assert audio == pytest.approx(np.median(words), rel=1e-4)

    # A projector that comes from elsewhere stays.
    made.checkpoints.save(1, state, next_slot=1, config=to_json(config))
    made.checkpoints.close()
    tokenizer = made.data.preprocessor.tokenizer
    tokenizer.save(tmp_path / "run" / "tokenizer")
    placeholder = tokenizer.special(AUDIO_TAGS["qwen2_audio"][1])
    write_parts(tmp_path / "run", parts_of(made.model, placeholder))
    made, going_on = begun(configuration(folder, tmp_path / "run"), tmp_path / "next")
    np.testing.assert_array_equal(going_on.parameters["projector"]["kernel"], kernel)
    loop.describe(made, going_on)
    parts = "encoder (2 layers of 12), decoder (3 layers of 16) and projector"
    assert capsys.readouterr().out.startswith(f"qwen2_audio, {parts} from {tmp_path / 'run'}: ")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ["<|endoftext|>"],
            "has no control token '<|audio_bos|>', which a qwen2_audio",
        ),
        (
            [name for name in control_tokens() if name != "<|transcribe|>"],
            "the vocabulary lacks control tokens: asr needs <|transcribe|>; start from a language",
        ),
    ],
)
def test_a_start_without_the_tags_that_tasks_need_is_refused(folder, tmp_path, names, told):
    start = tmp_path / "start"
    start.mkdir()
    (start / "model.json").write_text((folder / "start" / "model.json").read_text())
    (start / "tokenizer").mkdir()
    byte_vocabulary(start / "tokenizer" / "tokenizer.json", names)
    with pytest.raises(ConfigError) as refused:
        loop.build_run(configuration(folder, start), tmp_path / "run", Group(), Clock(), None)
    assert told in str(refused.value)
    assert not (tmp_path / "run").exists()
