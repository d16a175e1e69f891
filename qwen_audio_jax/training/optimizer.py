"""AdamW: the schedule, what decays, what is frozen."""

import difflib
import math
import re
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
import optax

from qwen_audio_jax.models.cuts import Cut, part
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.run_config import ConfigError, OptimizerConfig

FROZEN = (r"^encoder/positions$",)
"""Never trained: a fixed table of sinusoids that checkpoints happen to carry."""

MATRICES = ("kernel", "embedding", "head")
"""How the paths of what is multiplied with activations end; biases and norms do otherwise."""


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine down to the final rate."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(config.warmup_steps, max(steps - 1, 0)),
        decay_steps=steps,
        end_value=config.final_learning_rate,
    )


def split(config: OptimizerConfig, parameters: Any, first_new_token: int = 0) -> tuple[Any, Any]:
    """Parts parameters into those that are trained and those that are frozen.

    Both keep the whole tree's form, with None for what is wholly in the other one; `merge` undoes
    it, with `cuts_of` the same.

    Args:
        config: says what is frozen.
        parameters: the whole tree, of arrays.
        first_new_token: see `DecoderConfig`.

    Raises:
        ConfigError: a pattern is found in no parameter's path, or nothing is left to train.
    """
    frozen, cuts = frozen_parts(config, parameters, first_new_token)
    return part(parameters, frozen, cuts)


def cuts_of(config: OptimizerConfig, parameters: Any, first_new_token: int = 0) -> dict[str, Cut]:
    """How each parameter that is trained in part is cut, by its path; the arguments are `split`'s.

    Of the parameters only paths and shapes are read.
    """
    return frozen_parts(config, parameters, first_new_token)[1]


def frozen_parts(
    config: OptimizerConfig, parameters: Any, first_new_token: int
) -> tuple[set[str], dict[str, Cut]]:
    """(paths of what is wholly frozen, cuts of what is frozen in part)."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(parameters)]
    for pattern in config.frozen:
        if not any(re.search(pattern, name) for name in names):
            raise ConfigError(
                f"config.optimizer.frozen: {pattern!r} is found in no parameter's path"
                + _did_you_mean(pattern, names)
            )
    patterns = (*FROZEN, *config.frozen)
    frozen = {name for name in names if any(re.search(pattern, name) for pattern in patterns)}
    if len(frozen) == len(names):
        raise ConfigError(
            f"config.optimizer.frozen: {config.frozen} are found in every parameter's path, so "
            "nothing would be trained; leave one out"
        )
    return frozen, {}


def _did_you_mean(pattern: str, names: Collection[str]) -> str:
    """Beginnings of paths that are like a pattern, or what paths begin with."""
    parts = {
        "/".join(name.split("/")[:length])
        for name in names
        for length in range(1, name.count("/") + 2)
    }
    letters = re.sub(r"[^\w/]", "", pattern).strip("/")
    near = difflib.get_close_matches(letters, sorted(parts), n=3)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; paths begin with {', '.join(sorted({name.split('/')[0] for name in names}))}"


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, AdamW, rates by depth; for the parameters that are trained, and no others."""

    def decays(parameters):
        # Stacking makes biases and norms two-dimensional, so the name decides and not the shape.
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path_name(path).endswith(MATRICES), parameters
        )

    # Both have no state, so a run may be restored either way.
    off = math.isinf(config.clip_norm)
    return optax.chain(
        optax.identity() if off else optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decays,
        ),
        optax.stateless(lambda updates, _: _slowed(config.encoder_layer_decay, updates)),
    )


def _slowed(decay: float, updates: Any) -> Any:
    """Multiplies updates of the encoder's blocks and convolutions by powers of `decay`, as BEiT."""
    if decay == 1:
        return updates

    def one(path, update):
        name = path_name(path)
        if name.startswith("encoder/blocks/"):
            powers = decay ** np.arange(len(update), 0, -1, dtype=np.float32)
            return update * powers.reshape(-1, *(1,) * (update.ndim - 1))
        if name.startswith("encoder/conv"):
            return update * decay ** (layers + 1)
        return update

    blocks = jax.tree.leaves(updates["encoder"]["blocks"])
    layers = len(blocks[0]) if blocks else 0
    return jax.tree_util.tree_map_with_path(one, updates)
