"""Workers that make the records of a shard: each checked, in this process or in several."""

import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.labels import stored_annotation
from data_pipelines.records import Record, RejectedRecord, legible, told
from data_pipelines.shards import Rejection, ShardFiles, ShardWriter
from data_pipelines.staging import BuildInterrupted
from qwen_audio_jax.audio.decode import AudioError, decode, suspicion
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.tasks import AnnotationError, check_times

SHARD_BYTES = 200_000_000
"""Of audio in a shard, about: few files, and each soon made again."""
MOST_RECORDS = 8192
"""Of a shard."""

CHECKS = 2
"""Raised with every change of what is rejected or mended: older unfinished shards do not count."""

_SAMPLE = 64
_CHUNK = 16

Outcome = tuple[Record, tuple[int, ...], tuple[str, ...]] | Rejection
"""A record, its clips' samples at 16 kHz and what is to be told of it; or why it is rejected."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to become a split.

    Attributes:
        make: turns a job into a Record, or raises RejectedRecord; called in worker processes, so
            it, the other functions and the jobs must be picklable.
        jobs: in the order that the records shall have.
        row_of: a job's row number in the source, from 1.
        size_of: bytes of a job's audio.
        rejected: rows already found unusable: {"row", "reason"}.
    """

    make: Callable[[Any], Record]
    jobs: Sequence[Any]
    row_of: Callable[[Any], int]
    size_of: Callable[[Any], int]
    rejected: Sequence[Rejection] = ()

    def per_shard(self) -> int:
        """Jobs of a shard, by the size of some of them: it depends on the source alone."""
        count = len(self.jobs)
        sample = [self.jobs[i * count // _SAMPLE] for i in range(_SAMPLE)] if count else []
        mean = sum(map(self.size_of, sample)) / _SAMPLE
        return max(1, min(MOST_RECORDS, int(SHARD_BYTES / max(mean, 1))))


def fingerprint(work: Mapping[str, Work], per_shard: Mapping[str, int]) -> str:
    """Sixteen hexadecimal digits that differ between builds that make different shards."""
    digest = hashlib.sha256(bytes([CHECKS]))
    for split, part in sorted(work.items()):
        digest.update(pickle.dumps((split, part.make, per_shard[split], list(part.rejected))))
        # A list is taken piece by piece, to save memory; other sequences are told in a few bytes.
        for piece in part.jobs if isinstance(part.jobs, list) else [part.jobs]:
            digest.update(pickle.dumps(piece))
    return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ShardWork:
    """One shard to make: what is in it depends on its number and the source alone.

    Attributes:
        folder: where shards are made.
        split: "train" or "validation".
        number: the shard's, from 0.
        per_shard: jobs of each shard.
        work: the whole split's.
    """

    folder: pathlib.Path
    split: str
    number: int
    per_shard: int
    work: Work

    @property
    def jobs(self) -> Sequence[Any]:
        first = self.number * self.per_shard
        return self.work.jobs[first : first + self.per_shard]

    @property
    def is_done(self) -> bool:
        return ShardFiles(self.folder, self.split, self.number).is_done()

    def __call__(self, outcomes: Iterable[Outcome] | None = None) -> None:
        """Makes it, unless it is done; from outcomes that others made, or by itself."""
        if self.is_done:
            return
        if outcomes is None:
            outcomes = (attempt(self.work.make, self.work.row_of, job) for job in self.jobs)
        with ShardWriter(self.folder, self.split, self.number) as writer:
            for outcome in outcomes:
                if isinstance(outcome, dict):
                    writer.reject(outcome)
                else:
                    writer.add(*outcome)


def shards_of(folder: pathlib.Path, split: str, work: Work, per_shard: int) -> list[ShardWork]:
    """The shards of a split."""
    count = -(-len(work.jobs) // per_shard)
    return [ShardWork(folder, split, number, per_shard, work) for number in range(count)]


class Workers:
    """Processes that make records; with one, they are made in this process."""

    def __init__(self, number: int):
        """Args: number: of processes."""
        self._number = number

    def __enter__(self) -> "Workers":
        # Spawned, because the caller may have threads (JAX has), which a fork would not survive.
        context = multiprocessing.get_context("spawn")
        self._pool = (
            concurrent.futures.ProcessPoolExecutor(
                self._number, mp_context=context, initializer=_end_with_parent
            )
            if self._number > 1
            else None
        )
        return self

    def __exit__(self, *error) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def outcomes(self, shard: ShardWork) -> Iterator[Outcome]:
        """Of each job of a shard, in order.

        Raises:
            BuildInterrupted: a process died.
        """
        one = functools.partial(attempt, shard.work.make, shard.work.row_of)
        jobs = shard.jobs
        if self._pool is None:
            yield from map(one, jobs)
            return
        with _death_told():
            # In portions, so that records that wait to be written do not pile up.
            portion = _CHUNK * self._number * 16
            for first in range(0, len(jobs), portion):
                yield from self._pool.map(one, jobs[first : first + portion], chunksize=_CHUNK)


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, which a killed parent cannot ask for."""

    def watch():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _death_told() -> Iterator[None]:
    try:
        yield
    except concurrent.futures.process.BrokenProcessPool as error:
        raise BuildInterrupted(
            "a worker process died, perhaps for lack of memory; try fewer --workers"
        ) from error


def attempt(make: Callable[[Any], Record], row_of: Callable[[Any], int], job: Any) -> Outcome:
    """Makes and checks one record.

    Raises:
        ImportError, MemoryError: no fault of the record.
    """
    row = row_of(job)
    try:
        record = make(job)
    except RejectedRecord as error:
        return _rejection(row, str(error))
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # whatever is wrong with one row, the others are built
        return _rejection(row, f"cannot be read ({told(error)})")
    try:
        return _checked(record)
    except AudioError as error:
        return _rejection(row, f"field 'audio': {error}", record.id)
    except AnnotationError as error:
        return _rejection(row, str(error), record.id)
    except MemoryError:
        raise
    except Exception as error:
        reason = f"its annotation does not fit task {record.task!r} ({told(error)})"
        return _rejection(row, reason, record.id)


def _rejection(row: int, reason: str, name: str | None = None) -> Rejection:
    """As it is listed: in characters that can be written, which a file's name need not be in."""
    identity = {} if name is None else {"id": name.encode("utf-8", "backslashreplace").decode()}
    return {"row": row, **identity, "reason": legible(reason)}


def _checked(record: Record) -> Outcome:
    """The record as it is stored, with its clips' samples and notes."""
    annotation, mended = stored_annotation(record.task, record.annotation, len(record.audio))
    _check_json({"id": record.id, **annotation})
    for _ in texts_of(record.task, annotation):
        pass  # what cannot be rendered must not be found out in the middle of a training run
    samples, notes = [], list(mended)
    for number, clip in enumerate(record.audio, start=1):
        try:
            wave = decode(clip)
        except AudioError as error:
            if len(record.audio) == 1:
                raise
            raise AudioError(f"clip {number} of {len(record.audio)}: {error}") from error
        samples.append(len(wave))
        if odd := suspicion(wave):
            notes.append(f"field 'audio': {odd}")
    if samples:
        check_times(record.task, annotation, samples[0] / SAMPLE_RATE)
    return dataclasses.replace(record, annotation=annotation), tuple(samples), tuple(notes)


def _check_json(annotation: Mapping[str, Any]) -> None:
    """Refuses what is no JSON, wherever a source had it from."""
    for field, value in annotation.items():
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise AnnotationError(
                f"field {field!r}: cannot be written as JSON ({told(error)})"
            ) from error
