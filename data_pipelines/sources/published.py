"""Published corpora, read from the folder that their archives unpack to.

Each has a file beside this one with

    TASKS       what it can serve, the first by default
    LICENSE     its SPDX identifier, or LicenseRef-NAME where it has terms of its own
    LAYOUT      a path that must be there, to tell the right folder from a wrong one
    clips(root, split)    yields (path, {task: annotation}) of each clip, in a fixed order; for a
                          task on several clips, a tuple of paths
"""

import collections
import pathlib
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from data_pipelines.records import RejectedRecord, told
from data_pipelines.sources import (
    aishell1,
    aishell2,
    audiocaps,
    clotho,
    clothoaqa,
    cochlscene,
    common_voice,
    covost2,
    fleurs,
    gtzan,
    librispeech,
    meld,
    musiccaps,
    nsynth,
    speech_commands,
    tut2017,
    vocalsound,
    voxceleb1,
)
from data_pipelines.sources.rows import Row

PUBLISHED: dict[str, ModuleType] = {
    "aishell1": aishell1,
    "aishell2": aishell2,
    "audiocaps": audiocaps,
    "clotho": clotho,
    "clothoaqa": clothoaqa,
    "cochlscene": cochlscene,
    "common_voice": common_voice,
    "covost2": covost2,
    "fleurs": fleurs,
    "gtzan": gtzan,
    "librispeech": librispeech,
    "meld": meld,
    "musiccaps": musiccaps,
    "nsynth": nsynth,
    "speech_commands": speech_commands,
    "tut2017": tut2017,
    "vocalsound": vocalsound,
    "voxceleb1": voxceleb1,
}


def jobs(name: str, root: pathlib.Path, split: str, tasks: Sequence[str] = ()) -> list[Row]:
    """The records of a split.

    Args:
        name: a key of PUBLISHED.
        root: the unpacked folder.
        split: "train" or "validation"; which parts of the corpus that is, its file says.
        tasks: some of its TASKS; none is the first of them.

    Returns:
        Rows for `rows.make`, one a clip and task.

    Raises:
        RejectedRecord: another folder, or a task that the corpus has no labels for.
    """
    source = PUBLISHED[name]
    tasks = tuple(tasks) or source.TASKS[:1]
    if foreign := [task for task in tasks if task not in source.TASKS]:
        raise RejectedRecord(
            f"--tasks: {name} has no labels for {foreign[0]!r}; it has {', '.join(source.TASKS)}"
        )
    if not any(root.glob(source.LAYOUT)):
        raise RejectedRecord(
            f"{root}: is not {name} as published, which has {source.LAYOUT}; --root must name the "
            "folder that its archive unpacks to"
        )
    rows: list[Row] = []
    times: collections.Counter[str] = collections.Counter()
    for found, annotations in _clips(name, root, split):
        paths = found if isinstance(found, tuple) else (found,)
        for task in tasks:
            if task in annotations:
                annotation = annotations[task] | {"source": name, "license": source.LICENSE}
                # Paths are unique, and a task makes them so where one clip serves two; of further
                # questions, captions or translations of a clip the number does.
                clip = "+".join(p.relative_to(root).with_suffix("").as_posix() for p in paths)
                identity = f"{name}-{clip}-{task}"
                times[identity] += 1
                if times[identity] > 1:
                    identity = f"{identity}-{times[identity]}"
                rows.append(Row(len(rows) + 1, identity, task, paths, annotation))
    return rows


def _clips(name: str, root: pathlib.Path, split: str) -> Iterator[tuple[Any, dict[str, dict]]]:
    try:
        yield from PUBLISHED[name].clips(root, split)
    except RejectedRecord:
        raise
    except Exception as error:  # what is not as published breaks each source in its own way
        raise RejectedRecord(
            f"{root}: a list of clips in it is not as {name} was published ({told(error)}); unpack "
            "its archive anew"
        ) from error
