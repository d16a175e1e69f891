r"""Builds a corpus: a source's records in shards, their index, and a vocabulary.

    python -m data_pipelines.build --source=manifest --manifest=train.jsonl --out=data/mine
    python -m data_pipelines.build --source=manifest --manifest=dev.jsonl --out=data/mine \
        --split=validation
    python -m data_pipelines.build --source=synthetic --out=data/synthetic
    python -m data_pipelines.build --source=librispeech --root=LibriSpeech --out=data/librispeech

A manifest has one JSON object a line, with paths relative to the manifest:

    {"audio": "a.flac", "task": "asr", "text": "good morning", "language": "en"}
    {"audio": ["a.flac", "b.mp3"], "task": "speaker_verification", "text": "same"}

`task` is one of docs/tasks.md, which also says what fields each task needs;
further fields (source, license, ...) are kept. Clips are WAV, FLAC, Ogg or MP3, at any sampling
rate, from 30 ms to 30 s. Rows that cannot be used are listed with the reason in OUT/rejected.jsonl
and the rest is built. The same source gives the same files, with any number of workers.
"""

import argparse
import collections
import concurrent.futures.process
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipelines import staging
from data_pipelines.records import SPLITS, Corpus, CorpusError, Record, RejectedRecord, ShardWriter
from data_pipelines.sources import manifest, published, rows, synthetic
from qwen_audio_jax.audio.decode import SAMPLE_RATE, AudioError, decode
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.tasks import AnnotationError, check_annotation
from qwen_audio_jax.tokenizer import train_sentencepiece

SYNTHETIC = "synthetic"
"""Name of the corpus that training builds by itself."""

TRAIN_EXAMPLES, VALIDATION_EXAMPLES, SEED = 6000, 1200, 0
FLAGS = {
    "manifest": ("manifest", "split"),
    "synthetic": ("train_examples", "validation_examples", "seed"),
}
"""Each source's own flags."""
PUBLISHED_FLAGS = ("root", "tasks", "split")

REJECTED_FILE = "rejected.jsonl"
TOKENIZER_FOLDER = "tokenizer"
_SHOWN = 5
_CHUNK = 16

