"""Preference pairs in a row: one prompt with its clips, and two answers that do not see each other.

In the layout "branches" the prompt stands once, as a trunk, and the answers behind it as two
branches, the positions of both going on from the trunk's. The prompt's last token predicts the
first one of both answers, so it heads each branch and is left out of the trunk. In the layout
"apart" the pair is two segments, each with the prompt, whose placeholders stand for the same audio
tokens. Both are the same to the model, and in both a clip is encoded once.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.step_config import CHOSEN, REJECTED

LAYOUTS = ("branches", "apart")

_LEAST_TOKENS = 16
"""No pair has fewer: ChatML takes more around a user's message and two answers."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Where each token of a pair stands.

    Attributes:
        positions: int32 [n]; within the prompt and the one answer behind it.
        segments: int32 [n]; from 0. A token sees those of its own segment before it.
        trunks: int32 [n]; the segment that a token sees beside its own, or that one again.
        answers: int32 [n]; CHOSEN or REJECTED in the segment of that answer, -1 in the trunk.
    """

    positions: np.ndarray
    segments: np.ndarray
    trunks: np.ndarray
    answers: np.ndarray


def lay_out(prompt: Tokens, answers: Sequence[Tokens], layout: str) -> tuple[Tokens, Pair]:
    """A pair's tokens in one of the LAYOUTS, and where they stand.

    Args:
        prompt: what both answers follow on; nothing of it is learned.
        answers: the chosen one and the rejected one.
        layout: one of LAYOUTS.
    """
    shared = len(prompt.tokens) - 1 if layout == "branches" else 0
    trunk, head = _part(prompt, slice(0, shared)), _part(prompt, slice(shared, None))
    pieces = [_joined([head, answer]) for answer in answers]
    sizes = [len(piece.tokens) for piece in pieces]
    segments = [number + (shared > 0) for number in (CHOSEN, REJECTED)]
    branches = np.repeat(segments, sizes)
    answered = np.repeat([CHOSEN, REJECTED], sizes)
    pair = Pair(
        positions=_numbers([np.arange(shared), *(shared + np.arange(size) for size in sizes)]),
        segments=_numbers([np.zeros(shared), branches]),
        trunks=_numbers([np.zeros(shared), np.zeros(sum(sizes)) if shared else branches]),
        answers=_numbers([np.full(shared, -1), answered]),
    )
    return _joined([trunk, *pieces]), pair


def pair_tokens(prompt: int, answers: Sequence[int], layout: str) -> int:
    """How many tokens `lay_out` makes of a prompt and answers of so many."""
    return sum(answers) + (prompt + 1 if layout == "branches" else 2 * prompt)


def most_pairs(tokens: int) -> int:
    """How many pairs a row of so many tokens has room for."""
    return max(1, tokens // _LEAST_TOKENS)


def pair_fields(rows: int, tokens: int, layout: str) -> dict[str, np.ndarray]:
    """What a Batch has beside its other fields where pairs are trained on, of padding.

    `answers`, int32 [B, L]: 0, or 1 + 2 * the pair's place in its row + CHOSEN or REJECTED;
    `references`, float32 [B, P, 2]: of each pair's answers, log-probabilities under the reference;
    in the layout "branches" also `trunks`, int32 [B, L]: the segment of the position's trunk.
    """
    fields = {
        "answers": np.zeros((rows, tokens), np.int32),
        "references": np.zeros((rows, most_pairs(tokens), 2), np.float32),
    }
    if layout == "branches":
        fields["trunks"] = np.zeros((rows, tokens), np.int32)
    return fields


def place_pair(
    batch: dict[str, np.ndarray], row: int, place: slice, pair: Pair, number: int, segment: int
) -> int:
    """Writes into a batch where the tokens of a pair stand.

    Args:
        batch: one with `pair_fields`.
        row: of it.
        place: where in the row the tokens lie.
        pair: the pair.
        number: of it, among the row's.
        segment: its first one.

    Returns:
        The first segment of what comes after it.
    """
    batch["positions"][row, place] = pair.positions
    batch["segments"][row, place] = segment + pair.segments
    answers = np.where(pair.answers >= 0, 1 + 2 * number + pair.answers, 0)
    batch["answers"][row, place] = answers
    if "trunks" in batch:
        batch["trunks"][row, place] = segment + pair.trunks
    return segment + int(pair.segments[-1]) + 1


def _part(tokens: Tokens, where: slice) -> Tokens:
    return Tokens(*(getattr(tokens, field.name)[where] for field in dataclasses.fields(tokens)))


def _joined(pieces: Sequence[Tokens]) -> Tokens:
    names = (field.name for field in dataclasses.fields(Tokens))
    return Tokens(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in names))


def _numbers(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int32)
