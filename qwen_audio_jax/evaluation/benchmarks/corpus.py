"""A corpus that data_pipelines.build wrote: its validation split, or the only one it has."""

import functools
import pathlib
from collections.abc import Callable

from data_pipelines.examples import asked
from data_pipelines.records import Corpus, IndexRow
from qwen_audio_jax.evaluation.benchmarks.item import Item, LeftOut
from qwen_audio_jax.evaluation.selection import UNFIT, reason
from qwen_audio_jax.tasks import CHAT, KINDS
from qwen_audio_jax.tasks.conversation import places


def read(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """An item for each record, and of a conversation for each answer that is learned.

    Raises:
        CorpusError, FileNotFoundError: the folder is no whole corpus; one sentence.
    """
    corpus = Corpus(path)
    split = corpus.evaluated
    items, left_out = [], []
    for number, row in enumerate(corpus.index(split)):
        if not is_asked(row):
            left_out.append(LeftOut(row.id, f"its task {row.task!r} is not evaluated"))
            continue
        try:
            items += items_of(row, functools.partial(clips_of, corpus, split, number))
        except UNFIT as error:
            left_out.append(LeftOut(row.id, reason(row, error)))
    return items, left_out


def is_asked(row: IndexRow) -> bool:
    """Whether a record is of a task that is scored."""
    return row.task in KINDS and bool(KINDS[row.task].metric)


def items_of(row: IndexRow, clips: Callable[[], tuple[bytes, ...]], limit: int = 0) -> list[Item]:
    """What a record asks.

    Args:
        row: the record's.
        clips: reads its encoded clips.
        limit: tokens of an answer; 0 where nothing sets one, see `Item`.

    Raises:
        what of UNFIT rendering raises: its annotation does not fit its task.
    """
    items = []
    for place, annotation in enumerate(asked(row.task, row.annotation)):
        heard = places(annotation["messages"]) if row.task == CHAT else None
        name = f"{row.id}#{place + 1}" if row.task == CHAT else row.id
        samples = row.samples[:heard]
        items.append(Item(name, row.task, annotation, clips, limit=limit, samples=samples))
    return items


def record_of(item_id: str, task: str) -> str:
    """The id of an item's record."""
    return item_id.rpartition("#")[0] if task == CHAT else item_id


def clips_of(corpus: Corpus, split: str, number: int) -> tuple[bytes, ...]:
    """A record's encoded clips."""
    return corpus.record(split, number).audio
