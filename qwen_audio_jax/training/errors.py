"""Why training cannot go on, in one sentence."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator

import jax

from qwen_audio_jax.checkpoint import goes_on

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TrainingError(RuntimeError):
    """Training cannot go on. The sentence says why and what to do."""


@contextlib.contextmanager
def exhaustion_told(workdir: pathlib.Path) -> Iterator[None]:
    """Turns a full disk, or too little memory on the devices, into a TrainingError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TrainingError(
            "the devices' memory is too small for this run; take fewer rows in config.data.shapes "
            "and more config.train.accumulate, config.model.remat=full, or more devices on the "
            f"axis fsdp of config.mesh ({str(error).splitlines()[0]})"
        ) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise TrainingError(
            f"{workdir}: nothing more can be written there ({error.strerror}); free some space, "
            f"and {goes_on(workdir)}"
        ) from error
