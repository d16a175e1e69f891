"""A real-size training step on one GPU, and how much of the card's matmul rate it makes use of.

    PYTHONPATH=. python benchmarks/gpu_step.py

Imports jax, flax, optax, numpy and this project alone, and needs no network. Two cases, in bfloat16
on packed rows:

qwen_audio: Qwen-Audio's pre-training. Encoder and projector train; the decoder of 7.7 billion
    parameters is frozen and kept in bfloat16.
qwen2_audio: all is trained: the whole encoder, and as many decoder layers as the memory holds with
    float32 parameters and moments.

The clips are noise; by number a third last 3 to 8 s, a third 8 to 16 s and a third 20 to 30 s, each
with 14 tokens of prompt and 3.5 a second of answer, which are learned. useful MFU is
`flops.training_step` over (seconds * the best bfloat16 product measured first); padding, margins
and what rematerialisation computes anew count as lost. Seconds are medians after the first steps.
`peak_gib` is the process's so far. One JSON line a case follows its table. `--size=tiny` shows on a
CPU that all of this runs.
"""

import argparse
import dataclasses
import gc
import json
import os
import statistics
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")  # a quarter is left out otherwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from data_pipelines.packing import RowShape, best_fit
from qwen_audio_jax.audio.lengths import audio_tokens, packed_frames
from qwen_audio_jax.models.attention import BACKENDS, attend
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.models.presets import Compute, ModelConfig, model_config, preset_parts
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.monitoring import flops
from qwen_audio_jax.parallel.sharding import AXES
from qwen_audio_jax.step_config import OptimizerConfig
from qwen_audio_jax.training.step import Recipe, make_init, make_step

PROMPT, ANSWER_A_SECOND = 14, 3.5
WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Size:
    """Attributes:
    preset: of the model, without the family.
    vocabulary: of each family.
    shape: rows, tokens and frames.
    longest: seconds of the longest clip; the others shrink with it.
    squares: sides of the matrices that the card's rate is measured with.
    """

    preset: str
    vocabulary: dict[str, int]
    shape: RowShape
    longest: float
    squares: tuple[int, ...]


SIZES = {
    "real": Size(
        "qwen_audio_7b",
        {"qwen_audio": 155_947, "qwen2_audio": 156_032},
        RowShape(4, 2048, 7040),
        30.0,
        (4096, 8192, 16384),
    ),
    "tiny": Size(
        "tiny",
        {"qwen_audio": 512, "qwen2_audio": 512},
        RowShape(2, 160, 400),
        1.5,
        (128,),
    ),
}
FROZEN = {"qwen_audio": ("^decoder/",), "qwen2_audio": ()}


def matmul_rate(squares: tuple[int, ...]) -> float:
    """FLOP/s of the best square product in bfloat16."""
    best = 0.0
    for n in squares:
        a, b = (jax.random.normal(jax.random.key(i), (n, n), jnp.bfloat16) for i in (0, 1))
        product = jax.jit(jnp.matmul)
        product(a, b).block_until_ready()
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(10):
                out = product(a, b)
            out.block_until_ready()
            best = max(best, 10 * 2 * n**3 / (time.perf_counter() - start))
    return best


def attention_backend(wanted: str) -> str:
    """The backend to use: cuDNN's on a GPU if it does what XLA's does, else XLA's."""
    if wanted != "auto":
        return wanted
    if jax.default_backend() != "gpu":
        return "xla"
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, 256, 4, 64), jnp.bfloat16) for key in keys)
    segments = Segments.of(jnp.repeat(jnp.array([[1, 2], [1, 0]]), 128, axis=1))

    def results(backend):
        def total(q, k, v):
            out = attend(q, k, v, segments, causal=True, backend=backend)
            return jnp.sum(jnp.where(segments.queries[..., None, None] > 0, out, 0) ** 2)

        return jax.jit(jax.grad(total, (0, 1, 2)))(q, k, v)

    try:
        pairs = zip(results("cudnn"), results("xla"), strict=True)
        apart = max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)
    except Exception as error:  # whatever keeps the kernel from running, the step runs without
        print(f"attention: xla, because cudnn fails: {str(error).splitlines()[0]}")
        return "xla"
    print(f"attention: {'cudnn' if apart < 0.05 else 'xla'}; gradients of both {apart:.1e} apart")
    return "cudnn" if apart < 0.05 else "xla"


