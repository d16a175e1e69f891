"""A configuration's train step, compiled for a topology: what it takes, and how fast it may be."""

import dataclasses
import math
import pathlib
import re
import tempfile
import time
from collections import Counter, defaultdict
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding

from data_pipelines.examples import empty_batch
from data_pipelines.packing import WINDOW, RowShape
from data_pipelines.pairs import pair_fields, pair_tokens
from data_pipelines.typical_mix import PROMPT, lengths_of, mix, packed_batches
from qwen_audio_jax.audio.silence import silence_frames
from qwen_audio_jax.checkpoint import abstract
from qwen_audio_jax.compilation.roofline import Roofline, kernel_flops, roofline
from qwen_audio_jax.compilation.topology import Topology
from qwen_audio_jax.compilation.work import work_of
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import VOCABULARIES, ModelConfig, model_config, preset_parts
from qwen_audio_jax.monitoring import flops
from qwen_audio_jax.monitoring.chips import GIB
from qwen_audio_jax.parallel.sharding import (
    ROWS,
    local_rows,
    make_mesh,
    replicated_size,
    row_shards,
    shardings,
)
from qwen_audio_jax.run_config import RunConfig
from qwen_audio_jax.training.lora import optimizer_of, with_adapters
from qwen_audio_jax.training.next_token import chunk_of
from qwen_audio_jax.training.start import compute_for, recipe_of, with_window
from qwen_audio_jax.training.step import Recipe, make_init, make_step


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the compiler said; memory in bytes per chip, time in seconds per step.

    Attributes:
        topology, chips: the slices.
        setup: mesh, rows, micro-batches and remat, for people.
        parameters: of the model.
        replicated: those of them that every chip holds, since the mesh does not divide them.
        tokens: room for tokens in a batch.
        arguments, temporaries: of memory; 0 and what is used at all, where it does not fit.
        limit: what a program may use.
        fits: whether it does.
        compile_seconds: how long it took here.
        received: bytes that a chip receives by each kind of collective.
        times: how often a step runs each kind.
        model_flops: see `flops`.
        executed_flops: of all devices.
        roofline: None if it does not fit.
        mfu_bound, audio_seconds_per_chip_second: if a step takes no longer than the roofline says.
    """

    topology: Topology
    setup: str
    parameters: int
    tokens: int
    arguments: float
    temporaries: float
    limit: float
    fits: bool
    compile_seconds: float
    received: dict[str, float] = dataclasses.field(default_factory=dict)
    times: dict[str, int] = dataclasses.field(default_factory=dict)
    model_flops: float = 0.0
    executed_flops: float = 0.0
    roofline: Roofline | None = None
    mfu_bound: float = 0.0
    audio_seconds_per_chip_second: float = 0.0
    replicated: int = 0

    @property
    def total(self) -> float:
        return self.arguments + self.temporaries

    @property
    def chips_text(self) -> str:
        one = f"{self.topology.chips:,} chips"
        return one if self.topology.slices == 1 else f"{one} in {self.topology.slices} slices"

    @property
    def fix(self) -> str:
        """What to do about a step that does not fit."""
        over = (self.total - self.limit) / GIB
        return (
            f"{over:.2f} GiB too much; more micro-batches (config.train.accumulate), fewer rows "
            "(config.data.shapes), a fuller config.model.remat or more chips take less"
        )

    def to_json(self) -> dict[str, Any]:
        """One flat object; memory in GiB per chip."""
        times = dataclasses.asdict(self.roofline) if self.roofline else {}
        return {
            "topology": str(self.topology),
            "chips": self.topology.chips,
            "devices": self.topology.device_count,
            "setup": self.setup,
            "parameters": self.parameters,
            "parameters_left_whole": self.replicated,
            "tokens": self.tokens,
            "hbm_arguments_gib": round(self.arguments / GIB, 3),
            "hbm_temporaries_gib": round(self.temporaries / GIB, 3),
            "hbm_total_gib": round(self.total / GIB, 3),
            "hbm_limit_gib": round(self.limit / GIB, 3),
            "fits": self.fits,
            "collectives": {
                kind: {"bytes": round(self.received[kind]), "times": self.times[kind]}
                for kind in self.received
            },
            "model_flops": self.model_flops,
            "executed_flops": self.executed_flops,
            "seconds": {name: round(seconds, 6) for name, seconds in times.items()},
            "bound": self.roofline.bound if self.roofline else None,
            "mfu_bound": round(self.mfu_bound, 4),
            "audio_seconds_per_chip_second": round(self.audio_seconds_per_chip_second, 2),
            "compile_seconds": round(self.compile_seconds, 1),
        }


def compile_step(
    config: RunConfig, topology: Topology, model: ModelConfig | None = None
) -> Verdict:
    """Compiles a configuration's step, for its largest row shape, and reads the result.

    Args:
        config: the run's.
        topology: to compile for.
        model: another than the configuration's, of other depth say.

    Raises:
        ValueError: a mesh that does not make the slice, rows that do not divide, no such topology.
        ImportError: the TPU compiler is not installed.
    """
    devices = topology.devices()
    mesh = make_mesh(config.mesh, devices, topology.slices)
    shape = max(config.data.row_shapes, key=lambda shape: (shape.frames, shape.tokens))
    local_rows(shape.rows, mesh, config.train.accumulate)
    model = model or model_of(config)
    train = config.train
    # How many steps the schedule has is but a number in the program.
    recipe = recipe_of(config, model, train.steps or 1)
    axes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    started = time.perf_counter()
    state, lowered = _lower(recipe, mesh, shape)
    parameters = (state.parameters, state.frozen)
    known = {
        "topology": topology,
        "setup": f"{axes}; {shape.rows} x {shape.tokens} tokens, {shape.frames} frames; "
        f"{train.accumulate} micro-batches; remat {config.model.remat}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(parameters)),
        "replicated": replicated_size(parameters, mesh),
        "tokens": shape.rows * shape.tokens,
        "limit": memory_limit(devices[0]) * topology.chip.devices,
    }
    try:
        arguments, used, text = _compile(lowered)
    except jax.errors.JaxRuntimeError as error:
        used = _used(str(error))
        if used is None:
            raise
        seconds = time.perf_counter() - started
        used *= topology.chip.devices
        return Verdict(**known, arguments=0, temporaries=used, fits=False, compile_seconds=seconds)
    known["compile_seconds"] = time.perf_counter() - started
    known["arguments"] = arguments * topology.chip.devices
    known["temporaries"] = (used - arguments) * topology.chip.devices
    return _read(text, known, config, model, mesh, shape)


def _compile(lowered: Any) -> tuple[float, float, str]:
    """(bytes per device of arguments, and of all that it uses with them; the program's text).

    The compiler writes text and use itself: `as_text` cannot read every program of its back, and
    the temporaries of `memory_analysis` contain the arguments with some compilers and not others.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        memory = lowered.compile(compiler_options=options).memory_analysis()
        (text,) = pathlib.Path(folder).glob("*.after_codegen.txt")
        (usage,) = pathlib.Path(folder).glob("*-memory-usage-report.txt")
        (used,) = re.findall(r"Memory Space: default .*\nTotal bytes: (\d+)", usage.read_text())
        used = int(used) + memory.generated_code_size_in_bytes
        return memory.argument_size_in_bytes, used, text.read_text()


def _lower(recipe: Recipe, mesh: jax.sharding.Mesh, shape: RowShape):
    """(abstract state, the lowered step)."""
    graph, init = make_init(recipe)
    state = jax.eval_shape(init)
    layout = shardings(state, mesh)
    rows = NamedSharding(mesh, ROWS)
    row = empty_batch(1, shape.tokens, shape.frames, recipe.model.encoder.mel_bins)
    if pairs := recipe.preference.pairs:
        row |= pair_fields(1, shape.tokens, pairs)
    batch = {  # of shapes only: that of a thousand chips has 100 GiB
        name: jax.ShapeDtypeStruct((shape.rows, *array.shape[1:]), array.dtype, sharding=rows)
        for name, array in row.items()
    }
    step = make_step(graph, recipe, mesh)
    step = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
    with jax.set_mesh(mesh):
        return state, step.lower(abstract(state, layout), batch)


def _read(
    text: str,
    known: dict[str, Any],
    config: RunConfig,
    model: ModelConfig,
    mesh: jax.sharding.Mesh,
    shape: RowShape,
) -> Verdict:
    """The verdict on a step that was compiled."""
    topology: Topology = known["topology"]
    of = useful(shape, silence_frames(model.encoder.window), config.preference.pairs)
    per_device = shape.rows // (row_shards(mesh) * config.train.accumulate)
    chunk = chunk_of(per_device * shape.tokens)
    learned = math.ceil(of.loss_positions * per_device / shape.rows)
    work = work_of(text, open_trips=math.ceil(learned / chunk))
    times = roofline(work, topology, list(mesh.devices.flat), shape.tokens)
    received, count = defaultdict(float), Counter()
    for one in work.collectives:
        received[one.kind] += one.received * one.times * topology.chip.devices
        count[one.kind] += one.times
    optimizer = optimizer_of(config, model)
    model_flops = flops.training_step(
        model, of, optimizer.frozen, train_new_tokens=optimizer.train_new_tokens
    )
    rate = topology.chips * topology.chip.flops
    return Verdict(
        **known,
        fits=True,
        received=dict(received),
        times=dict(count),
        model_flops=model_flops,
        executed_flops=(work.flops + kernel_flops(work, shape.tokens)) * mesh.size,
        roofline=times,
        mfu_bound=model_flops / (rate * times.seconds),
        audio_seconds_per_chip_second=of.frames / 100 / topology.chips / times.seconds,
    )


def model_of(config: RunConfig) -> ModelConfig:
    """The configuration's model with its family's released vocabulary, computed as on a TPU."""
    family = config.model.family
    encoder, decoder = preset_parts(config.model.preset, family, VOCABULARIES[family])
    encoder = with_window(config, Parts(), encoder)
    compute = compute_for(config.model, "tpu")
    model = model_config(family, encoder, decoder, audio_begin=0, audio_end=1, compute=compute)
    return with_adapters(config.lora, model)


def useful(shape: RowShape, silence: int = 0, layout: str = "") -> flops.Counts:
    """What is useful in a batch, on average over a window of `typical_mix` packed into its rows.

    Records that are larger than a row, with `silence` behind their clips, are dropped. In a
    `layout` of pairs each record has two answers, as long as its one.
    """
    seconds, text = mix(WINDOW)
    valid, lengths = lengths_of(seconds, text, silence)
    answers = text - PROMPT
    whole, shared = lengths[:, 0].copy(), np.zeros(len(text), int)
    if layout:
        pairs = [
            pair_tokens(one - answer, [answer, answer], layout)
            for one, answer in zip(whole.tolist(), answers.tolist(), strict=True)
        ]
        lengths[:, 0], shared = pairs, 2 * whole - pairs
    one_row = RowShape(1, shape.tokens, shape.frames)
    rows = [records for _, records in packed_batches(lengths, [one_row])]
    if not rows:
        raise ValueError(f"config.data.shapes: no clip of a usual mix has room in {shape}")
    records, answered = np.concatenate(rows), 2 if layout else 1
    of = flops.counts(
        valid[records].tolist(),
        whole[records].tolist() * answered,
        int(answers[records].sum()) * answered,
        silence,
        shared[records].tolist(),
    )
    return flops.Counts(*(round(n * shape.rows / len(rows)) for n in dataclasses.astuple(of)))


def memory_limit(device: Any) -> float:
    """Bytes that a program may use: what the compiler says of one that uses too many."""
    many = jax.ShapeDtypeStruct((1 << 42,), "uint8", sharding=SingleDeviceSharding(device))
    try:
        jax.jit(lambda x: x + 1).lower(many).compile()
    except jax.errors.JaxRuntimeError as error:
        if match := re.search(r"(?:of|available HBM \() ?([\d.]+)([KMGT])", str(error)):
            return _bytes(*match.groups())
        raise
    raise AssertionError("the compiler took a program of 4 TiB")


def _used(message: str) -> float | None:
    """Bytes that a program would use, if it is that which the compiler complains of."""
    match = re.search(r"(?:Used|required[^(]*\() ?([\d.]+)([KMGT])", message)
    return _bytes(*match.groups()) if match and "RESOURCE_EXHAUSTED" in message else None


def _bytes(number: str, unit: str) -> float:
    return float(number) * 1024 ** (1 + "KMGT".index(unit))
