"""The training loop. `run` reads from top to bottom like the recipe that it is."""

import collections
import dataclasses
import itertools
import json
import logging
import math
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from data_pipelines.pipeline import PackedBatches, batches
from qwen_audio_jax import report
from qwen_audio_jax.checkpoint import Checkpoints
from qwen_audio_jax.evaluate import Evaluator, Result
from qwen_audio_jax.models.parts import parts_of, write_parts
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.objectives import next_token_loss
from qwen_audio_jax.optimizer import OptimizerConfig, make_optimizer, trained
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import RunConfig, claim_workdir, to_json
from qwen_audio_jax.run_log import RunLog, read_metrics
from qwen_audio_jax.sharding import (
    make_mesh,
    place_rows,
    row_constraint,
    shardings,
)
from qwen_audio_jax.start import Data, TrainState, find_held_out, first_state, make_init, open_data


class TrainingError(RuntimeError):
    """Training cannot go on. The sentence says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from the first step to the last."""

    config: RunConfig
    workdir: pathlib.Path
    mesh: Mesh
    data: Data
    model: ModelConfig
    step: Callable
    evaluator: Evaluator | None
    checkpoints: Checkpoints


def run(config: RunConfig, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Trains, or goes on training, and evaluates; returns the rows of evaluation.json.

    Raises:
        ConfigError, ValueError, FileNotFoundError: what was asked for cannot be done; found before
            any long work.
        TrainingError: the loss is not a number, say.
    """
    mesh = make_mesh(config.mesh)
    data, model = open_data(config, mesh)
    held_out = find_held_out(config, data.corpora)
    claim_workdir(workdir, config)
    data.maker.tokenizer.save(workdir / "tokenizer")
    placeholder = AUDIO_TAGS[model.family][1]
    write_parts(workdir, parts_of(model, data.maker.tokenizer.special(placeholder)))

    # Abstract first, so that nothing is ever laid out whole on one device.
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    graph, init = make_init(model, optimizer, config.train.seed)
    layout = shardings(jax.eval_shape(init), mesh)
    step = make_step(graph, optimizer, mesh, config.optimizer)
    step = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
    evaluator = held_out and Evaluator(*held_out, data.maker, graph, mesh, config.evaluate)

    checkpoints = Checkpoints(workdir, config.checkpoint.keep)
    run = Run(config, workdir, mesh, data, model, step, evaluator, checkpoints)
    state, next_slot = first_state(config, checkpoints, init, layout)
    describe(run, state)
    log = RunLog(workdir, int(state.step), config.train.steps)
    try:
        with StopSignal() as stop:
            state = loop(run, state, next_slot, log, stop)
        checkpoints.close()
        if state.step < config.train.steps:
            logging.warning("stopped by %s; the same command goes on from here", stop.requested)
            return []
        return finish(run, state, log)
    finally:
        log.close()


def loop(run: Run, state: TrainState, next_slot: int, log: RunLog, stop: "StopSignal"):
    """The steps themselves. Their order does not change: batch, step, log, save, evaluate.

    Returns:
        The last TrainState; it has fewer steps than the run if a signal has stopped it.
    """
    config, data = run.config, run.data
    source = PackedBatches(
        data.corpora,
        data.maker,
        data.plan,
        data.my_rows,
        next_slot,
        config.data.spec_augment,
        config.data.seed,
    )
    stream = batches(source, config.data.workers)
    pending = None
    for done in range(int(state.step) + 1, config.train.steps + 1):
        batch = next(stream)
        next_slot = int(batch.pop("slot")) + 1
        # The step is only dispatched here; its metrics are read after the next one is.
        state, metrics = run.step(state, place_rows(batch, run.mesh))
        if pending is not None:
            record(log, *pending, config.train.log_every)
        pending = done, metrics

        last = done == config.train.steps or stop.requested
        if done % config.checkpoint.every == 0 or last:
            record(log, *pending, config.train.log_every)  # a NaN must never be saved
            pending = None
            run.checkpoints.save(done, state, next_slot=next_slot, config=to_json(config))
        if last:
            break
        if run.evaluator and config.evaluate.every and done % config.evaluate.every == 0:
            evaluate(run, state, log)
    return state


def evaluate(run: Run, state: TrainState, log: RunLog) -> tuple[list[dict[str, Any]], list[Result]]:
    """Answers and scores the held-out split; writes evaluation.json, whole or not at all."""
    rows, results = run.evaluator(state.parameters)
    log.write_evaluation(int(state.step), rows)
    if jax.process_index() == 0:
        part = run.workdir / "evaluation.json.part"
        part.write_text(json.dumps(rows, indent=1) + "\n")
        part.replace(run.workdir / "evaluation.json")
    log.restart_clock()
    return rows, results


def finish(run: Run, state: TrainState, log: RunLog) -> list[dict[str, Any]]:
    """The end: what was learned, as a table and as a page. Returns the table's rows."""
    rows, results = evaluate(run, state, log) if run.evaluator else ([], [])
    if jax.process_index() == 0:
        config, plan = run.config, run.data.plan
        report.write_report(
            run.workdir / "report.html",
            title=f"{run.workdir.name}: {run.model.family} after {int(state.step):,} steps",
            run_info={
                "model": f"{run.model.family}, {config.model.preset}",
                "parameters": f"{count(state.parameters):,}",
                "data": f"{', '.join(plan.components)}: {plan.records:,} records",
                "conditioning": config.data.conditioning,
                "steps": f"{int(state.step):,}",
                "finished": time.strftime("%Y-%m-%d %H:%M"),
            },
            metrics=read_metrics(run.workdir),
            evaluation=rows,
            examples=shown_examples(results, config.evaluate.examples),
        )
    return rows


def shown_examples(results: list[Result], number: int) -> list[report.Example]:
    """A few results of each task in turn."""
    by_task = collections.defaultdict(list)
    for result in results:
        by_task[result.record.task].append(result)
    turns = itertools.zip_longest(*(by_task[task] for task in sorted(by_task)))
    chosen = [result for turn in turns for result in turn if result is not None][:number]
    return [
        report.Example(
            task=result.record.task,
            id=result.record.id,
            prompt=result.prompt,
            clips=list(result.record.audio),
            reference=result.reference,
            hypothesis=result.hypothesis,
        )
        for result in sorted(chosen, key=lambda result: result.record.task)
    ]


def make_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    options: OptimizerConfig,
):
    """Returns step(state, batch) -> (state, metrics), to be compiled once per row shape."""
    constrain = row_constraint(mesh)

    def step(state: TrainState, batch: dict[str, jax.Array]):
        is_trained = trained(options, state.parameters)

        def loss_sum(parameters):
            # No gradient is computed for what is frozen, nor for what only leads there.
            parameters = jax.tree.map(
                lambda leaf, train: leaf if train else jax.lax.stop_gradient(leaf),
                parameters,
                is_trained,
            )
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


def describe(run: Run, state: TrainState) -> None:
    """Prints what is about to be trained."""
    config, model, plan = run.config, run.model, run.data.plan
    axes = ", ".join(f"{axis} {size}" for axis, size in run.mesh.shape.items())
    print(
        f"{model.family}, {config.model.preset}: {count(state.parameters):,} parameters, "
        f"{model.dtype}, vocabulary of {model.decoder.vocab_size:,}\n"
        f"data: {', '.join(plan.components)}, {plan.records:,} records, "
        f"conditioned by {config.data.conditioning}\n"
        f"mesh: {axes} ({jax.devices()[0].platform})\n"
        f"steps: {int(state.step)} of {config.train.steps} done\n"
        f"everything goes to {run.workdir}",
        flush=True,
    )


def count(parameters: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


class StopSignal:
    """Set by SIGTERM or Ctrl-C, so that the loop can save before it ends; a second one ends it.

    Attributes:
        requested: the signal's name, or "".
    """

    def __init__(self):
        self.requested = ""

    def __enter__(self) -> "StopSignal":
        self._before = {
            number: signal.signal(number, self._request)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number, frame) -> None:
        self.requested = signal.Signals(number).name
        signal.signal(number, self._before[number])
