"""What is typed behind --config: read as it stands, or refused with what it must be."""

import pytest
from absl import flags
from ml_collections import config_flags

from data_pipelines.selection import Selection
from qwen_audio_jax.command_line import parse_flags, with_one_end
from qwen_audio_jax.configuration_page import PRETRAIN
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.tasks import KINDS


def parsed(*words):
    argv = ["main", f"--config={PRETRAIN}", *words]
    into = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=into, sys_argv=argv)
    parse_flags(argv, into)
    typed = config_flags.get_override_values(into["config"])
    return from_mapping(with_one_end(into.config.to_dict(), typed))


@pytest.mark.parametrize(
    ("typed", "ends"),
    [
        ([], (1200, 0, 0)),
        (["--config.train.steps=7"], (7, 0, 0)),
        (["--config.train.hours=2"], (0, 2, 0)),
        (["--config.train.epochs=0.5"], (0, 0, 0.5)),
        (["--config.train.steps=0", "--config.train.hours=2"], (0, 2, 0)),
        (["--config.train.hours=0"], (1200, 0, 0)),
    ],
)
def test_the_end_that_was_typed_takes_the_place_of_the_others(typed, ends):
    train = parsed(*typed).train
    assert (train.steps, train.hours, train.epochs) == ends
    # A digest of it names the run's folder.
    assert list(map(type, (train.steps, train.hours, train.epochs))) == [int, float, float]


def test_two_ends_are_refused_and_none_is_left_out():
    with pytest.raises(ConfigError, match=r"steps = 9 and config\.train\.hours = 2 are given"):
        parsed("--config.train.steps=9", "--config.train.hours=2")
    own = {"train": {"steps": 0, "hours": 3.0, "epochs": 0.0}}  # somebody's own configuration
    assert with_one_end(own, {"train.steps": 5})["train"]["hours"] == 0
    assert with_one_end({"train": {"steps": 3}}, {"train.hours": 5.0})["train"] == {"steps": 0}


def test_records_and_prompts_are_chosen_on_the_command_line():
    data = parsed(
        '--config.data.mixture={"mine": 1.0}',
        '--config.data.tasks={"mine": ("asr",)}',
        '--config.data.languages={"mine": ["en", "fr"]}',
        "--config.data.conditioning=prompts",
        '--config.data.prompts={"asr": ("Transcribe the speech.", "Write: ")}',
        "--config.data.prompt_language=en",
    ).data
    assert data.chosen == {"mine": Selection(("asr",), ("en", "fr"))}
    assert data.templates["asr"] == ("Transcribe the speech.", "Write: ")
    assert data.templates["speaker_age"] == KINDS["speaker_age"].prompts[:2]


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
            "config.train.steps: must be a whole number from 0 to 2,147,483,647, not",
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
