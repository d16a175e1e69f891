r"""Builds a corpus: a source's records in shards, their index, and a vocabulary.

    python -m data_pipelines.build --source=manifest --manifest=train.jsonl --out=data/mine
    python -m data_pipelines.build --source=manifest --manifest=dev.jsonl --out=data/mine \
        --split=validation
    python -m data_pipelines.build --source=conversations --manifest=chats.jsonl --out=data/chats
    python -m data_pipelines.build --source=synthetic --out=data/synthetic
    python -m data_pipelines.build --source=synthetic --out=data/more --hours=10
    python -m data_pipelines.build --source=librispeech --root=LibriSpeech --out=data/librispeech

A manifest has one JSON object a line, with paths relative to the manifest:

    {"audio": "a.flac", "task": "asr", "text": "good morning", "language": "en"}
    {"audio": ["a.flac", "b.mp3"], "task": "speaker_verification", "text": "same"}

Conversations come in the forms of ms-swift, LLaMA-Factory, TRL, transformers, OpenAI and others,
told by their keys; docs/data.md has them all:

    {"messages": [{"role": "user", "content": [{"type": "audio", "path": "a.flac"},
                                               {"type": "text", "text": "What is it?"}]},
                  {"role": "assistant", "content": "A bell."}]}

A row with two answers, of which one is better, is a preference pair.

docs/tasks.md has the tasks and what fields each needs; further ones (source, license, ...) are
kept. Clips are WAV, FLAC, Ogg, MP3 or another kind that docs/data.md lists, from 30 ms to an hour;
`offset` and `duration`, in seconds, cut one out of a recording. Rows that cannot be used are listed
with the reason in OUT/rejected.jsonl and the rest is built; what was mended in it is counted in
OUT/notes.jsonl. The same source gives the same files, with any number of workers. A build that was
broken off goes on where it was when it is started again.
"""

import argparse
import math
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tqdm import tqdm

from data_pipelines import staging
from data_pipelines.beam_runner import beam_runner
from data_pipelines.build_flags import (
    LISTS,
    SEED,
    TRAIN_EXAMPLES,
    VALIDATION_EXAMPLES,
    read_flags,
)
from data_pipelines.build_summary import (
    NOTES_FILE,
    REJECTED_FILE,
    SHOWN,
    listed_notes,
    show,
    write_listed,
)
from data_pipelines.build_workers import ShardWork, Work, Workers, fingerprint, shards_of
from data_pipelines.records import SPLITS, Corpus, CorpusError, RejectedRecord, told_of
from data_pipelines.shards import Rejection, ShardSummary, join_shards, joined
from data_pipelines.sources import (
    conversations,
    manifest,
    published,
    rows,
    synthetic,
    tfds_dataset,
)
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.tasks import CHAT, PREFERENCE
from qwen_audio_jax.text.tokenizer import train_sentencepiece

SYNTHETIC, TALKS, PAIRS = "synthetic", "talks", "pairs"
"""Names of the corpora that training builds by itself."""

TRAIN_TALKS, VALIDATION_TALKS = 6000, 480
TRAIN_PAIRS, VALIDATION_PAIRS = 4000, 480
TOKENIZER_FOLDER = "tokenizer"
VOCABULARY_RECORDS = 100_000
"""Whose text a vocabulary is trained on, at most."""


def build_corpus(
    out: pathlib.Path | str,
    work: Mapping[str, Work],
    *,
    workers: int | None = None,
    overwrite: bool = False,
    per_shard: int | None = None,
    runner: Callable[[Sequence[ShardWork]], None] | None = None,
) -> ShardSummary:
    """Builds splits of a corpus. It appears complete at the end, or not at all.

    A build that was broken off goes on with the shards that it had made.

    Args:
        out: the corpus folder; splits that it has beside these are kept.
        work: what each split is made of.
        workers: processes that make records; 1 makes them in this process; None takes every core.
        overwrite: whether splits that are there already may be replaced.
        per_shard: jobs of each shard; None chooses by the size of the source's audio.
        runner: makes shards elsewhere, see `beam_runner`; None makes them on this machine.

    Raises:
        CorpusError: the folder cannot be used, or a split would have no record.
    """
    out = pathlib.Path(out)
    staging.check_target(out, tuple(work), overwrite)
    for split, part in work.items():
        _check_any(split, len(part.jobs), part.rejected)
    size = {split: per_shard or part.per_shard() for split, part in work.items()}
    mark = fingerprint(work, size)
    for folder in staging.unfinished(out, mark):
        print(f"note: {folder} is of an unfinished build; delete it if none runs", file=sys.stderr)
    made: dict[str, ShardSummary] = {}
    with staging.staged(out, tuple(work), mark) as folder:
        for split, part in work.items():
            shards = shards_of(folder, split, part, size[split])
            if not joined(folder, split).is_file():
                _make_shards(shards, workers or os.cpu_count() or 1, runner)
            made[split] = join_shards(folder, split, len(shards))
            made[split].rejected = sorted(
                [*part.rejected, *made[split].rejected], key=lambda rejection: rejection["row"]
            )
            _check_any(split, made[split].records.total(), made[split].rejected)
        rejected = {split: done.rejected for split, done in made.items()}
        write_listed(REJECTED_FILE, folder, out, rejected)
        notes = {split: listed_notes(done) for split, done in made.items()}
        write_listed(NOTES_FILE, folder, out, notes)
        has_vocabulary = (out / TOKENIZER_FOLDER).is_dir() and not overwrite
        if "train" in work and not has_vocabulary:
            _train_vocabulary(folder)
        for split in work:
            joined(folder, split).unlink()
    return made


