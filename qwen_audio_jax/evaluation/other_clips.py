"""Whose clips a record is heard with to see what its own are worth: others of like length."""

import bisect
import collections
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence

from data_pipelines.records import Corpus, IndexRow
from qwen_audio_jax.metrics import part_of
from qwen_audio_jax.rendering import render
from qwen_audio_jax.tasks import CHAT


@dataclasses.dataclass(frozen=True)
class Heard:
    """What counts of a record when its clips are exchanged.

    Attributes:
        number: in its split.
        samples: of its clips, all together, or whatever else tells how long they are.
        text: of its label.
        sound: equal where the clips are.
        kinds: those that it may be exchanged within, the narrowest first: its task and language,
            say, then its task. What a conversation asks in writing makes its narrowest, so that
            where answers are few, another sound has another answer.
    """

    number: int
    samples: int
    text: str
    sound: Hashable
    kinds: tuple[Hashable, ...]


def other_clips(
    records: Iterable[Heard], fits: Callable[[int, int], bool] = lambda number, other: True
) -> dict[int, int]:
    """Record number -> the record whose clips it is heard with instead.

    Neighbours in length exchange their clips, within their narrowest kind, where neither sound nor
    text are the same. A record that is left over, such as most of a class that has the majority,
    takes those of the nearest one that differs from it, in the narrowest kind that has one; if
    every text is the same, one of another sound. Without that it is not in the result. Nothing is
    drawn: the same records give the same exchange.

    Args:
        records: with their kinds, as many for each.
        fits: whether a record can be heard with the clips of another.
    """
    pools: dict[Hashable, list[Heard]] = collections.defaultdict(list)
    ordered = sorted(records, key=lambda one: (one.samples, one.number))
    for record in ordered:
        for kind in record.kinds:
            pools[kind].append(record)
    others, left = {}, []
    for kind in dict.fromkeys(record.kinds[0] for record in ordered):
        pairs, alone = _pairs(
            pools[kind],
            lambda a, b: (
                a.sound != b.sound
                and a.text != b.text
                and fits(a.number, b.number)
                and fits(b.number, a.number)
            ),
        )
        for one, two in pairs:
            others[one.number], others[two.number] = two.number, one.number
        left += alone

    @functools.cache
    def of_other_text(kind: Hashable, text: str) -> list[Heard]:
        return [one for one in pools[kind] if one.text != text]

    for record in left:
        of_all = (of_other_text(kind, record.text) for kind in record.kinds)
        for pool in itertools.chain(of_all, map(pools.__getitem__, record.kinds)):
            other = _nearest(record, pool, fits)
            if other is not None:
                others[record.number] = other.number
                break
    return others


def _pairs(
    ordered: Sequence[Heard], suit: Callable[[Heard, Heard], bool]
) -> tuple[list[tuple[Heard, Heard]], list[Heard]]:
    """Pairs of records that suit each other, near in order, and those that are left over.

    As in Boyer and Moore's vote, each takes the last one before it that waits and suits; what is
    left over waits because the same text, say, has the majority.
    """
    pairs, waiting = [], []
    for record in ordered:
        if waiting and _as_all(record, waiting):
            waiting.append(record)
            continue
        for place in reversed(range(len(waiting))):
            if suit(waiting[place], record):
                pairs.append((waiting.pop(place), record))
                break
        else:
            waiting.append(record)
    return pairs, waiting


def _as_all(record: Heard, waiting: Sequence[Heard]) -> bool:
    """Whether it has the text, or the sound, that all those have that wait.

    None of them suits another, so what the first and the last have in common they all have.
    """
    first, last = waiting[0], waiting[-1]
    return first.text == last.text == record.text or first.sound == last.sound == record.sound


def _nearest(
    record: Heard,
    ordered: Sequence[Heard],
    fits: Callable[[int, int], bool],
) -> Heard | None:
    """The record nearest in length that has another sound, and whose clips fit."""
    after = bisect.bisect_left(ordered, record.samples, key=lambda one: one.samples)
    before = after - 1
    while before >= 0 or after < len(ordered):
        longer = after < len(ordered) and (
            before < 0
            or ordered[after].samples - record.samples < record.samples - ordered[before].samples
        )
        other = ordered[after if longer else before]
        after, before = (after + 1, before) if longer else (after, before - 1)
        if record.sound != other.sound and fits(record.number, other.number):
            return other
    return None


def others_of(
    corpus: Corpus,
    split: str,
    numbers: Sequence[int],
    conditioning: str,
    fits: Callable[[int, int], bool] = lambda number, other: True,
) -> dict[int, int]:
    """`other_clips` of records of a split, all of which have clips.

    Args:
        corpus, split: where they lie.
        numbers: theirs.
        conditioning: how they are rendered.
        fits: see `other_clips`.
    """
    index = corpus.index(split)
    rows = {number: index[number] for number in numbers}
    sounds = _sounds(corpus, split, rows)
    heard = []
    for number, row in rows.items():
        _, label = render(row.task, row.annotation, conditioning)
        clips, part = len(row.samples), part_of(row.task, row.annotation)
        kinds = (
            (clips, row.task, part, _asked_in_writing(row)),
            (clips, row.task, part),
            (clips, row.task),
            (clips,),
        )
        text = "".join(span.tag or span.text for span in label)
        heard.append(Heard(number, sum(row.samples), text, sounds[number], kinds))
    return other_clips(heard, fits)


def _asked_in_writing(row: IndexRow) -> tuple[str, ...]:
    if row.task != CHAT:
        return ()
    contents = (m["content"] for m in row.annotation["messages"] if m["role"] == "user")
    parts = itertools.chain.from_iterable(
        [{"text": content}] if isinstance(content, str) else content for content in contents
    )
    return tuple(part.get("text", "") for part in parts)


def _sounds(corpus: Corpus, split: str, rows: dict[int, IndexRow]) -> dict[int, Hashable]:
    """What is equal where clips are: of those that are equally long, a digest."""
    common = collections.Counter(row.samples for row in rows.values())

    def digest(number: int) -> bytes:
        clips = corpus.record(split, number).audio
        return b"".join(hashlib.blake2b(clip, digest_size=16).digest() for clip in clips)

    return {
        number: (row.samples, digest(number) if common[row.samples] > 1 else b"")
        for number, row in rows.items()
    }
