"""AdamW: the schedule, what decays, what is frozen."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from qwen_audio_jax.config_fields import ConfigError
from qwen_audio_jax.models.cuts import Cut, Cuts, part
from qwen_audio_jax.models.frozen_patterns import TOKEN_AXES, check_found, frozen_intervals
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.step_config import OptimizerConfig

FROZEN = (r"^encoder/positions$",)
"""Never trained: a fixed table of sinusoids that checkpoints happen to carry."""

MATRICES = ("kernel", "embedding", "head", "lora_a", "lora_b")
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


def rate_by_time(config: OptimizerConfig, count: jax.Array, share: jax.Array) -> jax.Array:
    """The learning rate of a run that ends by time, float32 [].

    The cosine over the share of time that is spent, and while it warms up no more than the line.

    Args:
        config: of the optimizer.
        count: updates done, int32 [].
        share: of the run's time that is spent, 0 to 1, float32 [].
    """
    high, low = config.learning_rate, config.final_learning_rate
    cosine = low + (high - low) * (1 + jnp.cos(jnp.pi * share)) / 2
    if not config.warmup_steps:
        return cosine
    return jnp.minimum(cosine, high * count / config.warmup_steps)


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
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    shapes = {path_name(path): leaf.shape for path, leaf in leaves}
    check_found("config.optimizer.frozen", config.frozen, shapes, "parameter")
    frozen, cuts = set(), {}
    for name, shape in shapes.items():
        intervals = frozen_intervals((*FROZEN, *config.frozen), name, shape[0])
        if intervals == ((0, shape[0]),):
            axis = TOKEN_AXES.get(name) if config.train_new_tokens else None
            if axis is not None and 0 < first_new_token < shape[axis]:
                cuts[name] = Cut(axis, ((0, first_new_token),))
            else:
                frozen.add(name)
        elif intervals:
            cuts[name] = Cut(0, intervals)
    if len(frozen) == len(shapes):
        raise ConfigError(
            f"config.optimizer.frozen: {config.frozen} are found in every parameter's path, so "
            "nothing would be trained; leave one out"
        )
    _check_rates(config.rates, shapes.keys() - frozen)
    return frozen, cuts


def _check_rates(rates: Mapping[str, float], trained: Collection[str]) -> None:
    """Raises ConfigError if a pattern is found nowhere, or two that differ in the same place."""
    check_found("config.optimizer.rates", rates, trained, "trained parameter")
    for name in sorted(trained):
        found = [pattern for pattern in rates if re.search(pattern, name)]
        if len({rates[pattern] for pattern in found}) > 1:
            raise ConfigError(
                f"config.optimizer.rates: {' and '.join(map(repr, found))} are found in {name} and "
                "give it different factors; make them exclude each other, as ^decoder/(?!head)"
            )


def make_optimizer(config: OptimizerConfig, steps: int, cuts: Cuts) -> optax.GradientTransformation:
    """Clipping, AdamW, rates by part and depth; for what is trained, and nothing else.

    Args:
        config: its settings.
        steps: of the whole run; 0 where the rate follows the time, whose `share` each update is
            then told.
        cuts: of what is trained in part; from `cuts_of`.
    """

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
            schedule(config, steps) if steps else 1.0,
            b1=config.beta1,
            b2=config.beta2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decays,
        ),
        optax.stateless(
            lambda updates, _: _at_rates(
                config.rates, _slowed(config.encoder_layer_decay, updates, cuts)
            )
        ),
        *([] if steps else [_timed(config)]),
    )


def _timed(config: OptimizerConfig) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by `rate_by_time`."""

    def init(_) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(jnp.int32(0))

    def update(updates, state, _, *, share: jax.Array):
        rate = rate_by_time(config, state.count, share)
        updates = jax.tree.map(lambda update: rate * update, updates)
        return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _at_rates(rates: Mapping[str, float], updates: Any) -> Any:
    """Multiplies updates, weight decay's among them, by the factors of their parts."""

    def one(path, update):
        found = (rates[pattern] for pattern in rates if re.search(pattern, path_name(path)))
        factor = next(found, 1.0)
        return update if factor == 1 else update * factor

    return jax.tree_util.tree_map_with_path(one, updates)


def _slowed(decay: float, updates: Any, cuts: Cuts) -> Any:
    """Multiplies updates of the encoder's blocks and convolutions by powers of `decay`, as BEiT."""
    if decay == 1:
        return updates

    def numbers_of(name: str, update: jax.Array) -> tuple[np.ndarray, int]:
        """(numbers of the layers that are trained, how many layers there are)."""
        cut = cuts.get(name, Cut(0, ()))
        layers = len(update) + sum(end - first for first, end in cut.frozen)
        return np.concatenate([np.arange(*pair) for pair in cut.trained(layers)]), layers

    def one(path, update):
        name = path_name(path)
        if name.startswith("encoder/blocks/"):
            numbers, layers = numbers_of(name, update)
            powers = decay ** (layers - numbers).astype(np.float32)
            return update * powers.reshape(-1, *(1,) * (update.ndim - 1))
        if name.startswith("encoder/conv"):
            return update * decay ** (deepest + 1)
        return update

    leaves = jax.tree_util.tree_leaves_with_path(updates)
    named = ((path_name(path), update) for path, update in leaves)
    stacked = [numbers_of(*pair)[1] for pair in named if pair[0].startswith("encoder/blocks/")]
    deepest = stacked[0] if stacked else 0
    return jax.tree_util.tree_map_with_path(one, updates)