def _make_shards(
    shards: Sequence[ShardWork],
    workers: int,
    runner: Callable[[Sequence[ShardWork]], None] | None,
) -> None:
    """Makes those that are not done."""
    left = [shard for shard in shards if not shard.is_done]
    if done := len(shards) - len(left):
        print(f"going on: {done} of {len(shards)} shards are there", file=sys.stderr)
    if runner is not None:
        runner(left)
        return
    total = sum(len(shard.jobs) for shard in left)
    name = shards[0].split
    with (
        Workers(min(workers, total)) as pool,
        tqdm(total=total, desc=name, unit=" records", disable=None) as bar,
    ):
        for shard in left:
            outcomes = pool.outcomes(shard)
            shard(outcome for outcome in outcomes if not bar.update())


def build_synthetic_if_missing(root: pathlib.Path | str, mixture: Iterable[str]) -> None:
    """Builds the built-in corpora below `root` that the mixture names and that are not there."""
    for name in BUILT_IN:
        if name in mixture:
            _build_if_missing(pathlib.Path(root) / name, name)


def _build_if_missing(out: pathlib.Path, name: str) -> None:
    if (out / "train.index.jsonl").is_file():
        return
    print(
        f"building the {name} corpus in {out} (once, about a minute on two cores)",
        file=sys.stderr,
    )
    try:
        build_corpus(out, BUILT_IN[name]())
    except CorpusError:
        # Several processes may start on one file system; the first to finish has built it for all.
        if not (out / "train.index.jsonl").is_file():
            raise


def synthetic_work(
    train_examples: int = TRAIN_EXAMPLES,
    validation_examples: int = VALIDATION_EXAMPLES,
    seed: int = SEED,
    tasks: Collection[str] = synthetic.TASKS,
) -> dict[str, Work]:
    """Both splits of the built-in corpus."""
    counts = {"train": train_examples, "validation": validation_examples}
    return {
        split: Work(
            synthetic.make,
            synthetic.Jobs(split, count, seed, tasks),
            synthetic.row_of,
            synthetic.size_of,
        )
        for split, count in counts.items()
        if count
    }


def talks_work() -> dict[str, Work]:
    """Both splits of the built-in conversations."""
    return synthetic_work(TRAIN_TALKS, VALIDATION_TALKS, SEED, (CHAT,))


def pairs_work() -> dict[str, Work]:
    """Both splits of the built-in preference pairs."""
    return synthetic_work(TRAIN_PAIRS, VALIDATION_PAIRS, SEED, (PREFERENCE,))


BUILT_IN = {SYNTHETIC: synthetic_work, TALKS: talks_work, PAIRS: pairs_work}
"""Corpora that training builds by itself."""


def manifest_work(path: pathlib.Path | str, split: str) -> dict[str, Work]:
    """One split from a manifest. Raises RejectedRecord if the file is missing or empty."""
    usable, rejected = manifest.jobs(pathlib.Path(path))
    return {split: Work(rows.make, usable, rows.row_of, rows.size_of, rejected)}


def conversations_work(
    path: pathlib.Path | str,
    split: str,
    form: str = conversations.AUTO,
    media_dir: pathlib.Path | None = None,
    *,
    unplaced_first: bool = False,
) -> dict[str, Work]:
    """One split from a file of talks. Raises RejectedRecord if the file cannot be used."""
    usable, rejected = conversations.jobs(
        pathlib.Path(path), form, media_dir, unplaced_first=unplaced_first
    )
    made_by = (conversations.make, usable, conversations.row_of, conversations.size_of)
    return {split: Work(*made_by, rejected)}