Rejection = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to become a split.

    Attributes:
        make: turns a job into a Record, or raises RejectedRecord; called in worker processes, so
            it and the jobs must be picklable.
        jobs: (row number, job), in the order that the records shall have.
        rejected: rows already found unusable: {"row", "reason"}.
    """

    make: Callable[[Any], Record]
    jobs: Sequence[tuple[int, Any]]
    rejected: Sequence[Rejection] = ()


@dataclasses.dataclass
class Summary:
    """What a build came to: records and audio seconds by task, and what was rejected by split."""

    records: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    seconds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    rejected: dict[str, list[Rejection]] = dataclasses.field(default_factory=dict)


def build_corpus(
    out: pathlib.Path | str,
    work: Mapping[str, Work],
    *,
    workers: int | None = None,
    overwrite: bool = False,
) -> Summary:
    """Builds splits of a corpus. It appears complete at the end, or not at all.

    Args:
        out: the corpus folder; splits that it has beside these are kept.
        work: what each split is made of.
        workers: processes that make records; 1 makes them in this process; None takes every core.
        overwrite: whether splits that are there already may be replaced.

    Raises:
        CorpusError: the folder cannot be used, or a split would have no record.
    """
    out = pathlib.Path(out)
    staging.check_target(out, tuple(work), overwrite)
    for split, part in work.items():
        _check_any(split, part.jobs, part.rejected)
    for folder in staging.unfinished(out):
        print(f"note: {folder} is of an unfinished build; delete it if none runs", file=sys.stderr)
    summary = Summary()
    with staging.staged(out, tuple(work)) as folder:
        for split, part in work.items():
            summary.rejected[split] = _build_split(folder, split, part, workers, summary)
        _write_rejected(folder / REJECTED_FILE, out / REJECTED_FILE, summary.rejected)
        has_vocabulary = (out / TOKENIZER_FOLDER).is_dir() and not overwrite
        if "train" in work and not has_vocabulary:
            _train_vocabulary(folder)
    return summary


def build_synthetic_if_missing(root: pathlib.Path | str, mixture: Iterable[str]) -> None:
    """Builds the built-in corpus below `root` if the mixture names it and it is not there."""
    out = pathlib.Path(root) / SYNTHETIC
    if SYNTHETIC not in mixture or (out / "train.index.jsonl").is_file():
        return
    print(
        f"building the synthetic corpus in {out} (once, about a minute on two cores)",
        file=sys.stderr,
    )
    try:
        build_corpus(out, synthetic_work())
    except CorpusError:
        # Several processes may start on one file system; the first to finish has built it for all.
        if not (out / "train.index.jsonl").is_file():
            raise


def synthetic_work(
    train_examples: int = TRAIN_EXAMPLES,
    validation_examples: int = VALIDATION_EXAMPLES,
    seed: int = SEED,
) -> dict[str, Work]:
    """Both splits of the built-in corpus."""
    counts = {"train": train_examples, "validation": validation_examples}
    return {
        split: Work(synthetic.make, list(enumerate(synthetic.jobs(split, count, seed), start=1)))
        for split, count in counts.items()
        if count
    }


def manifest_work(path: pathlib.Path | str, split: str) -> dict[str, Work]:
    """One split from a manifest. Raises RejectedRecord if the file is missing or empty."""
    usable, rejected = manifest.jobs(pathlib.Path(path))
    return {split: Work(rows.make, [(row.line, row) for row in usable], rejected)}


def published_work(
    name: str, root: pathlib.Path, splits: Sequence[str], tasks: Sequence[str]
) -> dict[str, Work]:
    """Splits of a published corpus. Raises RejectedRecord if the folder is none of it."""
    work = {}
    for split in splits:
        listed = published.jobs(name, root, split, tasks)
        work[split] = Work(rows.make, [(row.line, row) for row in listed])
    return work


def _build_split(
    folder: pathlib.Path, split: str, work: Work, workers: int | None, summary: Summary
) -> list[Rejection]:
    """Writes shards and index; returns what was rejected, by row."""
    rejected = list(work.rejected)
    ids: set[str] = set()
    with ShardWriter(folder, split) as writer:
        results = _results(work, workers or os.cpu_count() or 1)
        for outcome in tqdm(results, split, len(work.jobs), unit=" records", disable=None):
            if isinstance(outcome, dict):
                rejected.append(outcome)
                continue
            record, samples = outcome
            if record.id in ids:
                raise CorpusError(f"{split}: the source gave the id {record.id!r} twice")
            ids.add(record.id)
            writer.add(record, samples)
            summary.records[record.task] += 1
            summary.seconds[record.task] += sum(samples) / SAMPLE_RATE
    rejected.sort(key=lambda rejection: rejection["row"])
    _check_any(split, ids, rejected)
    return rejected


def _check_any(split: str, usable: Collection[Any], rejected: Sequence[Rejection]) -> None:
    if not usable:
        reasons = "; ".join(f"line {r['row']}: {r['reason']}" for r in rejected[:_SHOWN])
        raise CorpusError(
            f"no usable row for the {split} split, so nothing was written ({len(rejected)} "
            f"rejected: {reasons or 'none'})"
        )


def _results(work: Work, workers: int) -> Iterator[Any]:
    """Outcomes of `_attempt`, in the order of the jobs."""
    attempt = functools.partial(_attempt, work.make)
    if min(workers, len(work.jobs)) <= 1:
        yield from map(attempt, work.jobs)
        return
    # Spawned, because the caller may have threads (JAX has), which a fork would not survive.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)
    try:
        # In portions, so that a long manifest does not pile up records that wait to be written.
        portion = _CHUNK * workers * 16
        for first in range(0, len(work.jobs), portion):
            jobs = work.jobs[first : first + portion]
            yield from pool.map(attempt, jobs, chunksize=_CHUNK)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise CorpusError(
            "a worker process died, perhaps for lack of memory, so nothing was written; try fewer "
            "--workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(
    make: Callable[[Any], Record], numbered_job: tuple[int, Any]
) -> tuple[Record, tuple[int, ...]] | Rejection:
    """Makes and checks one record: the record and its clips' samples, or why it is rejected."""
    row, job = numbered_job
    try:
        record = make(job)
    except RejectedRecord as error:
        return {"row": row, "reason": str(error)}
    try:
        check_annotation(record.task, record.annotation, len(record.audio))
        for _ in texts_of(record.task, record.annotation):
            pass  # what cannot be rendered must not be found out in the middle of a training run
        samples = tuple(len(decode(clip)) for clip in record.audio)
    except AudioError as error:
        return {"row": row, "id": record.id, "reason": f"field 'audio': {error}"}
    except AnnotationError as error:
        return {"row": row, "id": record.id, "reason": str(error)}
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = f"its annotation does not fit task {record.task!r} ({error!r})"
        return {"row": row, "id": record.id, "reason": reason}
    return record, samples


