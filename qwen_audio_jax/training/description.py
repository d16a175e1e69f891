"""What a run trains, in words: its parts, where each comes from, how much of them is trained."""

import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from data_pipelines.packing import PackPlan
from qwen_audio_jax.checkpoint import by_path, last_step, saved_shapes
from qwen_audio_jax.models.adapters import is_adapter
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.run_config import RunConfig
from qwen_audio_jax.training.step import TrainState

_ADAPTERS = "adapters"


def model_told(config: RunConfig, model: ModelConfig) -> str:
    """Family and size: the preset's name, unless parts have sizes of their own."""
    if not config.init_from:
        return f"{model.family}, {config.model.preset}"
    return f"{model.family}, {_and(list(_parts(model).values()))}"


def origin_told(config: RunConfig, model: ModelConfig, resumed_from: int | None) -> str:
    """Family and parts, and where they come from.

    Args:
        config: of the run.
        model: what it trains.
        resumed_from: the step that it goes on from; None where it starts.
    """
    if resumed_from is not None:
        return f"{model_told(config, model)}, from step {resumed_from:,} of this run"
    if not config.init_from:
        return model_told(config, model)
    parts = _parts(model)
    shapes = saved_shapes(last_step(config.init_from))
    saved = {_ADAPTERS if is_adapter(path) else path.split("/")[0] for path in shapes}
    loaded = [told for name, told in parts.items() if name in saved]
    new = [told for name, told in parts.items() if name not in saved]
    told = f"{model.family}, {_and(loaded)} from {config.init_from}"
    return f"{told}, {_and(new)} new" if new else told


def parameters_told(state: TrainState, what: str = "") -> str:
    """How many parameters there are, and how many of them are trained; `what` follows the first."""
    trained, frozen = map(_count, (state.parameters, state.frozen))
    if by_path(state.frozen).keys() <= {"encoder/positions"}:  # nobody has frozen that table
        return f"{trained + frozen:,}{what}"
    return f"{trained + frozen:,}{what} ({trained:,} trained, {frozen:,} frozen)"


def start_told(
    config: RunConfig,
    model: ModelConfig,
    plan: PackPlan,
    mesh: Mesh,
    state: TrainState,
    resumed_from: int | None,
) -> str:
    """Lines on what is about to be trained, on what, and where."""
    axes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    new = model.decoder.vocab_size - model.decoder.first_new_token
    added = f", {new:,} of them new" if model.decoder.first_new_token else ""
    return (
        f"{origin_told(config, model, resumed_from)}: "
        f"{parameters_told(state, ' parameters')}, {model.compute.dtype}, "
        f"vocabulary of {model.decoder.vocab_size:,}{added}\n"
        f"data: {', '.join(plan.components)}, {plan.records:,} records, "
        f"conditioned by {config.data.conditioning}\n"
        f"mesh: {axes} ({jax.devices()[0].platform})"
    )


def run_info(
    config: RunConfig, model: ModelConfig, plan: PackPlan, state: TrainState
) -> dict[str, str]:
    """Facts of a run that has come to its end, by name, for its report."""
    return {
        "model": model_told(config, model),
        "parameters": parameters_told(state),
        "data": f"{', '.join(plan.components)}: {plan.records:,} records",
        "conditioning": config.data.conditioning,
        "steps": f"{int(state.step):,}",
        "finished": time.strftime("%Y-%m-%d %H:%M"),
    }


def _parts(model: ModelConfig) -> dict[str, str]:
    """Each part of the parameters in words."""
    sized = {"encoder": model.encoder, "decoder": model.decoder}
    told = {name: f"{name} ({of.layers} layers of {of.width})" for name, of in sized.items()}
    delimiters = {"delimiters": "delimiters"} if model.delimiter_embeddings else {}
    told |= {"projector": "projector"} | delimiters
    if model.adapters:
        ranks = _and([str(rank) for rank in sorted({one.rank for one in model.adapters})])
        told[_ADAPTERS] = f"adapters ({len(model.adapters)} linears, rank {ranks})"
    return told


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _count(parameters: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))
