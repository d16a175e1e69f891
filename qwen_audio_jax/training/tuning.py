"""What a run takes over from the model that it tunes: its family, and what is frozen with it."""

import dataclasses
import pathlib
from collections.abc import Mapping

from data_pipelines.records import Corpus
from qwen_audio_jax.checkpoint import run_folder
from qwen_audio_jax.models.parts import read_parts
from qwen_audio_jax.models.presets import FAMILIES
from qwen_audio_jax.run_config import AUTO, ConfigError, RunConfig
from qwen_audio_jax.tasks import CHAT, PREFERENCE
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training.needed_tags import check_tasks
from qwen_audio_jax.training.start import read_start
from qwen_audio_jax.training.workdir import has_begun

FROZEN = {"qwen_audio": ("^encoder/",), "qwen2_audio": ()}
"""What is frozen in tuning. Qwen-Audio-Chat was tuned with its encoder frozen; Qwen2-Audio's report
names nothing that was."""


def follow_start(config: RunConfig, workdir: pathlib.Path | None = None) -> RunConfig:
    """The configuration with the family and the frozen parameters that it leaves to the start.

    Args:
        config: of the run.
        workdir: the run folder, if that was given; a run that has begun there says its family.

    Raises:
        ConfigError: nothing tells the family.
    """
    if config.model.family == AUTO:
        family = _family(config, workdir)
        model = dataclasses.replace(config.model, family=family)
        config = dataclasses.replace(config, model=model)
    if config.optimizer.frozen == (AUTO,):
        frozen = FROZEN[config.model.family]
        optimizer = dataclasses.replace(config.optimizer, frozen=frozen)
        config = dataclasses.replace(config, optimizer=optimizer)
    return config


def _family(config: RunConfig, workdir: pathlib.Path | None) -> str:
    if workdir is not None and has_begun(workdir):
        return read_parts(workdir).family
    if not config.init_from:
        raise _missing("config.model.family is 'auto', that of what is tuned")
    family = read_start(config).family
    if not family:
        raise ConfigError(
            f"config.init_from: {config.init_from} is no whole model, so that nothing tells its "
            f"family; add --config.model.family={' or '.join(FAMILIES)}"
        )
    return family


def check_tuned(config: RunConfig, *, talks: bool) -> None:
    """Finds out whether a run has what it tunes, before a corpus is built.

    Args:
        config: of the run.
        talks: whether it is known to learn conversations.

    Raises:
        ConfigError: there is nothing, or its vocabulary has no tokens for conversations.
    """
    if config.evaluate.before and not config.init_from:
        raise _missing("config.evaluate.before measures what training starts from")
    start = read_start(config)
    if not (talks and start.decoder):
        return
    folder = run_folder(config.init_from) / "tokenizer"
    if folder.is_dir():
        try:
            check_tasks((CHAT,), config.data.conditioning, load_tokenizer(folder))
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"config.init_from: {config.init_from}: {error}") from error


def check_pairs(corpora: Mapping[str, Corpus]) -> None:
    """Raises ConfigError if a corpus of a run that learns pairs has records of something else."""
    for name, corpus in corpora.items():
        for row in corpus.index("train"):
            if row.task != PREFERENCE:
                raise ConfigError(
                    f"config.data.mixture: {row.id} of corpus {name!r} is of task {row.task!r}, "
                    f"and config.preference learns pairs alone, of task {PREFERENCE!r}; take those "
                    f"""by --config.data.tasks='{{"{name}": ("{PREFERENCE}",)}}', or """
                    "leave it out"
                )


def _missing(why: str) -> ConfigError:
    return ConfigError(
        f"config.init_from: is empty, and {why}; give --config.init_from=RUN, the folder of a run "
        "or of what convert import wrote"
    )
