"""What a run's corpora held when it last started, so that the next start can tell what has changed.

`corpora.npz` in the run folder has for each split a digest of every record, in order, and the
split's size in bytes.
"""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from data_pipelines.records import Corpus
from qwen_audio_jax.run_config import ConfigError

FILE = "corpora.npz"

Digests = dict[str, np.ndarray]
Split = tuple[Corpus, str]


def digests_of(splits: Mapping[str, Split]) -> Digests:
    """Of the splits that a run reads."""
    found = {}
    for name, (corpus, split) in splits.items():
        found[f"{name} records"] = corpus.index(split).digests()
        found[f"{name} bytes"] = np.int64(corpus.bytes(split))
    return found


def write_digests(workdir: pathlib.Path, digests: Digests) -> None:
    """Writes corpora.npz, whole or not at all."""
    part = workdir / f"{FILE}.part"
    with part.open("wb") as file:
        np.savez(file, **digests)
    part.replace(workdir / FILE)


def read_digests(workdir: pathlib.Path) -> Digests | None:
    """What `write_digests` wrote; None if nothing is there.

    Raises:
        ConfigError: the file is damaged.
    """
    path = workdir / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path}: is damaged; delete it to go on without seeing whether the corpora "
            "have changed"
        ) from error


def changes(
    workdir: pathlib.Path, splits: Mapping[str, Split], before: Digests, now: Digests
) -> list[str]:
    """Sentences on what has changed since the run last started and does not stop it.

    Raises:
        ConfigError: records that the run has trained on are gone or changed.
    """
    told = []
    for name, (corpus, split) in splits.items():
        key, size = f"{name} records", f"{name} bytes"
        if key not in before:
            continue
        old, new = before[key], now[key]
        same = np.array_equal(old, new)
        if same and before[size] == now[size]:
            continue
        lost = int(np.count_nonzero(~np.isin(old, new)))
        if split != "train":
            told.append(
                f"{corpus.path}: the {split} split has changed since the run last started, so "
                "scores from now on are of other records than those before"
            )
        elif lost or same:
            what = (
                f"{lost:,} of the {len(old):,} records that the run in {workdir} has been trained "
                "on are gone or changed"
                if lost
                else f"its audio is not what the run in {workdir} has been trained on"
            )
            raise ConfigError(
                f"{corpus.path}: {what}; build the corpus as it was, or start another run with "
                f"what this one learned: --workdir=ANOTHER --config.init_from={workdir}"
            )
        else:
            added = len(new) - len(old)
            told.append(
                f"{corpus.path}: "
                + (f"has {added:,} records more" if added else "has its records in another order")
                + " than when the run last started; it goes on with them, shuffled anew, so that "
                "until the end of this epoch some records may come twice or not at all"
            )
    return told
