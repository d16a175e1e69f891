"""What a benchmark asks."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.rendering.spans import Span

LONGEST = 256
"""Tokens of an answer in most scripts, and where there is none."""

REFUSALS = "refusals"
"""The rule of free answers of which it counts whether they refuse, see `metrics.voicebench`."""

JUDGED = "judged"
"""The rule of free answers that a judge compares with the reference, see `evaluation.judge_calls`.
The annotation has "question", "text" (the reference), "description" (of the clip), and "group"
where the benchmark's scores are of groups.
"""

ELSEWHERE = "elsewhere"
"""The rule of answers that are not scored here: a checker of the benchmark's own does, or its
makers alone know what is right. They are asked, counted, and written for that scorer.
"""


@dataclasses.dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: its own within the benchmark.
        task: a key of `qwen_audio_jax.tasks.KINDS`: how it is asked where it brings no words of its
            own, and how its answer is scored, unless it is a choice.
        annotation: the label fields, and what slices are made of (source, language, gender ...);
            JSON types.
        clips: reads its encoded clips; raises RejectedRecord or CorpusError where they cannot be.
            Several of speech that is to be written down are a recording that was cut already.
        spans: the whole prompt where the file writes it out; see `rendering.spans`.
        messages: what a model that was tuned on conversations is asked.
        choices: texts of which one is the answer, `annotation["text"]`; none where it is free.
        reordered: the question's words with the choices in another order, of their numbers; None
            where nothing is written of them, as where they are spoken.
        rule: how the benchmark's own scorer reads the answer: a choice by a key of
            `metrics.choices.RULES`, a free one by REFUSALS, JUDGED or ELSEWHERE; "" is the
            task's metric.
        limit: tokens that the answer may have, as the benchmark's own script sets it; 0 where none
            does, see `recordings.with_limit`.
        rows: ids of the list's rows, where each of its clips is one of them.
        samples: of its clips at 16 kHz, where they are known before these are read.
    """

    id: str
    task: str
    annotation: dict[str, Any]
    clips: Callable[[], tuple[bytes, ...]]
    spans: tuple[Span, ...] = ()
    messages: tuple[Message, ...] = ()
    choices: tuple[str, ...] = ()
    reordered: Callable[[Sequence[int]], str] | None = None
    rule: str = ""
    limit: int = 0
    rows: tuple[str, ...] = ()
    samples: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A row of a benchmark that is not asked.

    Attributes:
        row: its number in the file, from 1, or its id.
        reason: one sentence.
    """

    row: int | str
    reason: str


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark that has been read; its audio has not.

    Attributes:
        name: what the user calls it.
        form: a key of `FORMS`.
        path: where it was read from.
        digest: of the bytes of its list: which version of the data it is.
        items: what is asked, in the order of the list.
        left_out: what is not.
    """

    name: str
    form: str
    path: pathlib.Path
    digest: str
    items: Sequence[Item]
    left_out: Sequence[LeftOut]
