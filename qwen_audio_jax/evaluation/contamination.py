"""Contamination: which items of a benchmark a training corpus holds, by sound and by words.

Nothing of it needs a model. A corpus's index tells how long each clip is, so of its audio only
clips are read that are as long, to the sample, as one of the benchmark's.
"""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.records import Corpus, IndexRow
from qwen_audio_jax.audio.decode import AudioError, decode
from qwen_audio_jax.evaluation.asking import digest
from qwen_audio_jax.evaluation.benchmarks import open_benchmark
from qwen_audio_jax.evaluation.ngrams import Texts
from qwen_audio_jax.evaluation.plan import Asked, Plan
from qwen_audio_jax.monitoring.progress_bar import bar
from qwen_audio_jax.tasks import KINDS

SAME_BYTES, SAME_SAMPLES = "same bytes", "same samples"

Key = tuple[str, str]
"""An item's benchmark and id."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A corpus to look in.

    Attributes:
        corpus: which.
        split: what of it is trained on: "train", or the only split that there is.
    """

    corpus: Corpus
    split: str

    @classmethod
    def of(cls, path: pathlib.Path) -> "Source":
        """Raises CorpusError, FileNotFoundError: the folder is no whole corpus; one sentence."""
        corpus = Corpus(path)
        split = "train" if "train" in corpus.splits else next(iter(corpus.splits), "train")
        corpus.index(split)
        return cls(corpus, split)

    @property
    def name(self) -> str:
        """As "data/mine (train)"."""
        return f"{self.corpus.path} ({self.split})"


@dataclasses.dataclass
class Overlap:
    """What of an item the corpora hold.

    Attributes:
        audio: SAME_BYTES, or SAME_SAMPLES of another file that sounds the same to the bit, such as
            one of another lossless coding; "" for none.
        text: which share of its n-grams, see `ngrams`; None if it has none.
        record: the first record that holds anything of it, with its corpus.
    """

    audio: str = ""
    text: float | None = None
    record: str = ""


@dataclasses.dataclass(frozen=True)
class Contamination:
    """What corpora hold of an evaluation.

    Attributes:
        sources: the corpora, with their numbers of records.
        overlaps: of each item that can be asked.
        unread: how many items have clips that cannot be decoded, by benchmark; only their words are
            looked for.
    """

    sources: Mapping[str, int]
    overlaps: Mapping[Key, Overlap]
    unread: Mapping[str, int]


class _Clips:
    """The clips of a benchmark, found again by their bytes and by their samples."""

    def __init__(self):
        self.by_bytes: dict[str, set[Key]] = collections.defaultdict(set)
        self.by_samples: dict[str, set[Key]] = collections.defaultdict(set)
        self.lengths: set[int] = set()
        self.unread: set[Key] = set()
        self._decoded: dict[str, tuple[str, int] | None] = {}

    def add(self, key: Key, clip: bytes) -> None:
        name = digest(clip)
        self.by_bytes[name].add(key)
        if name not in self._decoded:
            self._decoded[name] = _samples(clip)
        known = self._decoded[name]
        if known is None:
            self.unread.add(key)
            return
        self.by_samples[known[0]].add(key)
        self.lengths.add(known[1])

    def look(self, clip: bytes) -> tuple[set[Key], str]:
        """Whose clip it is, and in what it is the same."""
        if found := self.by_bytes.get(digest(clip)):
            return found, SAME_BYTES
        known = _samples(clip)
        return (self.by_samples.get(known[0], set()) if known else set()), SAME_SAMPLES


def _samples(clip: bytes) -> tuple[str, int] | None:
    """A digest of a clip's samples at 16 kHz, and how many they are."""
    try:
        wave = decode(clip)
    except AudioError:
        return None
    return hashlib.blake2b(wave.tobytes(), digest_size=16).hexdigest(), len(wave)


def find(plan: Plan, sources: Sequence[Source]) -> Contamination:
    """Looks for all items of an evaluation in corpora.

    Raises:
        ValueError, OSError: a benchmark is not there any more, or another one; a corpus is damaged.
    """
    asked = {(item.benchmark, item.id): item for item in plan.items}
    clips = _Clips()
    for benchmark in plan.benchmarks:
        _add_clips(clips, benchmark, asked.keys())
    texts = Texts(
        (key, text) for key, item in asked.items() for text in texts_of(item.task, item.annotation)
    )
    overlaps: dict[Key, Overlap] = {key: Overlap() for key in asked}
    for source in sources:
        _look_in(source, clips, texts, overlaps)
    for key, overlap in overlaps.items():
        overlap.text = texts.share(key)
    return Contamination(
        {source.name: len(source.corpus.index(source.split)) for source in sources},
        overlaps,
        collections.Counter(benchmark for benchmark, _ in clips.unread),
    )


def _add_clips(clips: _Clips, asked: Asked, wanted: Iterable[Key]) -> None:
    benchmark = open_benchmark(asked.name, pathlib.Path(asked.path))
    if benchmark.digest != asked.digest:
        raise ValueError(
            f"{asked.path}: has changed since the evaluation began, so --against cannot tell what "
            "of it a corpus holds; answer again"
        )
    with bar(f"hearing {asked.name}", asked.items) as shown:
        for item in benchmark.items:
            key = (asked.name, item.id)
            if key not in wanted:
                continue
            shown.update()
            try:
                each = item.clips()
            except (ValueError, OSError):
                clips.unread.add(key)
                continue
            for clip in each:
                clips.add(key, clip)


def _look_in(source: Source, clips: _Clips, texts: Texts, overlaps: Mapping[Key, Overlap]) -> None:
    index = source.corpus.index(source.split)
    with bar(f"looking in {source.corpus.path}", len(index)) as shown:
        for number, row in enumerate(index):
            for text in texts_of(row.task, row.annotation):
                for key in texts.look(text):
                    _note(overlaps[key], source, row)
            if not clips.lengths.isdisjoint(row.samples):
                record = source.corpus.record(source.split, number)
                for clip, samples in zip(record.audio, row.samples, strict=True):
                    if samples not in clips.lengths:
                        continue
                    found, same = clips.look(clip)
                    for key in found:
                        _note(overlaps[key], source, row)
                        if overlaps[key].audio != SAME_BYTES:
                            overlaps[key].audio = same
            shown.update()


def _note(overlap: Overlap, source: Source, row: IndexRow) -> None:
    overlap.record = overlap.record or f"{source.name}: {row.id}"


def texts_of(task: str, annotation: Mapping[str, Any]) -> Iterator[str]:
    """All texts of the fields that a task names, however deep in them."""
    if task in KINDS:
        for field in KINDS[task].fields | KINDS[task].optional:
            value = annotation.get(field)
            if field == "words":
                value = " ".join(str(one["word"]) for one in value or ())
            yield from _texts_in(value)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts_in(one)
