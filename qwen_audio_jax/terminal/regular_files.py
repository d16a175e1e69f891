"""Files that can be read to their end."""

import os
import stat


def size_of(path: str, mend: str) -> int:
    """How many bytes a file has.

    Args:
        path: the file.
        mend: what to do where it is a device or a pipe, reading which might never end.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be reached.
        ValueError: it is no file; one sentence.
    """
    try:
        status = os.stat(path)
    except UnicodeEncodeError:
        raise FileNotFoundError from None
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{path}: is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: is no file but a device or a pipe; {mend}")
    return status.st_size