def make_batch(
    config: ModelConfig, shape: RowShape, longest: float, seed: int = 0
) -> dict[str, np.ndarray]:
    """Rows packed from the mix of lengths: fields and shapes of the Batch contract."""
    random = np.random.default_rng(seed)
    clips = max(2, 60 * shape.rows * shape.frames // int(1300 * longest))
    low, high = np.array([(3, 8), (8, 16), (20, 30)])[random.integers(0, 3, clips)].T
    frames = (100 / 30 * longest * random.uniform(low, high)).astype(int)
    lengths = np.array(
        [
            (audio_tokens(n) + PROMPT + int(ANSWER_A_SECOND * n / 100), packed_frames(n))
            for n in frames.tolist()
        ]
    )
    rows = best_fit(lengths, (shape.tokens, shape.frames))
    # Twice as many clips as there is room for; the last rows opened are the least full.
    rows = sorted(rows, key=lambda row: -lengths[row, 0].sum())[: shape.rows]
    B, L, F = shape.rows, shape.tokens, shape.frames
    batch = {name: np.zeros((B, L), np.int32) for name in ("positions", "segments")} | {
        "tokens": random.integers(0, config.decoder.vocab_size, (B, L), np.int32),
        "targets": random.integers(0, config.decoder.vocab_size, (B, L), np.int32),
        "loss_weights": np.zeros((B, L), np.float32),
        "audio_index": np.full((B, L), -1, np.int32),
        "mel": random.standard_normal((B, F, config.encoder.mel_bins), np.float32),
        "mel_positions": np.full((B, F), -1, np.int32),
        "mel_segments": np.zeros((B, F), np.int32),
    }
    for row, members in enumerate(rows):
        token = frame = 0
        for number, member in enumerate(members, start=1):
            length, packed = lengths[member]
            heard, valid = audio_tokens(int(frames[member])), frames[member]
            text, learned = (
                slice(token, token + length),
                slice(token + heard + PROMPT - 1, token + length - 1),
            )
            batch["segments"][row, text] = number
            batch["positions"][row, text] = np.arange(length)
            batch["loss_weights"][row, learned] = 1
            batch["audio_index"][row, token : token + heard] = np.arange(heard) + frame // 4
            batch["mel_segments"][row, frame : frame + packed] = number
            batch["mel_positions"][row, frame : frame + valid] = np.arange(valid)
            token, frame = token + length, frame + packed
    return batch


def make_recipe(family: str, size: Size, compute: Compute, layers: int | None) -> Recipe:
    """The case's recipe; `layers` of the decoder, all of them if None."""
    encoder, decoder = preset_parts(size.preset, family, size.vocabulary[family])
    if layers is not None:
        decoder = dataclasses.replace(decoder, layers=layers)
    optimizer = OptimizerConfig(
        learning_rate=1e-4,
        final_learning_rate=1e-5,
        warmup_steps=10,
        beta1=0.9,
        beta2=0.98,
        eps=1e-6,
        weight_decay=0.05,
        clip_norm=1.0,
        frozen=FROZEN[family],
    )
    config = model_config(family, encoder, decoder, audio_begin=0, audio_end=1, compute=compute)
    return Recipe(config, optimizer, steps=1000, seed=0)


class Step:
    """A compiled step, not yet given memory.

    Attributes:
        bytes: that it takes, by XLA's plan.
    """

    def __init__(self, recipe: Recipe, batch: dict[str, np.ndarray]):
        self.recipe, self.batch = recipe, batch
        mesh = Mesh(
            np.array(jax.devices()[:1]).reshape(1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3
        )
        graph, init = make_init(recipe)
        self.init = jax.jit(init)
        self.state = jax.eval_shape(self.init)
        step = jax.jit(make_step(graph, recipe, mesh), donate_argnums=0)
        self.step = step.lower(self.state, batch).compile()
        plan = self.step.memory_analysis()
        self.bytes = (
            plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            - plan.alias_size_in_bytes
            + plan.temp_size_in_bytes
        )

    def run(self, steps: int, profile: str | None) -> tuple[float, float]:
        """(seconds per step, last loss)."""
        state, batch, seconds = self.init(), jax.device_put(self.batch), []
        for number in range(WARM_UP + steps):
            if profile and number == WARM_UP:
                jax.profiler.start_trace(profile)
            start = time.perf_counter()
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                state, metrics = self.step(state, batch)
                loss = float(metrics["loss"])
            seconds.append(time.perf_counter() - start)
        if profile:
            jax.profiler.stop_trace()
        return statistics.median(seconds[WARM_UP:]), loss


def fitting(family: str, size: Size, computes: list[Compute], batch, steps: int, profile):
    """The first of the ways to compute that the memory holds: (Step, seconds, loss).

    Qwen2-Audio's decoder gets the most layers that fit, found by trying.
    """
    stats = jax.devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit", float("inf"))
    for compute in computes:
        layers = preset_parts(size.preset, family, 512)[1].layers
        while layers > 0:
            less = 1
            try:
                step = Step(make_recipe(family, size, compute, layers), batch)
                if step.bytes < limit:
                    return step, *step.run(steps, profile)
                # A layer's parameters, moments and gradients are float32 each.
                trees = step.state.parameters, step.state.frozen
                blocks = jax.tree.leaves([tree["decoder"]["blocks"] for tree in trees])
                layer_bytes = sum(16 * leaf.size for leaf in blocks) / layers
                less = max(1, int((step.bytes - limit) / layer_bytes))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
            print(f"{layers} decoder layers, remat {compute.remat}: out of memory", flush=True)
            if FROZEN[family]:
                break
            layers -= less
            step = None
            gc.collect()  # before the next try
    raise SystemExit(f"{family}: does not fit into {limit / 2**30:.1f} GiB, whatever is kept")


def measure(family: str, size: Size, options, rate: float, backend: str) -> dict:
    """All figures of a case."""
    dtype = "bfloat16"
    policies = [options.remat] if options.remat else [p for p in REMAT if p != "none"]
    computes = [Compute(dtype, backend, remat) for remat in policies]
    config = make_recipe(family, size, computes[0], None).model
    shape = dataclasses.replace(size.shape, rows=options.rows or size.shape.rows)
    batch = make_batch(config, shape, size.longest)
    profile = options.profile and os.path.join(options.profile, family)
    step, seconds, loss = fitting(family, size, computes, batch, options.steps, profile)
    recipe, of = step.recipe, flops.counts_of(batch)
    trained = step.state.parameters
    work = flops.training_step(recipe.model, of, recipe.optimizer.frozen)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "case": family,
        "device": jax.devices()[0].device_kind,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves((trained, step.state.frozen))),
        "trained": sum(leaf.size for leaf in jax.tree.leaves(trained)),
        "decoder_layers": recipe.model.decoder.layers,
        "rows": shape.rows,
        "row_tokens": shape.tokens,
        "row_frames": shape.frames,
        "useful_tokens": of.tokens / (shape.rows * shape.tokens),
        "useful_frames": of.frames / (shape.rows * shape.frames),
        "attention": backend,
        "remat": recipe.model.compute.remat,
        "seconds": seconds,
        "tokens_per_second": of.tokens / seconds,
        "audio_seconds_per_second": of.frames / 100 / seconds,
        "model_tflop": work / 1e12,
        "matmul_tflops": rate / 1e12,
        "useful_mfu": work / seconds / rate,
        "planned_gib": step.bytes / 2**30,
        "peak_gib": peak and peak / 2**30,
        "loss": loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="real")
    parser.add_argument("--case", choices=FROZEN, help="one of the cases (default: both)")
    parser.add_argument("--rows", type=int, help="of a batch (default: the size's)")
    parser.add_argument("--remat", choices=REMAT, help="default: the one that keeps most and fits")
    parser.add_argument("--attention", choices=("auto", *BACKENDS), default="auto")
    parser.add_argument("--steps", type=int, default=10, help="that are timed (default: 10)")
    parser.add_argument("--profile", help="a folder for traces of the timed steps")
    options = parser.parse_args()
    size = SIZES[options.size]
    rate = matmul_rate(size.squares)
    print(f"{jax.devices()[0].device_kind}: {rate / 1e12:.2f} TFLOP/s in bfloat16 products")
    backend = attention_backend(options.attention)
    for family in [options.case] if options.case else FROZEN:
        found = measure(family, size, options, rate, backend)
        for name, value in found.items():
            print(f"  {name:26}{value:,.4g}" if isinstance(value, float) else f"  {name:26}{value}")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
