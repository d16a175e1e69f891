"""A window of steps in JAX's profiler, for TensorBoard or xprof."""

import contextlib
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import jax
from jax._src.lib import xla_client

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

        Where a profile would end the process, it is left out, with a warning.
        """
        if options.steps and jax.process_index() == 0 and not can_profile():
            logging.warning(
                "config.profile: left out, since the profiler of the TPU's library (libtpu) would "
                "end the run, and there is no TPU; set the variable JAX_PLATFORMS to cpu or cuda, "
                "or uninstall libtpu"
            )
            options = ProfileConfig(start=0, steps=0)
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


TRIAL = "import jax, sys; jax.devices(); jax.profiler.start_trace(sys.argv[1])"


def can_profile() -> bool:
    """Whether a profile can be begun here.

    Where libtpu is loaded and finds no TPU, and its version is not the one that JAX was built for,
    its profiler ends the process with a signal. So there, and only there, another process tries.
    """
    if jax.default_backend() == "tpu" or not xla_client.pjrt_plugin_loaded("tpu"):
        return True
    with tempfile.TemporaryDirectory() as folder:
        trial = subprocess.run(
            [sys.executable, "-c", TRIAL, folder],
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # a GPU's memory is in use
            capture_output=True,
        )
    return trial.returncode == 0
