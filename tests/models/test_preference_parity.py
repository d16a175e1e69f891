"""Log-probabilities of whole answers are what transformers gives each of them, alone in a row."""

import dataclasses
import functools

import jax
import numpy as np
import parity
import pytest
from flax import nnx
from paired import drawn_answers
from random_originals import BEGIN, END, PLACEHOLDER, WINDOW, original_config, padded, randomised

from data_pipelines.examples import Example, empty_batch, fill_row
from data_pipelines.pairs import LAYOUTS, lay_out, pair_fields
from qwen_audio_jax.audio.lengths import audio_tokens
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.language_model import head_of
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.training.preference import answers_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity

BINS, LONG = 16, 64
SUM = 1e-4
"""Largest absolute difference of a sum over an answer."""

ROWS = (
    (((37, 80), (LONG, LONG)), ((), (LONG, 9))),
    (((51,), (23, LONG)),),
)
"""Row by row the pairs: the frames of the prompt's clips, and how many tokens both answers have."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """Attributes: prompt, of which nothing is learned; answers; mels of its clips, [M, WINDOW]."""

    prompt: Example
    answers: list[Tokens]
    mels: list[np.ndarray]


def asked(random: np.random.Generator, clips: tuple[int, ...], sizes: tuple[int, ...]) -> Asked:
    tokens, mels = [*random.integers(1, 80, 3)], []
    for n in clips:
        tokens += [BEGIN, *[PLACEHOLDER] * audio_tokens(n), END, *random.integers(1, 80, 2)]
        mel = np.full((BINS, WINDOW), -0.7, np.float32)
        mel[:, :n] = random.standard_normal((BINS, n))
        mels.append(mel)
    tokens, none = np.array(tokens), np.zeros(len(tokens))
    packed = [parity.clip(mel, n) for mel, n in zip(mels, clips, strict=True)]
    answers = drawn_answers(random, sizes)
    return Asked(parity.example(tokens, none, PLACEHOLDER, packed, clips), answers, mels)


def alone(one: Asked) -> list[Example]:
    """Each answer behind the prompt: the chosen one, the rejected one."""
    names = [field.name for field in dataclasses.fields(Tokens)]
    return [
        dataclasses.replace(
            one.prompt,
            text=Tokens(
                *(
                    np.concatenate([getattr(part, name) for part in (one.prompt.text, answer)])
                    for name in names
                )
            ),
        )
        for answer in one.answers
    ]


def laid_out(rows: list[list[Asked]], layout: str) -> dict[str, np.ndarray]:
    batch = empty_batch(len(rows), 448, 200, BINS) | pair_fields(len(rows), 448, layout)
    for row, pairs in enumerate(rows):
        examples = []
        for one in pairs:
            text, pair = lay_out(one.prompt.text, one.answers, layout)
            examples.append(dataclasses.replace(one.prompt, text=text, pair=pair))
        fill_row(batch, row, examples)
    return batch


@functools.partial(jax.jit, static_argnums=0, compiler_options=parity.QUICK)
def log_probabilities(graph, parameters, batch):
    model = nnx.merge(graph, parameters)
    head, axes = head_of(vars(model.decoder))
    return answers_of(model(batch), head[...], batch, axes=axes).log_probabilities


def test_they_are_the_sums_that_transformers_gives(tmp_path):
    """Of pairs side by side, with two clips, one or none, their answers as long or shorter."""
    torch.manual_seed(0)  # of the position table
    original = transformers.Qwen2AudioForConditionalGeneration._from_config(
        original_config("grouped"), attn_implementation="eager"
    )
    randomised(original).save_pretrained(tmp_path)
    parts, parameters = load_original(tmp_path)
    ours = parity.build(parts.model(), parameters)

    random = np.random.default_rng(5)
    rows = [[asked(random, *pair) for pair in pairs] for pairs in ROWS]
    pairs = [one for row in rows for one in row]
    each = [example for one in pairs for example in alone(one)]
    mels = [mel for one in pairs for _ in one.answers for mel in one.mels]
    given = padded(each, mels, [n for example in each for n in example.clip_frames])
    labels = given.pop("labels")[:, 1:]
    with torch.no_grad():
        logits = original(**given).logits[:, :-1]
    assert logits.dtype == torch.float32
    picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    wanted = (picked * (labels >= 0)).sum(1).reshape(-1, 2)
    assert (labels >= 0).sum(1).tolist() == [n for row in ROWS for _, sizes in row for n in sizes]
    assert wanted.std() > 30, "log-probabilities so alike would agree anyway"

    for layout in LAYOUTS:
        found = np.asarray(log_probabilities(*ours, laid_out(rows, layout)))
        there = [(row, place) for row, some in enumerate(rows) for place, _ in enumerate(some)]
        found = np.stack([found[place] for place in there])
        assert parity.deviation(found, wanted) < SUM, layout
