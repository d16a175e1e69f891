"""The training loop. `run` reads from top to bottom like the recipe that it is."""

import dataclasses
import json
import logging
import math
import pathlib
import signal
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from data_pipelines.examples import ExampleMaker
from data_pipelines.packing import PackPlan
from data_pipelines.pipeline import PackedBatches, batches, make_plan, open_mixture
from data_pipelines.records import Corpus
from qwen_audio_jax import report
from qwen_audio_jax.checkpoint import Checkpoints, abstract, load_parameters
from qwen_audio_jax.evaluate import Evaluator
from qwen_audio_jax.models.presets import ModelConfig, model_config
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.objectives import next_token_loss
from qwen_audio_jax.optimizer import make_optimizer
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import RunConfig, claim_workdir, to_json
from qwen_audio_jax.run_log import RunLog, read_metrics
from qwen_audio_jax.sharding import (
    local_rows,
    make_mesh,
    place_rows,
    row_constraint,
    shardings,
)
from qwen_audio_jax.tokenizer import Tokenizer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Steps done, parameters (float32) and optimizer state."""

    step: jax.Array
    parameters: Any
    optimizer: Any


class TrainingError(RuntimeError):
    """Training cannot go on. The sentence says why and what to do."""


def run(config: RunConfig, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Trains, or goes on training, and evaluates; returns the rows of evaluation.json.

    Raises:
        ConfigError, ValueError, FileNotFoundError: what was asked for cannot be done; found before
            any long work.
        TrainingError: the loss is not a number, say.
    """
    # Data: the corpora, their vocabulary, the plan of all batches.
    mesh = make_mesh(config.mesh)
    my_rows = {shape: local_rows(shape.rows, mesh) for shape in config.data.row_shapes}
    corpora = open_mixture(config.data.root, config.data.mixture)
    tokenizer = Tokenizer.load(next(iter(corpora.values())).path / "tokenizer")
    model = choose_model(config, tokenizer)
    maker = ExampleMaker(
        tokenizer,
        model.family,
        config.data.conditioning,
        model.encoder.mel_bins,
        model.frame_rounding,
    )
    plan = make_plan(corpora, config.data.mixture, maker, config.data.row_shapes, config.data.seed)
    held_out = find_held_out(config, corpora)
    claim_workdir(workdir, config)
    tokenizer.save(workdir / "tokenizer")

    # Model and optimizer: abstract first, so that nothing is ever laid out whole on one device.
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    graph, init = make_init(model, optimizer, config.train.seed)
    layout = shardings(jax.eval_shape(init), mesh)
    step_function = jax.jit(
        make_step(graph, optimizer, mesh), donate_argnums=0, out_shardings=(layout, None)
    )
    evaluator = held_out and Evaluator(
        *held_out,
        maker,
        graph,
        mesh,
        config.evaluate.rows,
        config.evaluate.max_new_tokens,
        config.evaluate.limit,
    )

    # State: the run's own last checkpoint, or another run's parameters, or a fresh start.
    checkpoints = Checkpoints(workdir, config.checkpoint.keep)
    first_step, next_slot = checkpoints.latest or 0, 0
    if first_step:
        state, next_slot = checkpoints.restore(first_step, abstract(jax.eval_shape(init), layout))
        logging.info("going on from step %d of %s", first_step, workdir)
    else:
        state = jax.jit(init, out_shardings=layout)()
        if config.init_from:
            parameters = load_parameters(
                pathlib.Path(config.init_from), abstract(state.parameters, layout.parameters)
            )
            state = dataclasses.replace(state, parameters=parameters)
    describe(config, workdir, model, state, plan, mesh, first_step)

    # The loop. Its order does not change: save, evaluate, next batch, step, log.
    stop = StopSignal()
    log = RunLog(workdir, first_step, config.train.steps)
    source = PackedBatches(corpora, maker, plan, my_rows, next_slot)
    stream = batches(source, config.data.workers)
    pending, rows, results, evaluated_at = None, [], [], -1
    for step in range(first_step, config.train.steps):
        batch = next(stream)
        next_slot = int(batch.pop("slot")) + 1
        # The step is only dispatched here; its metrics are read after the next one is.
        state, metrics = step_function(state, place_rows(batch, mesh))
        if pending is not None:
            record(log, *pending, config.train.log_every)
        pending = step + 1, metrics

        done = step + 1
        last = done == config.train.steps or stop.requested
        if done % config.checkpoint.every == 0 or last:
            record(log, *pending, config.train.log_every)  # a NaN must never be saved
            pending = None
            checkpoints.save(done, state, next_slot=next_slot, config=to_json(config))
        if stop.requested:
            break
        if evaluator and config.evaluate.every and done % config.evaluate.every == 0 and not last:
            rows, results = evaluator(state.parameters)
            evaluated_at = done
            write_evaluation(workdir, log, done, rows)
            log.restart_clock()
    checkpoints.close()
    if stop.requested:
        log.close()
        logging.warning("stopped by %s; the same command goes on from here", stop.requested)
        return rows

    # The end: what it learned, as a table and as a page.
    if evaluator and evaluated_at != config.train.steps:
        rows, results = evaluator(state.parameters)
        write_evaluation(workdir, log, config.train.steps, rows)
    log.close()
    if jax.process_index() == 0:
        write_report(config, workdir, model, state, plan, rows, results)
    return rows


