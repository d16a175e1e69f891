"""Wrong configurations are refused in one sentence that names the key."""

import subprocess
import sys

import pytest
from conftest import changed, pretrain_values

from qwen_audio_jax.run_config import ConfigError, from_mapping, short_hash


@pytest.fixture
def values():
    return pretrain_values()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.stepz", 3, r"config\.train\.stepz: no such key; did you mean 'steps'\?"),
        ("train.steps", "many", r"config\.train\.steps: must be int"),
        ("train.steps", 0, r"config\.train\.steps: must be at least 1"),
        ("train", 3, r"config\.train: must be a group"),
        ("model.family", "qwen3", r"config\.model\.family: 'qwen3' is none of qwen_audio, qwen2"),
        ("model.preset", "huge", r"config\.model\.preset: 'huge' is none of tiny"),
        ("model.dtype", "int8", r"config\.model\.dtype"),
        ("data.conditioning", "tag", r"config\.data\.conditioning: 'tag' is none of tags, prompts"),
        (
            "data.spec_augment.time_share",
            1.5,
            r"config\.data\.spec_augment: .* time_share between 0 and 1",
        ),
        (
            "data.wave_augment.speeds",
            (0.9, 9.0),
            r"config\.data\.wave_augment: speeds must be .* from 0\.5 to 2",
        ),
        ("data.shapes", ((4, 10, 10),), r"config\.data\.shapes: .* multiple of 4"),
    ],
)
def test_mistakes_are_named(values, key, value, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(changed(values, key, value))


def test_a_missing_key_is_named(values):
    del values["data"]["seed"]
    with pytest.raises(ConfigError, match=r"config\.data\.seed: is missing"):
        from_mapping(values)


def test_hash_tells_runs_apart_but_not_habits(values):
    base = short_hash(from_mapping(values))
    assert short_hash(from_mapping(changed(values, "train.steps", 7))) != base
    assert short_hash(from_mapping(changed(values, "data.mixture", {"other": 1.0}))) != base
    assert short_hash(from_mapping(changed(values, "checkpoint.every", 7))) == base
    assert short_hash(from_mapping(changed(values, "mesh.tensor", 2))) == base


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("pretrain.py --config.train.stepz=3", "no such key: stepz. Did you mean"),
        ("pretrain.py --config.train.steps=x", "--config.train.steps=x: invalid literal"),
        ("pretrain.py --foo=1", "Unknown command line flag 'foo'"),
        ("pretrain.py:qwen2_audio_7b@v5e:2x2", "qwen2_audio_7b@v5e:2x2 is not set up"),
        ("nowhere.py", "No such file or directory: 'configs/nowhere.py'"),
        ("../README.md", "--config is no configuration: "),
    ],
)
def test_mistaken_flags_are_one_sentence(arguments, said):
    command = [
        sys.executable,
        "-m",
        "qwen_audio_jax.main",
        *f"--config=configs/{arguments}".split(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
