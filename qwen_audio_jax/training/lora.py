"""What `config.lora` means for a model: which linears have adapters, and what else is trained."""

import dataclasses
import functools
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
from flax import nnx

from qwen_audio_jax.config_fields import ConfigError
from qwen_audio_jax.models.adapters import is_adapter, linears
from qwen_audio_jax.models.frozen_patterns import check_found
from qwen_audio_jax.models.parts import Parts, path_name
from qwen_audio_jax.models.presets import Adapter, ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.run_config import RunConfig
from qwen_audio_jax.step_config import LoraConfig, OptimizerConfig
from qwen_audio_jax.training.step import abstract_model


def with_adapters(lora: LoraConfig, model: ModelConfig) -> ModelConfig:
    """The model with the adapters that a configuration gives it; as it is where its rank is 0.

    Raises:
        ConfigError: a pattern is found nowhere, two of them disagree, or a rank is too high.
    """
    if not lora.rank:
        return model
    shapes = _linears(dataclasses.replace(model, adapters=()))
    check_found("config.lora.targets", lora.targets, shapes, "linear layer")
    targets = [path for path in sorted(shapes) if _found(lora.targets, path)]
    ranks = _values("rank_pattern", lora.rank_pattern, targets, lora.rank)
    alphas = _values("alpha_pattern", lora.alpha_pattern, targets, lora.alpha)
    adapters = []
    for path in targets:
        rank, least = ranks[path], min(shapes[path][-2:])
        if rank > least:
            key = "rank_pattern" if _found(lora.rank_pattern, path) else "rank"
            raise ConfigError(
                f"config.lora.{key}: a rank of {rank} is above the smaller side of {path}/kernel, "
                f"which is {least}; lower it, or leave that one out of config.lora.targets"
            )
        scale = alphas[path] / (math.sqrt(rank) if lora.rslora else rank)
        adapters.append(Adapter(path, rank, scale, lora.dropout))
    return dataclasses.replace(model, adapters=tuple(adapters))


def optimizer_of(config: RunConfig, model: ModelConfig) -> OptimizerConfig:
    """The optimizer's configuration; of a model with adapters, it freezes all that they change.

    Which parameters those are is up to `config.lora.train` alone, and not to
    `config.optimizer.frozen`.
    """
    if not model.adapters:
        return config.optimizer
    frozen = tuple(f"^{re.escape(path)}$" for path in _held(config.lora.train, model))
    return dataclasses.replace(config.optimizer, frozen=frozen)


def check_start(config: RunConfig, start: Parts, model: ModelConfig) -> None:
    """Refuses what a model with adapters, or one without, cannot start from.

    Args:
        config: of the run.
        start: what it starts from or, where it goes on, its own.
        model: what it trains.

    Raises:
        ConfigError: there are other adapters than the model's, or no parameters to adapt, or a part
            of the model that would stay as it was drawn.
    """
    there, here = (_by_path(of.adapters) for of in (start, model))
    differing = [path for path in there | here if not _same(there.get(path), here.get(path))]
    if there and differing:
        path = min(differing)
        raise ConfigError(
            f"config.lora: {path} has {_told(there.get(path))} in {config.init_from} and "
            f"{_told(here.get(path))} here; give the config.lora that those adapters were trained "
            "with, or merge them by convert export and convert import and start from that"
        )
    if not model.adapters:
        return
    if not (start.encoder or start.decoder):
        raise ConfigError(
            "config.lora: adapters change a model that has been trained, and config.init_from "
            "names none; name one, or leave config.lora.rank at 0"
        )
    if start.whole:
        return
    held = {path.split("/")[0] for path in _held(config.lora.train, model)}
    new = sorted(part for part in held if not getattr(start, part, None))
    if new:
        parts = ", ".join(f'"^{part}"' for part in new)
        raise ConfigError(
            f"config.lora: {config.init_from} has no {' and no '.join(new)}, which is therefore "
            f"new and would stay as it was drawn; add --config.lora.train='({parts},)', which "
            "trains it beside the adapters"
        )


def _by_path(adapters: Collection[Adapter]) -> dict[str, tuple[int, float]]:
    return {adapter.path: (adapter.rank, adapter.scale) for adapter in adapters}


def _same(one: tuple[int, float] | None, other: tuple[int, float] | None) -> bool:
    """Whether rank and scale are the same; a scale may come from another order of divisions."""
    if one is None or other is None:
        return one is other
    return one[0] == other[0] and math.isclose(one[1], other[1], rel_tol=1e-12)


def _told(adapter: tuple[int, float] | None) -> str:
    return f"an adapter of rank {adapter[0]}, scale {adapter[1]:g}" if adapter else "no adapter"


@functools.cache
def _linears(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    return linears(nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0))))


@functools.cache
def _held(train: tuple[str, ...], model: ModelConfig) -> tuple[str, ...]:
    """Paths of the parameters that are frozen."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract_model(model)[1])
    paths = [name for path, _ in leaves if not is_adapter(name := path_name(path))]
    check_found("config.lora.train", train, paths, "parameter")
    return tuple(path for path in paths if not _found(train, path))


def _found(patterns: Collection[str], path: str) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def _values(
    key: str, patterns: Mapping[str, Any], targets: Collection[str], default: Any
) -> dict[str, Any]:
    """The value of each target, by its path: a pattern's that is found in it, or the default."""
    check_found(f"config.lora.{key}", patterns, targets, "target")
    values = {}
    for path in targets:
        found = [pattern for pattern in patterns if re.search(pattern, path)]
        given = {patterns[pattern] for pattern in found} or {default}
        if len(given) > 1:
            raise ConfigError(
                f"config.lora.{key}: {' and '.join(map(repr, found))} are found in {path} and give "
                "it different values; make them exclude each other, as ^decoder/blocks/(?!key)"
            )
        (values[path],) = given
    return values
