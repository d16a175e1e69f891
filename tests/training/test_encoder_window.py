"""Which window a run's encoder has: chosen at its start, kept in its model.json."""

import dataclasses
import json
import shutil

import pytest
from commands import losses
from conftest import changed, pretrain_values, write_corpus

from qwen_audio_jax.models import presets
from qwen_audio_jax.models.parts import Parts, read_parts, write_parts
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.start import check_start, open_data, with_window

WHISPER = EncoderConfig(80, 2, 24, 3, window="window")
PRESET = EncoderConfig(80, 2, 24, 3)
DECODER = DecoderConfig(64, 2, 32, 4, 2, 8, 40)


def chosen(window, start, encoder):
    values = changed(pretrain_values(), "model.window", window)
    config = from_mapping(changed(values, "init_from", "start"))
    return with_window(config, start, encoder).window


@pytest.mark.parametrize(
    ("key", "part", "whole_clip", "whole_window"),
    [
        # An encoder that is Whisper's is shown its window if that is asked for.
        ("auto", "clip", "clip", "window"),
        ("clip", "clip", "clip", None),
        ("window", "window", None, "window"),
        ("clip+1.5s", "clip+1.5s", None, None),
    ],
)
def test_what_a_run_takes(key, part, whole_clip, whole_window):
    """None: refused, since a whole model keeps what it was trained with."""
    for start, encoder, expected in (
        (Parts(), PRESET, part),
        (Parts(encoder=WHISPER), WHISPER, part),
        (Parts("qwen2_audio", PRESET, DECODER), PRESET, whole_clip),
        (Parts("qwen_audio", WHISPER, DECODER), WHISPER, whole_window),
    ):
        if expected:
            assert chosen(key, start, encoder) == expected
        else:
            with pytest.raises(ConfigError, match=rf"is '{key.replace('+', '.')}', and the whole"):
                chosen(key, start, encoder)


def test_an_encoder_of_shorter_clips_has_no_window():
    short = dataclasses.replace(WHISPER, max_positions=750)
    assert chosen("clip", Parts(encoder=short), short) == "clip"
    for window in ("window", "clip+1s"):
        with pytest.raises(ConfigError, match=r"needs an encoder of 1500 positions, .* has 750"):
            chosen(window, Parts(encoder=short), short)


def test_model_json_of_before_is_of_clips_and_nonsense_is_refused(tmp_path):
    write_parts(tmp_path, Parts(encoder=WHISPER))
    assert read_parts(tmp_path).encoder == WHISPER
    path = tmp_path / "model.json"
    values = json.loads(path.read_text())
    values["encoder"]["window"] = "wide"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"is not a model description \(window: 'wide' is none"):
        read_parts(tmp_path)
    del values["encoder"]["window"]
    path.write_text(json.dumps(values))
    assert read_parts(tmp_path).encoder.window == "clip"


def configured(root, **keys):
    values = pretrain_values()
    keys = {
        "data.root": str(root),
        "data.mixture": {"tones": 1.0},
        "data.shapes": ((1, 64, 3008),),
        "model.window": "window",
        "train.steps": 2,
        "checkpoint.every": 1,
        "compilation_cache": "",
    } | keys
    for key, value in keys.items():
        values = changed(values, key, value)
    return from_mapping(values)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The corpora's folder, and a run on windows of a model that is smaller than any preset."""
    root = tmp_path_factory.mktemp("data")
    write_corpus(root / "tones", train=4)
    decoder = dict(layers=1, width=8, heads=1, kv_heads=1, head_dim=8, mlp_width=8)
    small = dict(layers=1, width=8, heads=1), decoder
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(presets._SIZES, "tiny", small)
        loop.run(configured(root), root / "run")
    return root, root / "run"


@pytest.mark.slow
def test_a_run_on_windows_resumes_and_is_started_from(whole, tmp_path, caplog):
    root, workdir = whole
    assert read_parts(workdir).encoder.window == "window"
    resumed = tmp_path / "resumed"
    shutil.copytree(workdir, resumed)
    shutil.rmtree(resumed / "checkpoints" / "2")
    loop.run(configured(root), resumed)  # not of the preset's size: the run keeps its own
    assert losses(resumed) == losses(workdir)
    assert len(set(losses(workdir))) == 2
    assert "the encoder sees silence behind clips (config.model.window is 'win" in caplog.text
    again = {"model.window": "auto", "init_from": str(workdir), "train.steps": 1}
    loop.run(configured(root, **again), tmp_path / "again")
    assert read_parts(tmp_path / "again").encoder.window == "window"
    with pytest.raises(
        ConfigError, match=r"config\.model\.window: is 'clip', and the whole model in"
    ):
        check_start(configured(root, **again | {"model.window": "clip"}), tmp_path / "other")


def test_an_encoder_of_whispers_is_told_of_where_it_is_shown_no_silence(whole, tmp_path, caplog):
    root, _ = whole
    write_parts(tmp_path, Parts(encoder=PRESET))
    config = configured(root, **{"model.window": "auto", "init_from": str(tmp_path)})
    open_data(config, make_mesh(config.mesh))
    assert not caplog.text.count("silence")
    write_parts(tmp_path, Parts(encoder=WHISPER))
    _, model = open_data(config, make_mesh(config.mesh))
    assert model.encoder.window == "clip"
    assert "shows it none; --config.model.window=window does" in caplog.text


def test_shapes_that_hold_no_window_are_told_of(whole, tmp_path):
    root, _ = whole
    small = configured(root, **{"data.shapes": ((1, 64, 3000),)})
    check_start(small, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"shapes needs one of at least \d+ tokens and 3004 frames"
    ):
        loop.run(small, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
