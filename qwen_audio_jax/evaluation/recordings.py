"""Recordings that are longer than a model hears at once: asked window by window, answered as one.

They are those whose speech is to be written down. A question about a clip needs all of it, so it
is heard whole, its windows one after another in one prompt, see `data_pipelines.examples`.
"""

import dataclasses
import functools
import io
import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.io.wavfile

from qwen_audio_jax.audio.decode import AudioError, decode
from qwen_audio_jax.audio.lengths import FRAMES_PER_TOKEN, HOP, SAMPLE_RATE, WINDOW_SAMPLES
from qwen_audio_jax.audio.quiet_cuts import quiet_windows
from qwen_audio_jax.evaluation.answer_files import Answered, read_answers
from qwen_audio_jax.evaluation.benchmarks import LONGEST, Item
from qwen_audio_jax.evaluation.benchmarks.questions import Clips
from qwen_audio_jax.evaluation.loops import is_looping
from qwen_audio_jax.evaluation.plan import Plan, Planned, read_plan
from qwen_audio_jax.inference.answers import FAILED, LENGTH, STOP
from qwen_audio_jax.metrics.text import CHARACTER_LANGUAGES, base_language, without_tags
from qwen_audio_jax.tasks import KINDS

LONGEST_SECONDS = 3 * 3600.0
"""Of a recording that is asked in windows: calls and talks may last over the hour of a clip."""

_KEPT = 2
"""Decoded recordings: that whose windows are asked, and the next."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What one question asks of an item that is asked by several.

    Attributes:
        item: as it is asked: of the window's sound alone.
        samples: of that, at 16 kHz.
        row: see `plan.Window`.
    """

    item: Item
    samples: int
    row: str


def parts_of(item: Item) -> list[Part]:
    """The windows of an item that is asked by several questions; none if one asks all of it.

    It is several if its speech is to be written down, and it lasts over 30 s or its list has it in
    several clips. All such speech is decoded; what cannot be is left for its question to tell of.

    Raises:
        ValueError, OSError: its clips cannot be read.
    """
    if not is_written_down(item) or is_short(item):
        return []
    try:
        lengths = list(map(quiet_windows, _waves(item.clips)))
    except AudioError:
        return []
    if sum(map(len, lengths)) == 1:
        return []
    rows = item.rows or (item.id,)
    return [
        Part(_window(item, clip, start, samples), samples, rows[clip])
        for clip, windows in enumerate(lengths)
        for start, samples in zip(itertools.accumulate([0, *windows]), windows, strict=False)
    ]


def is_short(item: Item) -> bool:
    """Whether it is known, without a look at its clips, that one question asks all of it."""
    known = item.samples or ()
    return len(known) == 1 and known[0] <= WINDOW_SAMPLES


def is_written_down(item: Item) -> bool:
    """Whether the answer is what is said, word by word."""
    return KINDS[item.task].metric == "wer" and not item.rule


def with_limit(item: Item) -> Item:
    """The item with a limit for its answer: its own, or LONGEST, or what its sound may hold.

    Speech that is to be written down may have as many tokens as it has audio tokens, 25 in a
    second, where that is more. It is decoded for that, if its length is not known; one that cannot
    be has LONGEST.

    Raises:
        ValueError, OSError: its clips cannot be read.
    """
    if item.limit:
        return item
    limit = LONGEST
    if is_written_down(item):
        limit = _limit_of(_samples(item))
    return dataclasses.replace(item, limit=limit)


def _samples(item: Item) -> int:
    """Of its clips; 0 where they cannot be decoded."""
    if item.samples is not None:
        return sum(item.samples)
    try:
        return sum(map(len, _waves(item.clips)))
    except AudioError:
        return 0


