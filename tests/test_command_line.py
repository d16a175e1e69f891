"""What is typed behind --config: read as it stands, or refused with what it must be."""

import pytest
from absl import flags
from ml_collections import config_flags

from qwen_audio_jax.command_line import parse_flags
from qwen_audio_jax.configuration_page import PRETRAIN
from qwen_audio_jax.run_config import from_mapping


def parsed(*words):
    argv = ["main", f"--config={PRETRAIN}", *words]
    into = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=into, sys_argv=argv)
    parse_flags(argv, into)
    return from_mapping(into.config.to_dict())


def test_names_of_corpora_may_have_dots():
    config = parsed('--config.data.mixture={"cv-17.0": 2, "/data/old.v1": 0.5}')
    assert dict(config.data.mixture) == {"cv-17.0": 2, "/data/old.v1": 0.5}


@pytest.mark.parametrize(
    ("typed", "frozen"),
    [
        (["--config.optimizer.frozen=('^encoder/', '^decoder/')"], ("^encoder/", "^decoder/")),
        (["--config.optimizer.frozen=['^encoder/']"], ("^encoder/",)),
        (["--config.optimizer.frozen=^encoder/"], ("^encoder/",)),
        (["--config.optimizer.frozen", "^a", "--config.optimizer.frozen=^b"], ("^a", "^b")),
    ],
)
def test_ways_to_type_a_tuple(typed, frozen):
    assert parsed(*typed).optimizer.frozen == frozen


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "train.steps=1e3",
            "config.train.steps: must be a whole number from 1 to 2,147,483,647, not",
        ),
        ("train=3", "config.train: must be a mapping with the keys steps, seed"),
        ("train.steps.x=3", "no such key"),
        ("train.steps.real=3", "no such key"),
        ("data.shapes[0]=(2, 64, 128)", "'config.data.shapes[0]': no such key"),
        ("data.mixture.cv-17.0=1", "'config.data.mixture.cv-17.0': no such key"),
        (
            'optimizer.frozen={"^encoder/": 1}',
            "config.optimizer.frozen: must be a tuple, each",
        ),
        ('data.mixture={"a": 1, "a": 2}', "config.data.mixture: a key stands in it twice"),
        ('data.mixture={"a": 1', "config.data.mixture: must be a mapping, 1 to 1000 items"),
        (
            'data.mixture=["a"]',
            "such as --config.data.mixture='{\"my_corpus\": 1.0}'",
        ),
        (f"data.shapes={'-' * 100_000}1", "a value of --config is nested too deep to be read"),
        (
            "optimizer.eps=a\0b\u2028c",
            r"config.optimizer.eps: must be a number from 1e-30 to 1",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(capsys, typed, said):
    with pytest.raises(SystemExit, match="1"):
        parsed(f"--config.{typed}")
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) == 1
