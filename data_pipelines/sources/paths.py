"""From a file's name in a list to the file, or why it is none that can be read."""

import contextlib
import errno
import functools
import os
import pathlib
import re
import stat
import unicodedata

from data_pipelines.records import RejectedRecord

_SHOWN = 300

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_address(name: str) -> bool:
    """Whether a name is an address such as `https://...`, also where a slash got lost."""
    return _ADDRESS.match(name) is not None


def audio_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file that a list in `folder` names.

    Where only the Unicode form differs (`é` as one character or as two), it is that file.

    Raises:
        RejectedRecord: there is no such file, or it is none.
    """
    if is_address(name):
        raise RejectedRecord(
            f"field 'audio': {_short(name)} is an address; download it and give its path"
        )
    path = folder / name
    try:
        mode = path.stat().st_mode
    except ValueError:
        raise RejectedRecord(
            f"field 'audio': {_short(name)} has a NUL in it, and is no path"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        found = _in_another_form(path)
        if found is None:
            raise RejectedRecord(f"field 'audio': {_short(path)} is {_missing(path)}") from None
        return audio_file(found.parent, found.name)
    except OSError as error:
        reason = "is a link that leads round in a circle"
        if error.errno != errno.ELOOP:
            reason = f"cannot be read ({error.strerror})"
        raise RejectedRecord(f"field 'audio': {_short(path)} {reason}") from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise RejectedRecord(
            f"field 'audio': {_short(path)} is {kind}; give the path of an audio file"
        )
    return path


def _short(name: pathlib.Path | str) -> str:
    """A name as a sentence tells it: the end of a long one, which tells files apart."""
    name = str(name)
    if name != name.strip():  # what would not be seen is the mistake
        name = repr(name)
    return name if len(name) <= _SHOWN else "..." + name[-_SHOWN:]


def _missing(path: pathlib.Path) -> str:
    if path.is_symlink():
        return f"a link to {os.readlink(path)}, which is not there"
    alike = _names(path.parent).get(_careless(path.name), [])
    return f"not there; did you mean {alike[0]!r}?" if alike else "not there"


def _careless(name: str) -> str:
    """A name without what some file systems, and eyes, pass over."""
    return unicodedata.normalize("NFC", name).casefold().strip()


def _in_another_form(path: pathlib.Path) -> pathlib.Path | None:
    """The one file whose name is the same but for its Unicode form, if there is one."""
    if str(path).isascii():
        return None
    found = pathlib.Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if not os.path.lexists(found / part):
            composed = unicodedata.normalize("NFC", part)
            names = _names(found).get(_careless(part), [])
            names = [name for name in names if unicodedata.normalize("NFC", name) == composed]
            if len(names) != 1:
                return None
            part = names[0]
        found /= part
    return found if found != path else None


@functools.lru_cache(maxsize=64)
def _names(folder: pathlib.Path) -> dict[str, list[str]]:
    """The names in a folder by what is left of them."""
    names: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            names.setdefault(_careless(name), []).append(name)
    return names
