"""A converted folder appears whole or not at all."""

import atexit
import contextlib
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterator

from qwen_audio_jax.conversion.errors import ConversionError

_MARK = ".unfinished-"


@contextlib.contextmanager
def whole_folder(out: pathlib.Path, needed: int) -> Iterator[pathlib.Path]:
    """Yields a folder beside `out` to write in; it becomes `out` if the body succeeds.

    Args:
        out: must not exist, or be empty.
        needed: bytes that will be written.

    Raises:
        ConversionError: something is there already, or the disk is too full.
    """
    out = out.absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConversionError(f"{out}: is there already; choose another --out or delete it")
    above = next(path for path in out.parents if path.is_dir())
    free = shutil.disk_usage(above).free
    if free < needed:
        raise ConversionError(
            f"{out}: needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free"
        )
    folder = out.with_name(f"{out.name}{_MARK}{uuid.uuid4().hex[:8]}")
    folder.mkdir(parents=True)
    try:
        yield folder
        folder.rename(out)
    except BaseException:
        # Python has joined its threads by then, and nobody can write any more.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _remove(folder)
        raise


def _remove(folder: pathlib.Path) -> None:
    """Deletes a folder that the threads of a failed Orbax save may make anew for a while."""
    gone = 0
    for _ in range(100):
        gone = 0 if folder.exists() else gone + 1
        if gone == 10:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
