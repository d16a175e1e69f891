"""A corpus appears whole or not at all.

It is built in a folder beside its place and moved there at the end, so that a build that is broken
off at any moment leaves nothing that could be taken for a corpus, and the same build goes on with
what was done.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence

from data_pipelines.records import INFO_FILE, CorpusError

_MARK = ".unfinished-"


class BuildInterrupted(CorpusError):
    """A build that could not go on; the same command may, with what was made."""


def check_target(out: pathlib.Path, splits: Sequence[str], overwrite: bool) -> None:
    """Refuses a place where these splits of a corpus cannot be built.

    Raises:
        CorpusError: something else is there, or one of the splits is and `overwrite` is not set.
    """
    if out.is_dir() and not (out / INFO_FILE).is_file() and any(out.iterdir()):
        raise CorpusError(f"{out}: holds something that is not a corpus; choose another --out")
    if out.exists() and not out.is_dir():
        raise CorpusError(f"{out}: is a file; --out must be a folder")
    there = [split for split in splits if (out / f"{split}.index.jsonl").exists()]
    if there and not overwrite:
        raise CorpusError(
            f"{out}: has a {' and a '.join(there)} split already; choose another --out or pass "
            "--overwrite"
        )


@contextlib.contextmanager
def staged(
    out: pathlib.Path, splits: Sequence[str], fingerprint: str = ""
) -> Iterator[pathlib.Path]:
    """Yields a folder to build the splits in; moves them into `out` if the body succeeds.

    Where a build with the same fingerprint was broken off, it is that build's folder again, with
    what was done. After a CorpusError other than BuildInterrupted it is deleted: going on would not
    help.

    Args:
        out: the corpus. Splits that it has already are replaced, others are kept.
        splits: what the body builds.
        fingerprint: of what is built; empty if it cannot go on.

    Raises:
        CorpusError: another process has built it meanwhile.
    """
    out = out.absolute()
    folder = out.with_name(f"{out.name}{_MARK}{fingerprint or uuid.uuid4().hex[:16]}")
    folder.mkdir(parents=True, exist_ok=bool(fingerprint))
    with _alone(folder):
        try:
            if (out / INFO_FILE).is_file():
                _copy_info(out, folder, splits)
                yield folder
                _merge(folder, out, splits)
                shutil.rmtree(folder)
            else:
                yield folder
                _put(folder, out)
        except BaseException as error:
            useless = isinstance(error, CorpusError) and not isinstance(error, BuildInterrupted)
            if useless or not fingerprint:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(
                    f"what was made stays in {folder}; the same command goes on with it",
                    file=sys.stderr,
                )
            raise


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Waits for another process that builds in the folder; the system ends that with it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that builds {folder}", file=sys.stderr)
                fcntl.flock(handle, fcntl.LOCK_EX)
        if not folder.is_dir() or not os.path.samestat(os.fstat(handle), folder.stat()):
            raise CorpusError(f"{folder}: another process built that corpus meanwhile")
        yield
    finally:
        os.close(handle)


def unfinished(out: pathlib.Path, fingerprint: str = "") -> list[pathlib.Path]:
    """Folders beside `out` where another build of it was broken off, or is going on."""
    folders = out.absolute().parent.glob(f"{out.name}{_MARK}*")
    return sorted(folder for folder in folders if not folder.name.endswith(_MARK + fingerprint))


def _put(folder: pathlib.Path, out: pathlib.Path) -> None:
    try:
        folder.rename(out)  # fails unless `out` is absent or empty
    except OSError as error:
        if (out / INFO_FILE).is_file():
            raise CorpusError(f"{out}: another process built a corpus there meanwhile") from error
        raise


def _copy_info(out: pathlib.Path, folder: pathlib.Path, splits: Sequence[str]) -> None:
    """Tells TFDS's writer of the splits that stay, so that it describes them too."""
    info = json.loads((out / INFO_FILE).read_text(encoding="utf-8"))
    info["splits"] = [split for split in info["splits"] if split["name"] not in splits]
    (folder / INFO_FILE).write_text(json.dumps(info), encoding="utf-8")
    shutil.copy(out / "features.json", folder)


def _merge(folder: pathlib.Path, out: pathlib.Path, splits: Sequence[str]) -> None:
    """Moves what was built into the corpus. A split counts as there once its index is."""
    indices = [f"{split}.index.jsonl" for split in splits]
    for name in indices:
        (out / name).unlink(missing_ok=True)
    for split in splits:
        for shard in out.glob(f"*-{split}.array_record-*"):
            shard.unlink()
    last = [INFO_FILE, *indices]
    for path in sorted(folder.iterdir()):
        if path.name not in last:
            if (out / path.name).is_dir():
                shutil.rmtree(out / path.name)
            path.replace(out / path.name)
    for name in last:
        (folder / name).replace(out / name)