def _limit_of(samples: int) -> int:
    return max(LONGEST, samples // (HOP * FRAMES_PER_TOKEN))


def _window(item: Item, clip: int, start: int, samples: int) -> Item:
    limit = item.limit or _limit_of(samples)
    clips = functools.partial(_sound, item.clips, clip, start, samples)
    return dataclasses.replace(item, clips=clips, rows=(), limit=limit, samples=(samples,))


def _sound(clips: Clips, clip: int, start: int, samples: int) -> tuple[bytes, ...]:
    """A window as a WAV file of the samples that the recording was decoded to."""
    file = io.BytesIO()
    scipy.io.wavfile.write(file, SAMPLE_RATE, _waves(clips)[clip][start : start + samples])
    return (file.getvalue(),)


@functools.lru_cache(maxsize=_KEPT)
def _waves(clips: Clips) -> tuple[np.ndarray, ...]:
    return tuple(decode(clip, seconds=LONGEST_SECONDS) for clip in clips())


def read_evaluation(folder: pathlib.Path) -> tuple[Plan, dict[str, Answered]]:
    """An evaluation's plan, and the answers by key, whole recordings' among them.

    Raises:
        FileNotFoundError, ValueError: see `read_plan`.
    """
    plan = read_plan(folder)
    return plan, with_whole_answers(plan.items, read_answers(folder))


def with_whole_answers(
    items: Iterable[Planned], answered: Mapping[str, Answered]
) -> dict[str, Answered]:
    """The answers, and by their keys those of items that are asked by several questions.

    Such an item is there if each of its windows is, and has failed if one of them has.

    Args:
        items: that were asked.
        answered: by key, as they lie in files.
    """
    whole = dict(answered)
    for item in items:
        if item.windows and all(window.key in answered for window in item.windows):
            whole[item.key] = _whole(item, [answered[window.key] for window in item.windows])
    return whole


def _whole(item: Planned, answers: Sequence[Answered]) -> Answered:
    tokens = sum(one.tokens for one in answers)
    ends = list(itertools.accumulate(window.samples for window in item.windows))
    for number, (one, end) in enumerate(zip(answers, ends, strict=True)):
        if one.finish == FAILED:
            begin = end - item.windows[number].samples
            error = (
                f"window {number + 1} of {len(answers)}, {begin / SAMPLE_RATE:.2f} to "
                f"{end / SAMPLE_RATE:.2f} s, failed: {one.error}"
            )
            return Answered(item.key, "", FAILED, tokens, error)
    finish = LENGTH if any(one.finish == LENGTH for one in answers) else STOP
    text = joined([one.text for one in answers], item.annotation.get("language"))
    return Answered(item.key, text, finish, tokens, seconds=round(ends[-1] / SAMPLE_RATE, 2))


def joined(texts: Iterable[str], language: object) -> str:
    """Transcripts of windows as one: with a space between them, without in CHARACTER_LANGUAGES."""
    between = "" if base_language(language) in CHARACTER_LANGUAGES else " "
    return between.join(filter(None, map(str.strip, texts)))


def answers_by_row(item: Planned, answered: Mapping[str, Answered]) -> dict[str, str]:
    """The text of each row of a list that an item is of; "" where it has failed.

    Args:
        item: that was asked.
        answered: see `with_whole_answers`.
    """
    if not item.windows:
        return {item.id: answered[item.key].text if item.key in answered else ""}
    texts: dict[str, list[str]] = {}
    for window in item.windows:
        texts.setdefault(window.row, []).append(answered[window.key].text)
    return {row: joined(some, item.annotation.get("language")) for row, some in texts.items()}


def windows_told(items: Iterable[Planned], answered: Mapping[str, Answered]) -> dict[str, int]:
    """How many recordings were asked in windows, how many those are, and what ails their answers:
    what of a whole transcript shows only where it ends. None if there are no such recordings.

    Args:
        items: that were asked.
        answered: of the windows, by key.
    """
    recordings = [item.windows for item in items if item.windows]
    if not recordings:
        return {}
    answers = [answered[one.key] for one in itertools.chain.from_iterable(recordings)]
    return {
        "recordings": len(recordings),
        "windows": len(answers),
        "failed": sum(one.finish == FAILED for one in answers),
        "empty": sum(one.finish != FAILED and not without_tags(one.text) for one in answers),
        "truncated": sum(one.finish == LENGTH for one in answers),
        "looping": sum(is_looping(one.text) for one in answers),
    }
