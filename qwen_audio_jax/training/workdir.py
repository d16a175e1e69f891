"""The run folder: what belongs to the run in it, and what a later start may change.

A run keeps the vocabulary, the model and the corpora that it began with, whatever has become since
of the corpora and of the folder that it started from. Nothing is written before all has been
checked.
"""

import contextlib
import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from qwen_audio_jax import frozen_base
from qwen_audio_jax.checkpoint import last_step, run_folder
from qwen_audio_jax.models.parts import COMPANIONS, Parts, parts_of, read_parts, write_parts
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import FREE_KEYS, ConfigError, RunConfig, dotted, flat, to_json
from qwen_audio_jax.text.tokenizer import Tokenizer, load_tokenizer
from qwen_audio_jax.training.corpus_digests import (
    Digests,
    Split,
    changes,
    digests_of,
    read_digests,
    write_digests,
)


def has_begun(workdir: pathlib.Path) -> bool:
    """Whether something was trained there."""
    return (workdir / "metrics.jsonl").exists() or any((workdir / "checkpoints").glob("[0-9]*"))


def check_config(workdir: pathlib.Path, config: RunConfig) -> None:
    """Raises ConfigError if another configuration has trained there; it names the keys."""
    path = workdir / "config.json"
    if not (path.exists() and has_begun(workdir)):
        return
    try:
        values = json.loads(path.read_text())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is damaged; checkpoints/STEP/config has the same values")
    values, free = _with_defaults(values, RunConfig), FREE_KEYS
    if _has_base(workdir):
        free = (*free, "init_from")
        if config.init_from not in ("", values.get("init_from")):
            _check_there(config.init_from, values.get("init_from"))
    before = flat(values, free)
    now = flat(to_json(config), free)
    differing = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{workdir}: holds a run of another configuration ({dotted(key)} "
            f"was {before.get(key)!r} and is now {now.get(key)!r}"
            + (f", and {len(differing) - 1} more" if len(differing) > 1 else "")
            + "); give another --workdir, or delete it to start anew"
        )


def _has_base(workdir: pathlib.Path) -> bool:
    """Whether the last checkpoint leaves out what the run started from and keeps frozen.

    `config.init_from` may then name its new place, for what lies there is compared.
    """
    try:
        return (last_step(workdir) / frozen_base.ITEM).is_dir()
    except FileNotFoundError:
        return False


def _check_there(init_from: str, before: str) -> None:
    try:
        last_step(init_from)
    except FileNotFoundError as error:
        raise ConfigError(
            f"config.init_from: {error}; the last start of this run had {before} there"
        ) from error


def _with_defaults(values: Mapping[str, Any], of: type) -> dict[str, Any]:
    """What was written before some keys were there, with these at the defaults of a dataclass."""
    made = dict(values)
    for field in dataclasses.fields(of):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        group = made.get(field.name, {})
        if dataclasses.is_dataclass(field.type) and isinstance(group, Mapping):
            made[field.name] = _with_defaults(group, field.type)
        elif default is not dataclasses.MISSING:
            made.setdefault(field.name, json.loads(json.dumps(default)))
    return made


@contextlib.contextmanager
def emptied(folder: pathlib.Path) -> Iterator[None]:
    """Takes an empty folder away if the block fails: Orbax has made it for checkpoints to come."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def own_parts(workdir: pathlib.Path) -> tuple[Parts, Tokenizer] | None:
    """The model and the vocabulary of a run that has begun; None where none has.

    Raises:
        ConfigError: they are missing or damaged.
    """
    if not has_begun(workdir):
        return None
    try:
        return read_parts(workdir), load_tokenizer(workdir / "tokenizer")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--workdir: {error}") from error


def check_corpora(workdir: pathlib.Path, splits: Mapping[str, Split]) -> Digests:
    """Says what was added to the corpora of a run that has begun.

    Args:
        workdir: the run folder.
        splits: what the run reads, by name.

    Returns:
        What they hold now, for `write_workdir`.

    Raises:
        ConfigError: records that the run has been trained on are gone or changed.
    """
    now = digests_of(splits)
    before = read_digests(workdir) if has_begun(workdir) else None
    if before is not None:  # None too in a run of before they were written
        for sentence in changes(workdir, splits, before, now):
            logging.warning("note: %s", sentence)
    return now


def write_workdir(
    workdir: pathlib.Path,
    config: RunConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    digests: Digests,
) -> None:
    """Writes what the run keeps; of one that has begun, only what a later start may change."""
    if not has_begun(workdir):
        tokenizer.save(workdir / "tokenizer")
        placeholder = AUDIO_TAGS[model.family][1]
        write_parts(workdir, parts_of(model, tokenizer.special(placeholder)))
        _inherit_companions(config, workdir)
    write_digests(workdir, digests)
    path = workdir / "config.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(to_json(config), indent=2) + "\n")
    part.replace(path)


def _inherit_companions(config: RunConfig, workdir: pathlib.Path) -> None:
    """Takes along what was kept of the original that the run's decoder is from, for its export."""
    shutil.rmtree(workdir / COMPANIONS, ignore_errors=True)  # of a start that trained nothing
    if config.init_from:
        start = run_folder(config.init_from)
        if read_parts(start).decoder and (start / COMPANIONS).is_dir():
            shutil.copytree(start / COMPANIONS, workdir / COMPANIONS)
