"""What the parity tests share: tolerances, batches of the originals' inputs, comparisons.

Tolerances are for float32. The originals themselves, computed anew in float64, move by 2e-6 in
encoder outputs, 2.4e-5 in logits and 6e-7 in the loss (weights of these sizes); each tolerance
leaves about ten times that for another order of summation.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.audio.lengths import packed_frames
from qwen_audio_jax.conversion.names import Row
from qwen_audio_jax.conversion.shapes import tensor_names
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.models.language_model import head_of, rope
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.training.next_token import Pair, next_token_loss

ENCODER = 2e-5
"""Largest absolute difference of an encoder output."""

LOGITS = 2e-4
"""Largest absolute difference of a logit."""

LOSS = 1e-5
"""Largest absolute difference of the mean loss."""

GRADIENT = 1e-4
"""Largest difference of a gradient, as a fraction of the largest entry of its tensor."""


def fill(
    make: Callable[[], nnx.Module], parameters: Mapping[str, Any]
) -> tuple[nnx.GraphDef, nnx.State]:
    """A module with given parameters, split; nothing is drawn at random."""
    graph, state = nnx.split(nnx.eval_shape(make))
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, parameters))
    return graph, state


def build(config: ModelConfig, parameters: Mapping[str, Any]) -> tuple[nnx.GraphDef, nnx.State]:
    """A whole model, likewise."""
    return fill(lambda: QwenAudio(config, nnx.Rngs(0)), parameters)


def clip(mel: np.ndarray, frames: int, cut: int | None = None) -> np.ndarray:
    """An original's features [M, F] as a packed clip [P, M].

    Args:
        mel: with what the original has behind the clip's end: silence, not zeros.
        frames: valid frames of the clip.
        cut: Qwen-Audio looks at no frame from here on; they are 0.
    """
    P = packed_frames(frames)
    kept = mel[:, : P if cut is None else min(P, cut)].T
    return np.pad(kept, ((0, P - len(kept)), (0, 0)))


def example(
    tokens: np.ndarray,
    learned: np.ndarray,
    placeholder: int,
    clips: Sequence[np.ndarray] = (),
    frames: Sequence[int] = (),
) -> Example:
    """An unpadded row of an original.

    Args:
        tokens: int [n].
        learned: bool [n], which tokens have a label.
        placeholder: the id that stands where audio goes.
        clips, frames: see `Example`.
    """
    audio = np.where(tokens == placeholder, np.cumsum(tokens == placeholder) - 1, -1)
    text = Tokens(tokens.astype(np.int32), learned.astype(np.float32), audio.astype(np.int32))
    return Example(text, tuple(clips), tuple(frames))


def batch_of(
    rows: Sequence[Sequence[Example]], tokens: int, frames: int, mel_bins: int
) -> dict[str, np.ndarray]:
    """Examples packed as given."""
    batch = empty_batch(len(rows), tokens, frames, mel_bins)
    for row, examples in enumerate(rows):
        fill_row(batch, row, examples)
    return batch


def forward(graph, parameters, batch, lengths=None) -> dict[str, np.ndarray]:
    """Everything there is to compare.

    Args:
        graph, parameters: the model, split.
        batch: of the Batch contract.
        lengths: int32 [B], what long-context scaling goes by in evaluation; None in training.
    """
    return jax.tree.map(np.asarray, _forward(graph, parameters, batch, lengths))


@functools.partial(jax.jit, static_argnums=0)
def _forward(graph, parameters, batch, lengths):
    model = nnx.merge(graph, parameters)
    encoder, kept = model.encoder, []
    model.encoder = lambda *inputs: kept.append(encoder(*inputs)) or kept[0]
    embedded = model.embed(batch)
    rotate = rope(model.config.decoder, batch["positions"], lengths)
    hidden = model.decoder(embedded, Segments.of(batch["segments"]), rotate)
    loss, weight = loss_of(model, hidden, batch)
    return {
        "encoded": kept[0],
        "projected": model.projector(kept[0]),
        "embedded": embedded,
        "logits": model.decoder.logits(hidden),
        "loss": loss / jnp.maximum(weight, 1),
    }


def loss_of(model: QwenAudio, hidden: jax.Array, batch: Mapping[str, Any]) -> Pair:
    """The next-token loss of hidden states."""
    head, axes = head_of(vars(model.decoder))
    return next_token_loss(hidden, head[...], batch["targets"], batch["loss_weights"], axes=axes)


QUICK = {"xla_backend_optimization_level": 0}
"""Halves the compilation, which takes nearly all the time of these tests; sums stay float32's."""


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def loss_and_gradients(graph, parameters, batch):
    """((mean loss, logits), gradient of the loss by the parameters), in training."""

    def mean(parameters):
        model = nnx.merge(graph, parameters)
        hidden = model(batch)
        loss, weight = loss_of(model, hidden, batch)
        return loss / weight, model.decoder.logits(hidden)

    return jax.value_and_grad(mean, has_aux=True)(parameters)


@functools.partial(jax.jit, static_argnums=(0, 4), compiler_options=QUICK)
def greedy(graph, parameters, batch, stop, max_new_tokens) -> jax.Array:
    """Ids that follow each prompt: int32 [B, max_new_tokens]."""
    return generate(graph, parameters, batch, stop=(stop,), max_new_tokens=max_new_tokens)


def audio_rows(encoded: np.ndarray, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the encoder makes of each audio token, in the order of the tokens: [N, D]."""
    rows, places = np.nonzero(batch["audio_index"] >= 0)
    return encoded[rows, batch["audio_index"][rows, places]]


def tensors(rows: Iterable[Row], parameters: Any) -> dict[str, np.ndarray]:
    """Parameters (or their gradients) under the original's names and in its layouts."""
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    leaf = {path_name(path): np.asarray(array) for path, array in leaves}
    found = {}
    for _, group in itertools.groupby(rows, key=lambda row: row.name):
        group = list(group)
        arrays = [leaf[row.path] if group[0].layered else leaf[row.path][None] for row in group]
        for layer, name in enumerate(tensor_names(group[0], len(arrays[0]))):
            parts = [
                array[layer] if row.layout == "same" else array[layer].T
                for row, array in zip(group, arrays, strict=True)
            ]
            found[name] = np.concatenate(parts)
    return found


def deviation(ours: Any, expected: Any) -> float:
    """Largest absolute difference.

    Where the last axis of `expected` is shorter it holds every n-th entry of the whole (see
    tests/golden/README.md), and ours is compared there.
    """
    ours, expected = np.asarray(ours), np.asarray(expected)
    if ours.shape != expected.shape:
        ours = ours[..., :: ours.shape[-1] // expected.shape[-1]]
    assert ours.shape == expected.shape
    assert ours.size > 0
    return float(np.max(np.abs(ours - expected)))


def worst_gradient(ours: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Largest `deviation` of a gradient as a fraction of its tensor's largest entry.

    A flat array in `expected` holds every n-th entry of a tensor (see tests/golden/README.md).
    """
    worst = 0.0
    for name, wanted in expected.items():
        mine = ours[name]
        if wanted.ndim < mine.ndim:
            mine = mine.ravel()
        largest = float(np.max(np.abs(wanted)))
        assert largest > 0, f"{name} has no gradient to compare with"
        fraction = deviation(mine, wanted) / largest
        worst = max(worst, fraction)
    return worst
