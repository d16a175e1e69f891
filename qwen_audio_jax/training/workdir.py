"""The run folder: whose it is, and what it holds before the first step."""

import json
import pathlib

from qwen_audio_jax.models.parts import parts_of, write_parts
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import FREE_KEYS, ConfigError, RunConfig, dotted, flat, to_json
from qwen_audio_jax.training.start import Data


def open_workdir(
    workdir: pathlib.Path, config: RunConfig, data: Data, model: ModelConfig, group: Group
) -> None:
    """Makes the run folder what it is before the first step, and sees that all processes share it.

    Raises:
        ConfigError: it belongs to another configuration, or is not shared.
    """
    if group.index == 0:
        claim_workdir(workdir, config)
        data.preprocessor.tokenizer.save(workdir / "tokenizer")
        placeholder = AUDIO_TAGS[model.family][1]
        write_parts(workdir, parts_of(model, data.preprocessor.tokenizer.special(placeholder)))
    group.barrier("the run folder")
    if not (workdir / "config.json").is_file():
        raise ConfigError(
            f"{workdir.absolute()}: is not the folder that process 0 writes to; --workdir must lie "
            "on a file system that all processes share"
        )


def claim_workdir(workdir: pathlib.Path, config: RunConfig) -> None:
    """Writes config.json into a run folder, unless another configuration has trained there.

    Raises:
        ConfigError: the folder belongs to another configuration; the sentence names the keys.
    """
    path = workdir / "config.json"
    values = to_json(config)
    if path.exists() and (workdir / "metrics.jsonl").exists():
        before, now = flat(json.loads(path.read_text()), FREE_KEYS), flat(values, FREE_KEYS)
        differing = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
        if differing:
            key = differing[0]
            raise ConfigError(
                f"{workdir}: holds a run of another configuration ({dotted(key)} "
                f"was {before.get(key)!r} and is now {now.get(key)!r}"
                + (f", and {len(differing) - 1} more" if len(differing) > 1 else "")
                + "); give another --workdir, or delete it to start anew"
            )
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"{workdir}: is no folder; --workdir must name one, new or of a run")
    workdir.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)
