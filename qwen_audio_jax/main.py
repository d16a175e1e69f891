"""Trains an audio-language model.

    python -m qwen_audio_jax.main --config=configs/pretrain.py

trains the tiny preset on the built-in corpus, which is made first if it is not there. Any key of
the configuration can be overridden (--config.train.steps=100, --config.model.family=qwen2_audio,
--config.data.mixture='{"my_corpus": 1.0}'); docs/configuration.md describes each of them.
Started again, the same command goes on where it stopped.
"""

import pathlib
import sys
import time
import traceback
from typing import TYPE_CHECKING

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from qwen_audio_jax.command_line import config_of, parse_flags

if TYPE_CHECKING:
    from qwen_audio_jax.parallel.group import Group
    from qwen_audio_jax.run_config import RunConfig

_STARTED = time.time()
config_flags.DEFINE_config_file(
    "config", help_string="Configuration file; see docs/configuration.md."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run; by default one below runs/ that is the configuration's own."
)


def main(argv: list[str]) -> None:
    """Configuration in, run folder out; a mistake is one sentence and exit status 1."""
    mapping = config_of(argv, example="configs/pretrain.py")
    # Imported late: --help and a mistaken flag should not wait for JAX.
    from qwen_audio_jax import run_config
    from qwen_audio_jax.parallel import distributed
    from qwen_audio_jax.parallel.group import Group, GroupError
    from qwen_audio_jax.training.errors import TrainingError

    group = Group()
    try:
        config = run_config.from_mapping(mapping)
        group = distributed.initialize(config.wait)
        train_together(config, group)
        distributed.shutdown(group)
    except (ValueError, OSError, ImportError, GroupError, TrainingError) as error:
        group.fail(str(error))
    except BaseException as error:
        if group.count > 1:
            # The others must not wait for a process that only has a traceback to tell.
            traceback.print_exc()
            group.fail(f"{type(error).__name__}: {error}")
        raise


def train_together(config: "RunConfig", group: "Group") -> None:
    """What every process of a run does; the first one tells of it."""
    from data_pipelines.build import TALKS, build_synthetic_if_missing
    from qwen_audio_jax import run_config
    from qwen_audio_jax.metrics.scales import evaluation_table
    from qwen_audio_jax.monitoring.goodput import Clock
    from qwen_audio_jax.training import agreement, loop
    from qwen_audio_jax.training.start import check_start
    from qwen_audio_jax.training.tuning import check_tuned, follow_start
    from qwen_audio_jax.training.workdir import has_begun

    config = follow_start(config, pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None)
    group.barrier("the configuration", agreement.of_config(config))
    stem = pathlib.Path(flags.FLAGS["config"].config_filename).stem
    workdir = pathlib.Path(
        _WORKDIR.value or f"runs/{stem}-{config.model.preset}-{run_config.short_hash(config)}"
    )
    check_start(config, workdir)
    if not has_begun(workdir):
        talks = TALKS in config.data.mixture or bool(config.preference)
        check_tuned(config, talks=talks)
    corpora = (*config.data.mixture, *config.evaluate.beside)
    if group.index == 0:
        build_synthetic_if_missing(config.data.root, corpora)
    group.barrier("the synthetic corpus")
    # Where processes have disks of their own, each builds it there; elsewhere it is there by now.
    build_synthetic_if_missing(config.data.root, corpora)
    rows = loop.run(config, workdir, group, Clock(_STARTED))
    if group.index == 0:
        if rows:
            # Into a file or a pipe, wide enough that nothing is wrapped.
            # In a file a table is as wide as it needs.
            Console(width=None if sys.stdout.isatty() else 1000).print(evaluation_table(rows))
        if (workdir / "report.html").is_file():  # else a signal has stopped the run
            print(f"report: {workdir / 'report.html'}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
