"""The configuration of an evaluation, `configs/evaluate.py`."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from qwen_audio_jax import config_fields
from qwen_audio_jax.config_fields import ConfigError, OneOf, Range, build
from qwen_audio_jax.metrics.protocols import PROTOCOLS


@dataclasses.dataclass(frozen=True)
class Options:
    """Attributes:
    limit: items of a benchmark at most, spread evenly over it; 0 is all.
    control_limit: items of a benchmark at most that are asked under controls too; 0 is all.
    slots: questions answered at once, and calls to a judge.
    context: tokens of a prompt and its answer together; an answer that needs more fails.
    max_new_tokens: of an answer at most; 0 is each benchmark's own limit.
    protocols: of word error rates beside "wer" itself, which is v1's; see `metrics.protocols`.
    examples: answers that the page shows with players; it lists all of them.
    draws: resamples of each interval; 0 leaves intervals out.
    confidence: how often an interval is to hold the score of the population.
    seed: of the resamples.
    """

    limit: Annotated[int, Range(0, 1 << 31)]
    control_limit: Annotated[int, Range(0, 1 << 31)]
    slots: Annotated[int, Range(1, 1024)]
    context: Annotated[int, Range(64, 1 << 20)]
    max_new_tokens: Annotated[int, Range(0, 65_536)]
    protocols: tuple[Annotated[str, OneOf(tuple(PROTOCOLS))], ...]
    examples: Annotated[int, Range(0, 100_000)]
    draws: Annotated[int, Range(0, 100_000)]
    confidence: Annotated[float, Range(0.5, 0.999)]
    seed: Annotated[int, Range(0, (1 << 31) - 1)]


def from_mapping(values: Mapping[str, Any]) -> Options:
    """Raises ConfigError: a key that does not exist or is missing, or a value it may not have."""
    return build(Options, values, "config")


def refusal(key: str, value: Any) -> ConfigError:
    """The error of a value that cannot be read as what a key, "config.seed", must be."""
    return config_fields.refusal(Options, key, value)
