"""What a judge is asked about an answer, and its replies on disk.

The form is that of AIR-Bench's score_chat.py (Yang et al., 2024): a description of the clip, the
question, two answers, two numbers on one line. The words are this project's, as the makers' judge
is gone, and its scores cannot be had again in any words.
"""

import dataclasses
import hashlib
import json
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any

from qwen_audio_jax.evaluation.answer_files import Answered, read_files
from qwen_audio_jax.evaluation.asking import digest
from qwen_audio_jax.evaluation.benchmarks import JUDGED
from qwen_audio_jax.evaluation.plan import Planned
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.metrics.judged import LEAST, MOST, Judged, two_scores

SETTINGS = {"temperature": 0, "seed": 0, "max_tokens": 1024}
"""Of each call; 1,024 tokens are the makers' limit, which leaves room to think."""

_BEFORE = (
    "You compare two answers to a question about an audio clip. You cannot hear the clip; it is "
    "described to you."
)
_TASK = (
    "Rate how helpful, relevant, correct and complete each answer is, by the question and the "
    f"description of the clip. Give each a whole number from {LEAST} to {MOST}, where {MOST} is "
    "best. Write one line with these two numbers and nothing else: that of the first answer, a "
    "space, that of the second answer."
)
_HEADS = (
    "Description of the clip",
    "Question",
    "First answer",
    "Second answer",
    "What to do",
)

_LOGS = "judge-"


@dataclasses.dataclass(frozen=True)
class Call:
    """One question to a judge.

    Attributes:
        key: of its reply: of the judge's name, the settings and the prompt, which has the answer
            and its place.
        prompt: the whole message.
    """

    key: str
    prompt: str


def calls_of(model: str, item: Planned, answer: str) -> tuple[Call, Call]:
    """The calls on an answer: with the reference first, and with the answer first.

    Args:
        model: the judge's name.
        item: of the rule JUDGED.
        answer: the model's.
    """
    reference = item.annotation["text"]
    prompts = (
        _prompt(item.annotation, first, second)
        for first, second in ((reference, answer), (answer, reference))
    )
    first, second = (Call(_key(model, prompt), prompt) for prompt in prompts)
    return first, second


def _prompt(annotation: Mapping[str, Any], first: str, second: str) -> str:
    texts = annotation["description"], annotation["question"], first, second, _TASK
    parts = (f"[{head}]\n{text}" for head, text in zip(_HEADS, texts, strict=True))
    return "\n\n".join((_BEFORE, *parts))


def _key(model: str, prompt: str) -> str:
    return digest(json.dumps([model, SETTINGS, prompt]).encode())


def signature_of(model: str) -> str:
    """What a judge's scores depend on beside the answers."""
    form = json.dumps([_BEFORE, _HEADS, _TASK]).encode()
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    prompt = hashlib.sha256(form).hexdigest()[:8]
    return f"judge {model}, {settings}, both orders, prompt sha256 {prompt}"


def log_of(folder: pathlib.Path, model: str) -> pathlib.Path:
    """The file of a judge's replies, called by its name."""
    return folder / f"{_LOGS}{urllib.parse.quote(model, safe=' ')}.jsonl"


@dataclasses.dataclass(frozen=True)
class Replies:
    """What a judge has said in an evaluation.

    Attributes:
        model: its name.
        by_key: its replies.
    """

    model: str
    by_key: Mapping[str, Answered]

    def of(self, item: Planned, answer: str) -> tuple[Answered | None, Answered | None]:
        """Its replies on an answer, in the order of `calls_of`; None where it was not asked yet."""
        first, second = calls_of(self.model, item, answer)
        return self.by_key.get(first.key), self.by_key.get(second.key)

    def judged(self, item: Planned, answer: str) -> Judged:
        """The scores in them."""
        first, second = (
            two_scores(reply.text) if reply and reply.finish != FAILED else None
            for reply in self.of(item, answer)
        )
        return Judged(first, second)


def read_judges(folder: pathlib.Path) -> list[Replies]:
    """All judges of an evaluation, by their names."""
    logs = {path: path.stem.removeprefix(_LOGS) for path in sorted(folder.glob(f"{_LOGS}*.jsonl"))}
    return [Replies(urllib.parse.unquote(name), read_files([path])) for path, name in logs.items()]


def judged_counts(
    item: Planned, answer: str, judges: list[Replies]
) -> dict[str, tuple[float, ...]]:
    """By metric what an answer adds to the sums that judges' scores are a ratio of."""
    if item.rule != JUDGED:
        return {}
    judged = {one.model: one.judged(item, answer) for one in judges}
    return {f"judged/{name}": (one.score(), 1.0) for name, one in judged.items() if one.is_read}
