"""Pairs of answers made from a seed, for tests of preference tuning."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from conftest import make_example, tone_record

from data_pipelines.examples import Example, empty_batch, fill_row
from data_pipelines.pairs import lay_out, pair_fields
from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.rendering import Tokens, texts_of
from qwen_audio_jax.step_config import PreferenceConfig
from qwen_audio_jax.tasks import PREFERENCE as TASK
from qwen_audio_jax.text.tokenizer import train_sentencepiece

TOKENS, FRAMES = 160, 256
PREFERENCE = PreferenceConfig(loss="sigmoid", beta=0.5)


def parts(seed: int, clip_frames: tuple[int, ...], sizes=(5, 9)) -> tuple[Example, list[Tokens]]:
    """(a prompt of which nothing is learned, its two answers, which are learned)."""
    random = np.random.default_rng(1000 + seed)
    prompt = make_example(seed, clip_frames)
    text = dataclasses.replace(prompt.text, loss_weights=np.zeros_like(prompt.text.loss_weights))
    return dataclasses.replace(prompt, text=text), drawn_answers(random, sizes)


def drawn_answers(random: np.random.Generator, sizes: Sequence[int]) -> list[Tokens]:
    """Answers of so many random tokens each, all of them learned."""
    return [
        Tokens(
            random.integers(1, 80, size).astype(np.int32),
            np.ones(size, np.float32),
            np.full(size, -1, np.int32),
        )
        for size in sizes
    ]


def make_pair(seed: int, clip_frames: tuple[int, ...], layout: str, sizes=(5, 9)) -> Example:
    prompt, answers = parts(seed, clip_frames, sizes)
    text, pair = lay_out(prompt.text, answers, layout)
    return dataclasses.replace(prompt, text=text, pair=pair)


PAIRS = (
    ((0, (40,)), (1, ()), (2, (9, 22))),
    ((3, (30,)), (4, (12,), (3, 2))),
)
"""Row by row, what `make_pair` is given."""


def batch_of(layout: str, rows=PAIRS, tokens: int = TOKENS) -> dict[str, np.ndarray]:
    """A batch with references drawn at random."""
    batch = empty_batch(len(rows), tokens, FRAMES, 16) | pair_fields(len(rows), tokens, layout)
    random = np.random.default_rng(0)
    for row, pairs in enumerate(rows):
        fill_row(batch, row, [make_pair(*one[:2], layout, *one[2:]) for one in pairs])
        batch["references"][row, : len(pairs)] = -20 + random.standard_normal((len(pairs), 2))
    return batch


def alone(rows=PAIRS) -> dict[str, np.ndarray]:
    """The same with each answer behind its prompt in a row of its own: chosen, rejected, ..."""
    each = [parts(*one) for pairs in rows for one in pairs]
    batch = empty_batch(2 * len(each), TOKENS, FRAMES, 16)
    for number, (prompt, answers) in enumerate(each):
        for place, answer in enumerate(answers):
            fields = (f.name for f in dataclasses.fields(Tokens))
            joined = [
                np.concatenate([getattr(prompt.text, name), getattr(answer, name)])
                for name in fields
            ]
            example = dataclasses.replace(prompt, text=Tokens(*joined))
            fill_row(batch, 2 * number + place, [example])
    return batch


QUESTIONS = ("What is it?", "Which sound?", "Say what you hear.")


def pair_record(number: int) -> Record:
    """A tone or a burst of noise, or no clip at all; what it is, and what it is not."""
    tone = tone_record(number)
    kind, other = (("tone", "noise"), ("noise", "tone"))[number % 2]
    heard = [{"type": "audio"}] if number % 5 else []
    question = {"type": "text", "text": QUESTIONS[number % 3]}
    annotation = {
        "messages": [{"role": "user", "content": [*heard, question]}],
        "chosen": f"A {kind}.",
        "rejected": f"No, it is a {other}." if number % 4 else f"A {other}.",
    }
    return Record(f"pair-{number}", TASK, tone.audio if heard else (), annotation)


def write_pairs(folder: pathlib.Path, train: int, validation: int = 0) -> None:
    """Writes a corpus of `pair_record`s, with a vocabulary of its own."""
    folder.mkdir(parents=True)
    numbers = {"train": range(train), "validation": range(train, train + validation)}
    for split in filter(numbers.get, numbers):
        records = map(pair_record, numbers[split])
        measured = ((r, tuple(len(decode(clip)) for clip in r.audio)) for r in records)
        write_split(folder, split, measured)
    texts = [text for n in range(12) for text in texts_of(TASK, pair_record(n).annotation)]
    train_sentencepiece(texts, ["en"], folder / "tokenizer", pieces=40)
