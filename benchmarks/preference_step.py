"""A step on preference pairs beside the usual way to take one, float32 on the CPU.

    python benchmarks/preference_step.py
    python benchmarks/preference_step.py --peer

The first: one pair with a clip of 30 s, adapters of rank 16 on the decoder's linears, of preset
`small`. The usual way gives each answer a row of its own, with the prompt and the clip again, and
runs the model without adapters beside it for the reference. Ours has prompt and clip once, as
branches, or the clip once and the prompt twice, and the reference stored. All are the project's own
code. `positions` are those that the encoder computes for the pair, with the reference.

The second: 8 pairs with clips of 3 to 5 s, beside transformers and PEFT, the usual way written out:
their forward pass, our labels, torch's AdamW.

Told is the processor time of a step. Gradient norms must agree first, and the losses of the second
step. Compilation is not counted.
"""

import argparse
import dataclasses
import os
import pathlib
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

from data_pipelines.examples import Example, empty_batch, fill_row
from data_pipelines.packing import RowShape, best_fit
from data_pipelines.pairs import lay_out, pair_fields
from qwen_audio_jax.audio.lengths import audio_tokens, packed_frames
from qwen_audio_jax.models.cuts import together
from qwen_audio_jax.models.language_model import head_of
from qwen_audio_jax.models.presets import PRESETS, ModelConfig, model_config, preset_parts
from qwen_audio_jax.monitoring.flops import sums_of
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.step_config import LoraConfig, OptimizerConfig, PreferenceConfig
from qwen_audio_jax.training.lora import optimizer_of, with_adapters
from qwen_audio_jax.training.next_token import next_token_losses
from qwen_audio_jax.training.optimizer import make_optimizer
from qwen_audio_jax.training.preference import Answers, preference_loss
from qwen_audio_jax.training.step import (
    Recipe,
    abstract_model,
    first_state,
    make_answers,
    make_init,
    make_step,
    recipe_cuts,
)

PRETRAIN = pathlib.Path(__file__).parents[1] / "configs" / "pretrain.py"
VOCABULARY, PROMPT, ANSWER, CLIP_FRAMES, RANK = 4096, 40, 64, 3000, 16
PREFERENCE = PreferenceConfig(loss="sigmoid", beta=0.1)
LOSS, NORM = 1e-5, 1e-4
"""How far two ways may be apart: absolutely, and as a fraction."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A prompt with its clip, of which nothing is learned, and two answers to it."""

    prompt: Example
    answers: tuple[Tokens, Tokens]

    def laid_out(self, layout: str) -> Example:
        """As one example of a pair."""
        text, pair = lay_out(self.prompt.text, self.answers, layout)
        return dataclasses.replace(self.prompt, text=text, pair=pair)

    def apart(self) -> list[Example]:
        """As two, each with all of it."""
        return [
            dataclasses.replace(self.prompt, text=joined(self.prompt.text, answer))
            for answer in self.answers
        ]


