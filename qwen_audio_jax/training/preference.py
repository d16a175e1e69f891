"""Preference tuning: which of two answers is the better one, in DPO's loss and its kin.

A pair counts once, however long its answers are. What is compared are sums of log-probabilities
over an answer's learned tokens, in float32, less those of the reference, which the batch brings.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from qwen_audio_jax.models.cuts import Parted
from qwen_audio_jax.step_config import CHOSEN, REJECTED, PreferenceConfig
from qwen_audio_jax.training.next_token import Pair, next_token_losses

METRICS = (
    "margin",
    "accuracy",
    *(
        f"{what}_{answer}"
        for what in ("reward", "log_probability", "tokens")
        for answer in ("chosen", "rejected")
    ),
)
"""What is told of pairs beside their loss, as means over pairs: the margin of the rewards, the
share of pairs in which that is above 0, and of the chosen and the rejected answers the reward, the
log-probability and the tokens."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answers:
    """What a batch's pairs of answers come to; pair p of a row is its p-th, and may be missing.

    Attributes:
        log_probabilities: float32 [B, P, 2]; of the chosen one and the rejected one, summed.
        tokens: float32 [B, P, 2]; how many were summed, 0 where there is no pair.
    """

    log_probabilities: jax.Array
    tokens: jax.Array


def answers_of(
    hidden: jax.Array,
    head: jax.Array | Parted,
    batch: Mapping[str, jax.Array],
    *,
    axes: str = "dv",
    mesh: Mesh | None = None,
) -> Answers:
    """The answers of a batch with the fields of `data_pipelines.pairs.pair_fields`.

    Args:
        hidden: [B, L, D].
        head: [D, V], as of `next_token_loss`.
        batch: the batch.
        axes, mesh: as there.
    """
    losses = next_token_losses(
        hidden, head, batch["targets"], batch["loss_weights"], axes=axes, mesh=mesh
    )
    pairs = batch["references"].shape[1]
    numbers = 1 + jnp.arange(2 * pairs)
    mine = batch["answers"][:, None] == numbers[:, None]  # [B, 2 P, L]

    def summed(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mine, x[:, None], 0.0), axis=-1).reshape(-1, pairs, 2)

    return Answers(-summed(losses), summed(batch["loss_weights"]))


def preference_loss(
    answers: Answers, references: jax.Array, config: PreferenceConfig
) -> tuple[Pair, dict[str, Pair]]:
    """The loss of pairs, and what is told of them, each as (sum over pairs, number of pairs).

    A reward is beta times what an answer's log-probability has gained over the reference's. In
    "ipo" log-probabilities are means over the answer's tokens, wherever margins are taken.

    Args:
        answers: of the model.
        references: float32 [B, P, 2]; log-probabilities under the reference.
        config: which loss.

    Returns:
        (loss, METRICS by name).
    """
    there = answers.tokens[..., CHOSEN] > 0
    tokens = jnp.maximum(answers.tokens, 1.0)
    log_probabilities = answers.log_probabilities
    gains = log_probabilities - jnp.where(there[..., None], references, 0.0)
    if config.loss == "ipo":
        gains = gains / tokens
    losses = _LOSSES[config.loss](gains[..., CHOSEN] - gains[..., REJECTED], config)
    if config.sft_weight:
        losses -= config.sft_weight * (log_probabilities / tokens)[..., CHOSEN]
    rewards = jax.lax.stop_gradient(config.beta * gains)
    margin = rewards[..., CHOSEN] - rewards[..., REJECTED]
    by_answer = (rewards, jax.lax.stop_gradient(log_probabilities), answers.tokens)
    told = (
        margin,
        jnp.where(margin > 0, 1.0, 0.0),
        *(x[..., answer] for x in by_answer for answer in (CHOSEN, REJECTED)),
    )
    pairs = jnp.sum(there, dtype=jnp.float32)

    def over_pairs(x: jax.Array) -> Pair:
        return jnp.sum(jnp.where(there, x, 0.0)), pairs

    return over_pairs(losses), dict(zip(METRICS, map(over_pairs, told), strict=True))


def _sigmoid(difference: jax.Array, config: PreferenceConfig) -> jax.Array:
    """DPO's; with label smoothing eps, (1 - eps) L(d) + eps L(-d) (cDPO, Mitchell 2023)."""
    right, wrong = _both_ways(difference, config)
    return (1 - config.label_smoothing) * right + config.label_smoothing * wrong


def _robust(difference: jax.Array, config: PreferenceConfig) -> jax.Array:
    """[(1 - eps) L(d) - eps L(-d)] / (1 - 2 eps), unbiased if eps of the pairs are wrong."""
    eps = config.label_smoothing
    right, wrong = _both_ways(difference, config)
    return ((1 - eps) * right - eps * wrong) / (1 - 2 * eps)


def _hinge(difference: jax.Array, config: PreferenceConfig) -> jax.Array:
    """max(0, 1 - beta d)."""
    return jax.nn.relu(1 - config.beta * difference)


def _ipo(difference: jax.Array, config: PreferenceConfig) -> jax.Array:
    """(d - 1 / (2 beta))^2, of means over tokens."""
    return (difference - 1 / (2 * config.beta)) ** 2


def _both_ways(difference: jax.Array, config: PreferenceConfig) -> tuple[jax.Array, jax.Array]:
    """-log sigmoid(beta d), and that of -d."""
    scaled = config.beta * difference
    return -jax.nn.log_sigmoid(scaled), -jax.nn.log_sigmoid(-scaled)


_LOSSES: dict[str, Callable[[jax.Array, PreferenceConfig], jax.Array]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "robust": _robust,
}
