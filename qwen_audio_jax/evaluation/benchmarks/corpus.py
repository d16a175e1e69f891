"""A corpus that data_pipelines.build wrote: its validation split, or the only one it has."""

import functools
import pathlib

from data_pipelines.examples import asked
from data_pipelines.records import Corpus
from qwen_audio_jax.evaluation.benchmarks.item import Item, LeftOut
from qwen_audio_jax.evaluation.selection import UNFIT, reason
from qwen_audio_jax.tasks import CHAT, KINDS


def read(path: pathlib.Path) -> tuple[list[Item], list[LeftOut]]:
    """An item for each record, and of a conversation for each answer that is learned.

    Raises:
        CorpusError, FileNotFoundError: the folder is no whole corpus; one sentence.
    """
    corpus = Corpus(path)
    split = corpus.evaluated
    items, left_out = [], []
    for number, row in enumerate(corpus.index(split)):
        if row.task not in KINDS or not KINDS[row.task].metric:
            left_out.append(LeftOut(row.id, f"its task {row.task!r} is not evaluated"))
            continue
        try:
            each = asked(row.task, row.annotation)
        except UNFIT as error:
            left_out.append(LeftOut(row.id, reason(row, error)))
            continue
        clips = functools.partial(_clips, corpus, split, number)
        for place, annotation in enumerate(each):
            name = f"{row.id}#{place + 1}" if row.task == CHAT else row.id
            items.append(Item(name, row.task, annotation, clips))
    return items, left_out


def _clips(corpus: Corpus, split: str, number: int) -> tuple[bytes, ...]:
    return corpus.record(split, number).audio