def joined(*parts: Tokens) -> Tokens:
    names = [field.name for field in dataclasses.fields(Tokens)]
    return Tokens(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def drawn(
    seed: int, frames: int, mel_bins: int, vocabulary: int, sizes: tuple[int, int], audio: int
) -> Drawn:
    """A pair of random words and a clip of noise; `audio` is the placeholder, sizes are of text."""
    random = np.random.default_rng(seed)
    prompt, answer = sizes

    def words(size: int, weight: float) -> Tokens:
        ids = random.integers(3, vocabulary, size).astype(np.int32)
        return Tokens(ids, np.full(size, weight, np.float32), np.full(size, -1, np.int32))

    places = np.arange(audio_tokens(frames), dtype=np.int32)
    clip = Tokens(np.full_like(places, audio), np.zeros(len(places), np.float32), places)
    text = joined(words(4, 0.0), clip, words(prompt - 4, 0.0))
    mel = 0.4 * random.standard_normal((packed_frames(frames), mel_bins)).astype(np.float32)
    return Drawn(Example(text, (mel,), (frames,)), (words(answer, 1.0), words(answer, 1.0)))


def batch_of(pairs: Sequence[Drawn], layout: str, shape: RowShape) -> dict[str, np.ndarray]:
    """The pairs in as few rows as hold them."""
    made = [pair.laid_out(layout) for pair in pairs]
    lengths = np.array([(len(one.text.tokens), sum(map(len, one.clips))) for one in made])
    rows = best_fit(lengths, (shape.tokens, shape.frames))
    mel_bins = made[0].clips[0].shape[1]
    batch = empty_batch(len(rows), shape.tokens, shape.frames, mel_bins)
    batch |= pair_fields(len(rows), shape.tokens, layout)
    for row, members in enumerate(rows):
        fill_row(batch, row, [made[member] for member in members])
    return batch


class Ours:
    """The project's step, with references that are stored."""

    def __init__(self, recipe: Recipe, parameters: Any, batch: dict[str, np.ndarray]):
        graph, mesh = (
            abstract_model(recipe.model)[0],
            make_mesh({"replica": 1, "fsdp": -1, "tensor": 1}),
        )
        batch = jax.tree.map(jnp.asarray, batch)
        stored = jax.jit(make_answers(graph, mesh))(parameters, batch).log_probabilities
        self.batch = batch | {"references": stored}
        self.state = first_state(recipe, jax.tree.map(jnp.copy, parameters))
        self.step = jax.jit(make_step(graph, recipe, mesh), donate_argnums=0)
        self.positions = int(sums_of(batch)["positions"])

    def __call__(self) -> tuple[float, float]:
        """Loss and gradient norm of a step."""
        self.state, metrics = self.step(self.state, self.batch)
        return float(metrics["loss"]), float(metrics["gradient_norm"])


class Usual:
    """A row an answer, and the reference in every step."""

    def __init__(self, recipe: Recipe, parameters: Any, pairs: Sequence[Drawn], shape: RowShape):
        made = [example for pair in pairs for example in pair.apart()]
        batch = empty_batch(len(made), shape.tokens, shape.frames, made[0].clips[0].shape[1])
        for row, example in enumerate(made):
            fill_row(batch, row, [example])
        self.batch = jax.tree.map(jnp.asarray, batch)
        self.state = first_state(recipe, jax.tree.map(jnp.copy, parameters))
        self.step = jax.jit(usual_step(recipe), donate_argnums=0)
        self.positions = 2 * int(sums_of(batch)["positions"])

    __call__ = Ours.__call__


def usual_step(recipe: Recipe) -> Callable:
    """`make_step` for rows of one answer each, chosen and rejected by turns."""
    cuts, graph = recipe_cuts(recipe), abstract_model(recipe.model)[0]
    plain, _ = abstract_model(dataclasses.replace(recipe.model, adapters=()))
    optimizer = make_optimizer(recipe.optimizer, recipe.steps, cuts)

    def log_probabilities(graph, parameters, batch):
        hidden = nnx.merge(graph, parameters)(batch)
        head, axes = head_of(parameters["decoder"])
        targets, weights = batch["targets"], batch["loss_weights"]
        losses = next_token_losses(hidden, head, targets, weights, axes=axes)
        return -losses.sum(axis=1).reshape(-1, 1, 2)

    def without_adapters(tree):
        if not isinstance(tree, dict):
            return tree
        return {k: without_adapters(v) for k, v in tree.items() if not k.startswith("lora_")}

    def step(state, batch):
        trained, frozen = state.parameters, state.frozen
        base = without_adapters(together(trained, frozen, cuts))
        references = jax.lax.stop_gradient(log_probabilities(plain, base, batch))
        tokens = batch["loss_weights"].sum(axis=1).reshape(-1, 1, 2)

        def loss_sum(trained):
            found = log_probabilities(graph, together(trained, frozen, cuts), batch)
            (loss, pairs), _ = preference_loss(Answers(found, tokens), references, PREFERENCE)
            return loss, pairs

        (loss, pairs), gradients = jax.value_and_grad(loss_sum, has_aux=True)(trained)
        gradients = jax.tree.map(lambda gradient: gradient / pairs, gradients)
        norm = optax.tree.norm(gradients)
        updates, moments = optimizer.update(gradients, state.optimizer, trained)
        trained = optax.apply_updates(trained, updates)
        state = dataclasses.replace(
            state, step=state.step + 1, parameters=trained, optimizer=moments
        )
        return state, {"loss": loss / pairs, "gradient_norm": norm}

    return step


def in_the_same_code(preset: str) -> dict[str, Callable]:
    """The three ways to take one pair."""
    parts = preset_parts(preset, "qwen2_audio", VOCABULARY)
    lora = LoraConfig(rank=RANK)
    model = with_adapters(lora, model_config("qwen2_audio", *parts, audio_begin=1, audio_end=2))
    values = runpy.run_path(str(PRETRAIN))["get_config"](preset).to_dict()
    config = dataclasses.replace(from_mapping(values), lora=lora)
    optimizer = dataclasses.replace(optimizer_of(config, model), warmup_steps=0)
    recipe = Recipe(model, optimizer, steps=1000, seed=0, preference=PREFERENCE)
    _, init = make_init(recipe)
    state = jax.jit(init)()
    parameters = together(state.parameters, state.frozen, recipe_cuts(recipe))
    sizes = (PROMPT, ANSWER)
    pairs = [drawn(0, CLIP_FRAMES, model.encoder.mel_bins, VOCABULARY, sizes, audio=0)]
    alone = PROMPT + audio_tokens(CLIP_FRAMES) + ANSWER
    frames = packed_frames(CLIP_FRAMES)

    def ours(layout: str, tokens: int) -> Ours:
        shape = RowShape(1, tokens, frames)
        return Ours(recipe, parameters, batch_of(pairs, layout, shape))

    return {
        "usual: two rows, online": Usual(recipe, parameters, pairs, RowShape(2, alone, frames)),
        "apart, stored": ours("apart", 2 * alone),
        "branches, stored": ours("branches", alone + ANSWER + 1),
    }


def beside_transformers(folder: str) -> dict[str, Callable]:
    """The usual way in transformers and PEFT, and ours on the same model."""
    from generation_vs_transformers import AUDIO, MEL_BINS, PAD
    from preference_peer import Theirs
    from sft_vs_transformers import AdaptersHere
    from train_step_vs_transformers import BETAS, DECAY, EPS, RATE

    from qwen_audio_jax.conversion.importing import load_original

    frames = np.linspace(300, 500, 8).astype(int).tolist()
    sizes = (32, 32)
    pairs = [drawn(n, size, MEL_BINS, PAD, sizes, AUDIO) for n, size in enumerate(frames)]
    parts, parameters = load_original(pathlib.Path(folder))
    optimizer = OptimizerConfig(RATE, RATE, 0, *BETAS, EPS, DECAY, clip_norm=1.0)
    prepared: tuple[ModelConfig, Any, OptimizerConfig] = AdaptersHere.prepared(
        None, parts.model(), parameters, optimizer
    )
    model, parameters, optimizer = prepared
    recipe = Recipe(model, optimizer, steps=1000, seed=0, preference=PREFERENCE)
    parameters = jax.tree.map(jnp.asarray, parameters)
    batch = batch_of(pairs, "branches", RowShape(1, 1600, 3232))
    apart = [example for pair in pairs for example in pair.apart()]
    return {
        "transformers and PEFT, usual": Theirs(folder, apart, PREFERENCE.beta),
        "branches, stored": Ours(recipe, parameters, batch),
    }


def compare(arms: dict[str, Callable], turns: int) -> Table:
    """Times the ways by turns; the first is what the others are compared with.

    Raises:
        SystemExit: they do not do the same.
    """
    first = {name: arm() for name, arm in arms.items()}
    second = {name: arm() for name, arm in arms.items()}
    norms = [norm for _, norm in first.values()]
    losses = [loss for loss, _ in second.values()]
    if np.ptp(norms) > NORM * max(norms) or np.ptp(losses) > LOSS:
        raise SystemExit(f"they differ: gradient norms {norms}, then losses {losses}")
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(turns):
        for name, arm in arms.items():
            start = time.process_time()
            arm()
            seconds[name].append(time.process_time() - start)
    usual = statistics.median(next(iter(seconds.values())))
    table = Table("", "seconds", "times as fast", "positions", title="a step on pairs")
    for name, arm in arms.items():
        median = statistics.median(seconds[name])
        table.add_row(name, f"{median:.2f}", f"{usual / median:.2f}", f"{arm.positions:,}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS[:2], default="small")
    parser.add_argument("--peer", action="store_true", help="beside transformers and PEFT instead")
    parser.add_argument(
        "--size", default="30m", help="of --peer: tiny, small, 30m (default) or base"
    )
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    options = parser.parse_args()
    if options.peer:
        import torch
        from generation_vs_transformers import peer

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        with tempfile.TemporaryDirectory() as folder:
            peer(options.size).save_pretrained(folder)
            Console().print(compare(beside_transformers(folder), options.turns))
    else:
        Console().print(compare(in_the_same_code(options.preset), options.turns))


if __name__ == "__main__":
    main()
