"""A window of steps in JAX's profiler, for TensorBoard or xprof."""

import contextlib
import pathlib
from typing import Any

import jax

from qwen_audio_jax.run_config import ProfileConfig


class ProfileWindow:
    """Profiles the steps that the configuration names, on process 0.

    What the devices do is the same on all hosts, and two processes of one host would write into
    the same file.
    """

    def __init__(self, options: ProfileConfig, workdir: pathlib.Path):
        """Args:
        options: which steps.
        workdir: the run's folder; profiles go to profile/ in it.
        """
        self._steps = range(options.start + 1, options.start + options.steps + 1)
        self._folder = workdir / "profile"
        self._on = False

    def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
        """Marks a step in the profile, which begins if it is the step's turn."""
        if number in self._steps and not self._on and jax.process_index() == 0:
            jax.profiler.start_trace(self._folder)
            self._on = True
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def after(self, number: int, state: Any) -> None:
        """Ends the profile after its last step, for which it waits: only then is it whole."""
        if self._on and number >= self._steps[-1]:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Writes the profile, if one is going on."""
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
