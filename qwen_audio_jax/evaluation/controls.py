"""Controls: the same questions with what should count taken away or moved, to see that it counts.

Without its audio a question tells what can be had from its words alone; with another's audio,
whether the model listens at all; with its choices in every order, whether the model means a choice
or likes a letter.
"""

import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import soundfile

from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.evaluation.benchmarks import ELSEWHERE, JUDGED, Benchmark, Item
from qwen_audio_jax.evaluation.benchmarks.questions import turned
from qwen_audio_jax.evaluation.other_clips import Heard, other_clips
from qwen_audio_jax.evaluation.plan import Planned, planned_of, replace
from qwen_audio_jax.evaluation.selection import spread
from qwen_audio_jax.metrics import part_of
from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.tasks import CONVERSATIONS

NO_AUDIO, SHUFFLED_AUDIO = "no_audio", "shuffled_audio"
PERMUTED_CHOICES = "permuted_choices"

CONTROLS_FILE = "controls.jsonl"


@dataclasses.dataclass(frozen=True)
class Control:
    """An item as it is asked under a control.

    Attributes:
        name: NO_AUDIO, SHUFFLED_AUDIO or PERMUTED_CHOICES.
        places: by how many its choices are moved up, of PERMUTED_CHOICES; else 0.
        item: what is asked; its benchmark and id are the item's own.
    """

    name: str
    places: int
    item: Planned


def controls_of(
    benchmark: Benchmark,
    pairs: Sequence[tuple[Item, Planned]],
    is_message: Callable[[Item], bool],
    limit: int,
) -> Iterator[tuple[str, int, Benchmark]]:
    """(name, places) of each control, see `Control`, and what is asked under it.

    Items that have no clip, are scored by a judge or elsewhere, or cannot be asked have none.

    Args:
        benchmark: whose items they are.
        pairs: those that are asked, as the benchmark has them and as they were planned.
        is_message: whether an item is asked as a message, which may be one without a clip.
        limit: items at most, spread evenly; 0 is all.
    """
    asked = [pair for pair in pairs if pair[1].key and pair[0].rule not in (JUDGED, ELSEWHERE)]
    chosen = spread(range(len(asked)), limit)
    heard = [asked[n][0] for n in chosen if asked[n][1].audio]
    others = _others(asked)
    changed = [
        (NO_AUDIO, 0, [_without_audio(item, is_message(item)) for item in heard]),
        (SHUFFLED_AUDIO, 0, [_with_clips(asked, n, others[n]) for n in chosen if n in others]),
    ]
    movable = [asked[n][0] for n in chosen if asked[n][0].reordered]
    for places in range(1, max((len(item.choices) for item in movable), default=0)):
        moved = [turned(item, places) for item in movable if places < len(item.choices)]
        changed.append((PERMUTED_CHOICES, places, moved))
    for name, places, items in changed:
        if items:
            yield name, places, dataclasses.replace(benchmark, items=items, left_out=())


def _without_audio(item: Item, is_message: bool) -> Item:
    """A message without its clips if words are left in it; else silence of the same length, as no
    other prompt that a model was trained on stands without a clip.
    """
    if is_message and item.task in CONVERSATIONS:
        messages = _silent(item.annotation["messages"])
        if messages:
            annotation = item.annotation | {"messages": messages}
            return dataclasses.replace(item, annotation=annotation)
    elif is_message and (messages := _silent(item.messages)):
        spans = tuple(span for span in item.spans if span.clip < 0)
        return dataclasses.replace(item, messages=tuple(messages), spans=spans)
    return dataclasses.replace(item, clips=functools.partial(_silence, item.clips))


def _silent(messages: Sequence[Message]) -> list[Message]:
    """Messages without their clips; none if one of them then says nothing."""
    silent = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [part for part in content if part["type"] != "audio"]
            if not any(part["text"].strip() for part in content):
                return []
        silent.append(message | {"content": content})
    return silent


def _silence(clips: Callable[[], tuple[bytes, ...]]) -> tuple[bytes, ...]:
    return tuple(_silent_file(len(decode(clip))) for clip in clips())


def _silent_file(samples: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(samples, np.int16), SAMPLE_RATE, format="WAV")
    return file.getvalue()


def _others(pairs: Sequence[tuple[Item, Planned]]) -> dict[int, int]:
    """Whose clips each is heard with, by number: those of another of its task, of another sound
    and, where there is one, another answer, near in size. Of all that is asked, so that it does not
    depend on how many have controls.
    """
    heard = []
    for number, (item, planned) in enumerate(pairs):
        if not planned.audio:
            continue
        # Of the files, which are of one kind within a benchmark: none needs to be decoded.
        size = sum(map(len, item.clips()))
        # A recording that is asked in windows is heard whole, however many clips it was cut into.
        kind = 1 if planned.windows else len(planned.audio), item.task
        part = *kind, part_of(item.task, item.annotation)
        kinds = (*part, item.annotation.get("question", "")), part, kind
        heard.append(Heard(number, size, planned.reference, planned.audio, kinds))
    return other_clips(heard)


def _with_clips(pairs: Sequence[tuple[Item, Planned]], number: int, other: int) -> Item:
    heard = pairs[other][0]
    changed = {"clips": heard.clips, "rows": heard.rows, "samples": heard.samples}
    return dataclasses.replace(pairs[number][0], **changed)


def write_controls(folder: pathlib.Path, controls: Sequence[Control]) -> None:
    """Writes them beside the plan; without any, those of before are no more asked."""
    path = folder / CONTROLS_FILE
    if not controls:
        path.unlink(missing_ok=True)
        return
    replace(path, (json.dumps(dataclasses.asdict(one)) + "\n" for one in controls))


def read_controls(folder: pathlib.Path) -> list[Control]:
    """Those of an evaluation; none if it has none. Raises ValueError: the file is damaged."""
    path = folder / CONTROLS_FILE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return [Control(row["name"], row["places"], planned_of(row["item"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: is damaged ({error}); answer again with --controls, which asks for nothing "
            "that is answered"
        ) from None
