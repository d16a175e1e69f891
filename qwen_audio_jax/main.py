"""Trains an audio-language model.

    python -m qwen_audio_jax.main --config=configs/pretrain.py

trains the tiny preset on the built-in corpus, which is made first if it is not there. Any key of
the configuration can be overridden (--config.train.steps=100, --config.model.family=qwen2_audio,
--config.data.mixture='{"my_corpus": 1.0}'); the keys and their meaning are in
qwen_audio_jax/run_config.py. Started again, the same command goes on where it stopped.
"""

import logging
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from qwen_audio_jax.command_line import parse_flags

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Configuration file.")
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run; by default one below runs/ that is the configuration's own."
)


def main(argv: list[str]) -> None:
    """Configuration in, run folder out; a mistake is one sentence and exit status 1."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r} is not understood; options begin with --")
    if _CONFIG.value is None:
        raise app.UsageError("--config is missing; try --config=configs/pretrain.py")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    # Imported late: --help and a mistaken flag should not wait for JAX.
    from data_pipelines.build import build_synthetic_if_missing
    from qwen_audio_jax import run_config, train
    from qwen_audio_jax.metrics.table import evaluation_table

    try:
        config = run_config.from_mapping(_CONFIG.value.to_dict())
        stem = pathlib.Path(flags.FLAGS["config"].config_filename).stem
        workdir = pathlib.Path(
            _WORKDIR.value or f"runs/{stem}-{config.model.preset}-{run_config.short_hash(config)}"
        )
        build_synthetic_if_missing(config.data.root, config.data.mixture)
        rows = train.run(config, workdir)
    except (ValueError, OSError, ImportError, train.TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if rows:
        Console().print(evaluation_table(rows))
    print(f"report: {workdir / 'report.html'}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
