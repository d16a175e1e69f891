"""AdamW: the schedule, what decays, what is frozen."""

import dataclasses
import re
from typing import Any

import jax
import optax

FROZEN = (r"^encoder/positions$",)
"""Never trained: a fixed table of sinusoids that checkpoints happen to carry."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Attributes:
    learning_rate: the peak.
    final_learning_rate: what the cosine ends at.
    warmup_steps: steps from 0 to the peak, linearly.
    beta1, beta2, eps: Adam's.
    weight_decay: decoupled, on matrices only.
    clip_norm: largest global norm of the gradient.
    frozen: regular expressions over parameter paths such as `decoder/blocks/query/kernel`.
    """

    learning_rate: float
    final_learning_rate: float
    warmup_steps: int
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    clip_norm: float
    frozen: tuple[str, ...] = ()


def path_name(path: tuple[Any, ...]) -> str:
    """A parameter's path in a pytree as `a/b/c`, for the regular expressions of all tables."""
    return "/".join(str(getattr(key, "key", "")) for key in path if hasattr(key, "key"))


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine down to the final rate."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(config.warmup_steps, max(steps - 1, 0)),
        decay_steps=steps,
        end_value=config.final_learning_rate,
    )


def trained(config: OptimizerConfig, parameters: Any) -> Any:
    """Which parameters are trained: a pytree of bools."""
    patterns = [re.compile(pattern) for pattern in (*FROZEN, *config.frozen)]

    def is_trained(path, _):
        return not any(pattern.search(path_name(path)) for pattern in patterns)

    return jax.tree_util.tree_map_with_path(is_trained, parameters)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, AdamW and freezing. Frozen parameters carry no optimizer state."""

    def labels(parameters):
        return jax.tree.map(
            lambda is_trained: "trained" if is_trained else "frozen", trained(config, parameters)
        )

    def decays(parameters):
        # Stacking makes biases and norms two-dimensional, so the name decides and not the shape.
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path_name(path).endswith(("kernel", "embedding", "head")), parameters
        )

    adamw = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decays,
        ),
    )
    return optax.partition({"trained": adamw, "frozen": optax.set_to_zero()}, labels)