def choose_model(config: RunConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's configuration, for the vocabulary at hand and the devices there are."""
    family, dtype = config.model.family, config.model.dtype
    begin, _, end = AUDIO_TAGS[family]
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return model_config(
        config.model.preset,
        family,
        vocab_size=tokenizer.vocab_size,
        audio_begin=tokenizer.special(begin),
        audio_end=tokenizer.special(end),
        dtype=dtype,
        remat=config.model.remat,
    )


def make_init(model: ModelConfig, optimizer: optax.GradientTransformation, seed: int):
    """Returns (graph of the model, function that makes the first TrainState)."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0))))

    def init() -> TrainState:
        parameters = nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(seed)))[1])
        return TrainState(jnp.int32(0), parameters, optimizer.init(parameters))

    return graph, init


def make_step(graph: nnx.GraphDef, optimizer: optax.GradientTransformation, mesh: Mesh):
    """Returns step(state, batch) -> (state, metrics), to be compiled once per row shape."""
    constrain = row_constraint(mesh)

    def step(state: TrainState, batch: dict[str, jax.Array]):
        def loss_sum(parameters):
            hidden = nnx.merge(graph, parameters)(batch, constrain)
            head = parameters["decoder"]["head"]
            return next_token_loss(hidden, head, batch["targets"], batch["loss_weights"])

        (total, weight), gradients = jax.value_and_grad(loss_sum, has_aux=True)(state.parameters)
        weight = jnp.maximum(weight, 1.0)
        gradients = jax.tree.map(lambda gradient: gradient / weight, gradients)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
        valid_frames = (batch["mel_segments"] > 0) & (batch["mel_positions"] >= 0)
        metrics = {
            "loss": total / weight,
            "gradient_norm": optax.global_norm(gradients),
            "tokens": jnp.sum(batch["segments"] > 0),
            "audio_seconds": jnp.sum(valid_frames) / 100,
        }
        parameters = optax.apply_updates(state.parameters, updates)
        return TrainState(state.step + 1, parameters, optimizer_state), metrics

    return step


def record(log: RunLog, step: int, metrics: dict[str, jax.Array], log_every: int) -> None:
    """Counts a step's work, logs it if it is its turn, and stops the run at a loss of NaN.

    Raises:
        TrainingError: the loss or the gradient is not finite.
    """
    values = {name: float(value) for name, value in metrics.items()}
    log.count(values.pop("tokens"), values.pop("audio_seconds"))
    if not math.isfinite(values["loss"]) or not math.isfinite(values["gradient_norm"]):
        raise TrainingError(
            f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}; the "
            "last checkpoint is from before it. Lower config.optimizer.learning_rate or clip_norm"
        )
    if step % log_every == 0:
        log.write(step, values)


def find_held_out(config: RunConfig, corpora: dict[str, Corpus]) -> tuple[Corpus, str] | None:
    """The corpus and split to evaluate on; None, with a warning, if there is none."""
    if config.evaluate.data:
        corpus = Corpus(pathlib.Path(config.data.root) / config.evaluate.data)
        return corpus, "validation" if "validation" in corpus.splits else corpus.splits[0]
    for corpus in corpora.values():
        if "validation" in corpus.splits:
            return corpus, "validation"
    logging.warning(
        "no corpus of the mixture has a validation split, so nothing is evaluated; build one with "
        "data_pipelines.build --split=validation, or name a corpus in config.evaluate.data"
    )
    return None


def describe(
    config: RunConfig,
    workdir: pathlib.Path,
    model: ModelConfig,
    state: TrainState,
    plan: PackPlan,
    mesh: Mesh,
    first_step: int,
) -> None:
    """Prints what is about to be trained."""
    axes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    print(
        f"{model.family}, {config.model.preset}: {count(state.parameters):,} parameters, "
        f"{model.dtype}, vocabulary of {model.decoder.vocab_size:,}\n"
        f"data: {', '.join(plan.components)}, {plan.records:,} records, "
        f"conditioned by {config.data.conditioning}\n"
        f"mesh: {axes} ({jax.devices()[0].platform})\n"
        f"steps: {first_step} of {config.train.steps} done\n"
        f"everything goes to {workdir}",
        flush=True,
    )


def count(parameters: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


def write_evaluation(
    workdir: pathlib.Path, log: RunLog, step: int, rows: list[dict[str, Any]]
) -> None:
    """Writes evaluation.json, whole or not at all."""
    log.write_evaluation(step, rows)
    if jax.process_index() == 0:
        part = workdir / "evaluation.json.part"
        part.write_text(json.dumps(rows, indent=1) + "\n")
        part.replace(workdir / "evaluation.json")


def write_report(config, workdir, model, state, plan, rows, results) -> None:
    """Writes report.html: the curve, the table and some held-out answers."""
    shown, seen = [], {}
    for result in results:  # a few of each task, in turn
        seen.setdefault(result.record.task, []).append(result)
    for place in range(max(map(len, seen.values()), default=0)):
        shown += [of_task[place] for of_task in seen.values() if place < len(of_task)]
    report.write_report(
        workdir / "report.html",
        title=f"{workdir.name}: {model.family} pre-trained for {config.train.steps} steps",
        run_info={
            "model": f"{model.family}, {config.model.preset}",
            "parameters": f"{count(state.parameters):,}",
            "data": f"{', '.join(plan.components)}: {plan.records:,} records",
            "conditioning": config.data.conditioning,
            "steps": f"{config.train.steps:,}",
            "finished": time.strftime("%Y-%m-%d %H:%M"),
        },
        metrics=read_metrics(workdir),
        evaluation=rows,
        examples=[
            report.Example(
                task=result.record.task,
                id=result.record.id,
                prompt=result.prompt,
                clips=list(result.record.audio),
                reference=result.reference,
                hypothesis=result.hypothesis,
            )
            for result in shown[: config.evaluate.examples]
        ],
    )


class StopSignal:
    """Set by SIGTERM or Ctrl-C, so that the loop can save before it ends. A second one ends it."""

    def __init__(self):
        self.requested = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def _request(self, number, frame):
        self.requested = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)
