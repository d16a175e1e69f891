"""How long a run trains: so many steps, so many epochs of its mixture, or so many hours."""

import dataclasses
import logging

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from data_pipelines.packing import PackPlan
from qwen_audio_jax.monitoring.goodput import Clock
from qwen_audio_jax.parallel.distributed import AllReducedCounts
from qwen_audio_jax.run_config import ConfigError, TrainConfig

_WHOLE = 1 << 30
"""A share of 1, as processes tell it one another: they add up whole numbers."""


@dataclasses.dataclass(frozen=True)
class Duration:
    """Attributes:
    steps: optimizer steps in all; 0 where time decides.
    seconds: of wall time in all, as `Clock.spent` counts it; 0 where steps decide.
    epochs: what the steps were counted from, in words; "" where they were given.
    """

    steps: int
    seconds: float = 0.0
    epochs: str = ""

    @property
    def timed(self) -> bool:
        return self.seconds > 0

    def over(self, step: int, share: float) -> bool:
        """Whether the run ends after so many steps, with this share of its time spent.

        One step is done in any case, since a model that has not learned at all is of no use.
        """
        return share >= 1 and step > 0 if self.timed else step >= self.steps

    def count(self, clock: Clock) -> int:
        """The share of time that is spent as process 0 knows it, for the others.

        Added up over all processes and read by `share_of`, it is the same on each.
        """
        if not self.timed or jax.process_index() > 0:
            return 0
        return round(min(clock.spent() / self.seconds, 1) * _WHOLE)

    def share_of(self, total: int) -> float:
        """The share that `count` told, 0 to 1."""
        return total / _WHOLE

    def agreed(self, all_reduce: AllReducedCounts, clock: Clock) -> float:
        """The share that earlier starts and the beginning of this one have spent; 0 of steps."""
        if not self.timed:
            return 0.0
        return self.share_of(int(np.asarray(all_reduce(self.count(clock)))[0]))

    def progress(self, share: float, mesh: Mesh) -> tuple[jax.Array, ...]:
        """What the compiled step is told of the time: float32 [], or nothing where steps decide."""
        if not self.timed:
            return ()
        whole = NamedSharding(mesh, PartitionSpec())
        value = np.float32(share)
        return (jax.make_array_from_callback((), whole, lambda _: value),)

    def logged(self, share: float) -> dict[str, float]:
        """For metrics.jsonl: what the step was told of the time; nothing where steps decide."""
        return {"time_share": share} if self.timed else {}

    def left(self, clock: Clock) -> float | None:
        """Seconds until the end; None where steps decide."""
        return max(self.seconds - clock.spent(), 0.0) if self.timed else None

    def told(self, step: int, clock: Clock) -> str:
        """A line: how much of it is done."""
        if not self.timed:
            epochs = f" ({self.epochs})" if self.epochs else ""
            return f"steps: {step} of {self.steps} done{epochs}"
        spent, all_of_it = map(tqdm.format_interval, (clock.spent(), self.seconds))
        return f"time: {spent} of {all_of_it} spent, {step} steps done"

    def warn_if_over(self, step: int, share: float) -> None:
        """Says that time was over before anything was trained."""
        if self.timed and step == 0 and share >= 1:
            logging.warning(
                "config.train.hours: %g hours were over before the first step, which is done all "
                "the same, at the lowest rate; give more",
                self.seconds / 3600,
            )


def duration_of(config: TrainConfig, plan: PackPlan) -> Duration:
    """How long a run trains; epochs are counted in its pack plan.

    Raises:
        ConfigError: epochs of more steps than can be counted.
    """
    if config.hours:
        return Duration(0, seconds=config.hours * 3600)
    if not config.epochs:
        return Duration(config.steps)
    steps, counted = plan.batches_of(config.epochs)
    if steps > np.iinfo(np.int32).max:
        raise ConfigError(
            f"config.train.epochs: {config.epochs:g} epochs of {plan.records:,} records are about "
            f"{steps:,} steps, more than can be counted; take fewer"
        )
    epochs = f"{config.epochs:g} epoch{'s' * (config.epochs != 1)} of the mixture"
    return Duration(steps, epochs=epochs if counted else f"about {epochs}, by its first windows")