def published_work(
    name: str, root: pathlib.Path, splits: Sequence[str], tasks: Sequence[str]
) -> dict[str, Work]:
    """Splits of a published corpus. Raises RejectedRecord if the folder is none of it."""
    work = {}
    for split in splits:
        listed = published.jobs(name, root, split, tasks)
        work[split] = Work(rows.make, listed, rows.row_of, rows.size_of)
    return work


def tfds_work(
    dataset: str, data_dir: pathlib.Path | None, splits: Sequence[str], task: str, fields: str
) -> dict[str, Work]:
    """Splits of a dataset that TFDS prepared; those that it has."""
    work = {}
    for split in splits:
        listed = tfds_dataset.jobs(dataset, data_dir, split, task, fields)
        if listed is not None:
            made_by = (tfds_dataset.make, listed, tfds_dataset.row_of, tfds_dataset.size_of)
            work[split] = Work(*made_by)
    if not work:
        raise RejectedRecord(f"{dataset}: has no {' and no '.join(splits)} split")
    return work


def _check_any(split: str, usable: int, rejected: Sequence[Rejection]) -> None:
    if not usable:
        reasons = "; ".join(f"line {r['row']}: {r['reason']}" for r in rejected[:SHOWN])
        raise CorpusError(
            f"no usable row for the {split} split, so nothing was written ({len(rejected)} "
            f"rejected: {reasons or 'none'})"
        )


def _train_vocabulary(folder: pathlib.Path) -> None:
    """Trains the corpus's vocabulary on the text that its train split can be rendered to.

    Of a large corpus, on that of records taken evenly from all of it.
    """
    index = Corpus(folder).index("train")
    step = -(-len(index) // VOCABULARY_RECORDS)
    sample = (index[number] for number in range(0, len(index), step))
    texts = (text for row in sample for text in texts_of(row.task, row.annotation))
    languages = {
        row.annotation[key]
        for row in index
        for key in ("language", "target_language")
        if isinstance(row.annotation.get(key), str)
    }
    train_sentencepiece(texts, sorted(languages), folder / TOKENIZER_FOLDER)


def _splits(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.split:
        return (arguments.split,)
    return ("train",) if arguments.source in LISTS else SPLITS


def _work(arguments: argparse.Namespace) -> dict[str, Work]:
    if arguments.source == "manifest":
        return manifest_work(arguments.manifest, _splits(arguments)[0])
    if arguments.source == "conversations":
        return conversations_work(
            arguments.manifest,
            _splits(arguments)[0],
            arguments.form or conversations.AUTO,
            arguments.media_dir,
            unplaced_first=arguments.unplaced_audio == "first",
        )
    named = [task.strip() for task in (arguments.tasks or "").split(",") if task.strip()]
    if arguments.source in published.PUBLISHED:
        tasks = published.PUBLISHED[arguments.source].TASKS if named == ["all"] else named
        return published_work(arguments.source, arguments.root, _splits(arguments), tasks)
    if arguments.source == "tfds":
        root, fields = arguments.root, arguments.fields or ""
        return tfds_work(arguments.dataset, root, _splits(arguments), arguments.tasks, fields)
    given = {
        name: getattr(arguments, name)
        for name in ("train_examples", "validation_examples", "seed")
        if getattr(arguments, name) is not None
    }
    if named:
        given["tasks"] = synthetic.TASKS if named == ["all"] else named
    if arguments.hours:
        trial = synthetic_work(**{**given, "train_examples": 1})["train"].jobs
        given["train_examples"] = math.ceil(arguments.hours * 3600 / synthetic.mean_seconds(trial))
    return synthetic_work(**given)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one sentence on stderr."""
    arguments = read_flags(argv, __doc__)
    try:
        staging.check_target(arguments.out, _splits(arguments), arguments.overwrite)
        made = build_corpus(
            arguments.out,
            _work(arguments),
            workers=arguments.workers,
            overwrite=arguments.overwrite,
            runner=arguments.runner
            and beam_runner(arguments.runner, shlex.split(arguments.beam_args)),
        )
    except (CorpusError, RejectedRecord, OSError, ImportError) as error:
        print(f"error: {told_of(error, arguments.out)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    show(arguments.out, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
