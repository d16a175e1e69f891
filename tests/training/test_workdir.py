"""A run folder belongs to one configuration."""

import pytest
from conftest import changed, pretrain_values

from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.training.workdir import claim_workdir


@pytest.fixture
def values():
    return pretrain_values()


def test_a_file_is_no_workdir(values, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file: is no folder; --workdir must name one"):
        claim_workdir(tmp_path / "file", from_mapping(values))


def test_workdir_of_another_configuration_is_refused(values, tmp_path):
    claim_workdir(tmp_path, from_mapping(changed(values, "train.steps", 5)))
    claim_workdir(tmp_path, from_mapping(values))  # nothing was trained there yet
    (tmp_path / "metrics.jsonl").touch()
    claim_workdir(tmp_path, from_mapping(changed(values, "evaluate.limit", 3)))
    with pytest.raises(ConfigError, match=r"\(config\.train\.steps was \d+ and is now 3\)"):
        claim_workdir(tmp_path, from_mapping(changed(values, "train.steps", 3)))