def _write_rejected(
    new: pathlib.Path, old: pathlib.Path, rejected: Mapping[str, Sequence[Rejection]]
) -> None:
    """Writes the list of rejected rows, keeping what it says of other splits."""
    rows = []
    if old.is_file():
        lines = old.read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row.get("split") not in rejected]
    rows += [{"split": split, **row} for split, part in rejected.items() for row in part]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    new.write_text(text, encoding="utf-8")


def _train_vocabulary(folder: pathlib.Path) -> None:
    """Trains the corpus's vocabulary on all text that its train split can be rendered to."""
    rows = Corpus(folder).index("train")
    texts = (text for row in rows for text in texts_of(row.task, row.annotation))
    languages = {
        row.annotation[key]
        for row in rows
        for key in ("language", "target_language")
        if isinstance(row.annotation.get(key), str)
    }
    train_sentencepiece(texts, sorted(languages), folder / TOKENIZER_FOLDER)


def _show(out: pathlib.Path, summary: Summary) -> None:
    table = Table(title=str(out))
    table.add_column("task")
    table.add_column("records", justify="right")
    table.add_column("hours", justify="right")
    rows = [(t, n, summary.seconds[t]) for t, n in sorted(summary.records.items())]
    rows.append(("all", summary.records.total(), sum(summary.seconds.values())))
    for task, records, seconds in rows:
        table.add_row(task, f"{records:,}", f"{seconds / 3600:.2f}")
    Console().print(table)
    for split, rejected in summary.rejected.items():
        if rejected:
            print(
                f"{split}: {len(rejected)} rows rejected, listed in {out / REJECTED_FILE}:",
                *(f"  line {r['row']}: {r['reason']}" for r in rejected[:_SHOWN]),
                *(["  ..."] if len(rejected) > _SHOWN else []),
                sep="\n",
                file=sys.stderr,
            )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, choices=[*FLAGS, *published.PUBLISHED])
    parser.add_argument("--out", required=True, type=pathlib.Path, help="corpus folder to write")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="replace a split that is there")
    group = parser.add_argument_group("--source=manifest")
    group.add_argument("--manifest", type=pathlib.Path, help="JSONL file")
    group = parser.add_argument_group(f"--source={'|'.join(published.PUBLISHED)}")
    group.add_argument("--root", type=pathlib.Path, help="the folder that its archive unpacks to")
    group.add_argument("--tasks", help="which of its tasks, with commas (default: the first)")
    group = parser.add_argument_group("both of these")
    group.add_argument(
        "--split", choices=SPLITS, help="which split to write (default: train; published: both)"
    )
    group = parser.add_argument_group("--source=synthetic (always writes both splits)")
    group.add_argument("--train_examples", type=int, help=f"default: {TRAIN_EXAMPLES}")
    group.add_argument("--validation_examples", type=int, help=f"default: {VALIDATION_EXAMPLES}")
    group.add_argument("--seed", type=int, help=f"default: {SEED}")
    arguments = parser.parse_args(argv)
    own = FLAGS.get(arguments.source, PUBLISHED_FLAGS)
    for name in sorted({*PUBLISHED_FLAGS, *(flag for flags in FLAGS.values() for flag in flags)}):
        if name not in own and getattr(arguments, name) is not None:
            parser.error(f"--{name} does not go with --source={arguments.source}")
    if arguments.source == "manifest" and arguments.manifest is None:
        parser.error("--source=manifest needs --manifest=FILE")
    if arguments.source in published.PUBLISHED and arguments.root is None:
        parser.error(f"--source={arguments.source} needs --root=DIR")
    for name in ("workers", "train_examples", "validation_examples"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    return arguments


def _splits(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.split:
        return (arguments.split,)
    return ("train",) if arguments.source == "manifest" else SPLITS


def _work(arguments: argparse.Namespace) -> dict[str, Work]:
    if arguments.source == "manifest":
        return manifest_work(arguments.manifest, _splits(arguments)[0])
    if arguments.source in published.PUBLISHED:
        tasks = [task.strip() for task in (arguments.tasks or "").split(",") if task.strip()]
        return published_work(arguments.source, arguments.root, _splits(arguments), tasks)
    given = {
        name: getattr(arguments, name)
        for name in ("train_examples", "validation_examples", "seed")
        if getattr(arguments, name) is not None
    }
    return synthetic_work(**given)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one sentence on stderr."""
    arguments = _arguments(argv)
    try:
        staging.check_target(arguments.out, _splits(arguments), arguments.overwrite)
        summary = build_corpus(
            arguments.out,
            _work(arguments),
            workers=arguments.workers,
            overwrite=arguments.overwrite,
        )
    except (CorpusError, RejectedRecord, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _show(arguments.out, summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
