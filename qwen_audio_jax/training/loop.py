"""The training loop. `run` reads from top to bottom like the recipe that it is."""

import dataclasses
import logging
import math
import pathlib
from typing import Any

import jax
import numpy as np

from data_pipelines.pipeline import batches, split_data_position
from qwen_audio_jax.evaluation.validation import (
    NOTHING,
    Evaluation,
    shown_examples,
    with_before,
    write_before,
    write_evaluation,
)
from qwen_audio_jax.models.cuts import merge
from qwen_audio_jax.monitoring import flops, report
from qwen_audio_jax.monitoring.chips import peak_flops
from qwen_audio_jax.monitoring.goodput import Clock
from qwen_audio_jax.monitoring.run_log import SKIPPED_FILE, RunLog, read_metrics
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.parallel.sharding import place_rows
from qwen_audio_jax.run_config import RunConfig, to_json
from qwen_audio_jax.training.build import Run, build_run
from qwen_audio_jax.training.description import run_info, start_told
from qwen_audio_jax.training.errors import TrainingError, exhaustion_told
from qwen_audio_jax.training.lora import optimizer_of
from qwen_audio_jax.training.references import Compared, compare
from qwen_audio_jax.training.start import (
    restore_or_init,
    use_compilation_cache,
)
from qwen_audio_jax.training.step import (
    TrainState,
)
from qwen_audio_jax.training.stop_signal import StopSignal
from qwen_audio_jax.training.workdir import (
    emptied,
    write_workdir,
)
from qwen_audio_jax.training.workdir_lock import WorkdirLock, locked


def run(
    config: RunConfig, workdir: pathlib.Path, group: Group | None = None, clock: Clock | None = None
) -> list[dict[str, Any]]:
    """Trains, or goes on training, and evaluates; returns the rows of evaluation.json.

    Args:
        config: what to do.
        workdir: the run's folder; several processes share it.
        group: the processes that train together; this one alone by default.
        clock: that has run since the process started; a new one by default.

    Raises:
        ConfigError, ValueError, FileNotFoundError: what was asked for cannot be done; found before
            any long work.
        CheckpointError: one cannot be written or read.
        TrainingError: the loss is not a number, say, or the disk is full.
    """
    group, clock = group or Group(), clock or Clock()
    use_compilation_cache(config.compilation_cache, workdir, group.count)
    with exhaustion_told(workdir), locked(workdir, group) as lock:
        return train(config, workdir, group, clock, lock)


def train(
    config: RunConfig,
    workdir: pathlib.Path,
    group: Group,
    clock: Clock,
    lock: WorkdirLock | None,
) -> list[dict[str, Any]]:
    """`run` in a run folder that no other run writes to, with process 0 holding its lock."""
    run, recipe, layout = build_run(config, workdir, group, clock, lock)
    with emptied(workdir / "checkpoints"):
        state, next_slot = restore_or_init(config, run.checkpoints, recipe, layout)
    first_step, writes = int(state.step), group.index == 0
    if writes:
        # Up to here a start may fail, and then everything is as it was.
        write_workdir(workdir, config, run.model, run.data.preprocessor.tokenizer, run.digests)
    clock.begin(workdir, first_step, write=writes)
    if writes:
        describe(run, state)
    steps, peak = run.duration.steps or None, peak_flops(jax.devices())
    log = RunLog(workdir, first_step, steps, peak, write=writes)
    try:
        # Kernels that the compiler cannot divide over the mesh ask for it.
        with jax.set_mesh(run.mesh):
            compared = compare(run, recipe, layout, state)
            with StopSignal() as stop:
                if first_step == 0 and run.validation:
                    evaluate_start(run, state, log)
                state, over = loop(run, state, next_slot, log, stop, compared)
            with clock.spend("checkpoint"):
                run.checkpoints.close()
            clock.lap(int(state.step))
            if not over:
                cause = stop.requested or "a signal to another process"
                logging.warning("stopped by %s; the same command goes on from here", cause)
                return []
            return finish(run, state, log)
    finally:
        run.profile.close()
        clock.close()
        log.close()


def loop(
    run: Run,
    state: TrainState,
    next_slot: int,
    log: RunLog,
    stop: StopSignal,
    compared: Compared,
):
    """The steps themselves. Their order does not change: batch, step, log, save, evaluate.

    Returns:
        (The last TrainState, whether the run is over; it is not if a signal has stopped it.)
    """
    config, data, clock, duration = run.config, run.data, run.clock, run.duration
    source = data.batches_from(next_slot, config.data, compared.stored)
    stream = batches(source, config.data.workers)
    pending, due, counts = None, False, None
    done, share = int(state.step), duration.agreed(run.all_reduce, clock)
    duration.warn_if_over(done, share)
    last = over = duration.over(done, share)
    while not last:
        done += 1
        with run.profile.step(done):
            with clock.spend("data_wait"):
                batch, position = split_data_position(next(stream), data.plan.components)
            next_slot = position["slot"] + 1
            # The step is only dispatched here, and its metrics are read after the next one is: so
            # the next batch is sent to the devices while they still compute.
            with clock.dispatch(batch["tokens"].shape):
                progress, placed = duration.progress(share, run.mesh), place_rows(batch, run.mesh)
                if compared.online:
                    placed = compared.online(state.frozen, placed)
                state, metrics = run.step(state, placed, *progress)
        # So are the counts: a signal to any process ends all of them after the same, later step.
        mine = bool(stop.requested), position.pop("dropped"), duration.count(clock)
        earlier, counts = counts, run.all_reduce(*mine)
        metrics |= position | duration.logged(share) | {"counts": counts}
        if pending is not None:
            log_step(run, log, *pending)
        pending = done, metrics

        stopping = earlier is not None and np.asarray(earlier)[0] > 0
        if earlier is not None:
            share = duration.share_of(int(np.asarray(earlier)[2]))
        over = duration.over(done, share)
        last = over or stopping
        due = due or last or done % config.checkpoint.every == 0
        if due:
            skipped = log_step(run, log, *pending, last=over)
            pending = None
            # After a skipped step it is not yet known whether the parameters are any good.
            if last or not skipped:
                save(run, done, state, next_slot)
                due = False
        run.profile.after(done, state)
        if last:
            break
        if run.validation and run.validation.due(done):
            if pending is not None:
                log_step(run, log, *pending)
                pending = None
            evaluate(run, state, log, whole=run.validation.whole(done))
    return state, over


def save(run: Run, step: int, state: TrainState, next_slot: int) -> None:
    """Starts a checkpoint, which all processes write together."""
    with run.clock.spend("checkpoint"):
        run.group.barrier(f"checkpoint {step}")
        if run.lock is not None:
            run.lock.check()
        run.checkpoints.save(step, state, next_slot=next_slot, config=to_json(run.config))
    run.clock.lap(step)


def evaluate_start(run: Run, state: TrainState, log: RunLog) -> None:
    """Evaluates what the run starts from, as far as the end needs it or has it beside."""
    before, pairs = run.config.evaluate.before, run.validation.pairs
    if not (before or pairs):
        return
    with run.clock.spend("evaluation"):
        parameters = merge(state.parameters, state.frozen, run.cuts)
        if not before:
            pairs(parameters, start=True)
            return
        found = run.validation(parameters, start=True)
    log.write_evaluation(0, found.rows)
    if jax.process_index() == 0:
        write_before(run.workdir, found.rows)
    log.restart_clock()


def evaluate(run: Run, state: TrainState, log: RunLog, *, whole: bool) -> Evaluation:
    """Evaluates validation splits. Unless it is whole, the loss alone is measured and logged."""
    step = int(state.step)
    with run.clock.spend("evaluation"):
        parameters = merge(state.parameters, state.frozen, run.cuts)
        found = run.validation(parameters, whole=whole)
    if whole:
        found = dataclasses.replace(found, rows=with_before(run.workdir, found.rows))
    log.write_evaluation(step, found.rows)
    log.add(step, found.metrics)
    if jax.process_index() == 0 and whole:
        write_evaluation(run.workdir, step, found)
    log.restart_clock()
    return found


def finish(run: Run, state: TrainState, log: RunLog) -> list[dict[str, Any]]:
    """The end: what was learned, as a table and as a page. Returns the table's rows."""
    found = evaluate(run, state, log, whole=True) if run.validation else NOTHING
    run.clock.lap(int(state.step))
    if jax.process_index() == 0:
        config = run.config
        report.write_report(
            run.workdir / "report.html",
            title=f"{run.workdir.name}: {run.model.family} after {int(state.step):,} steps",
            run_info=run_info(config, run.model, run.data.plan, state),
            metrics=read_metrics(run.workdir),
            evaluation=found.rows,
            examples=shown_examples(found.results, config.evaluate.examples),
        )
        print(run.clock.summary())
    return found.rows


def log_step(
    run: Run, log: RunLog, step: int, metrics: dict[str, Any], *, last: bool = False
) -> bool:
    """Counts a step's work and logs it if it is its turn.

    Returns:
        Whether the step was skipped, because its loss or gradient is not finite. The records of its
        batch are then named in skipped.jsonl.

    Raises:
        TrainingError: so many in a row were skipped that going on would not help.
    """
    metrics = jax.device_get(metrics)
    dropped = metrics.pop("counts")[1]
    of = flops.Counts(**{name: int(n) for name, n in metrics.pop("useful").items()})
    values = {name: float(value) for name, value in metrics.items()}
    optimizer = optimizer_of(run.config, run.model)
    work = flops.training_step(
        run.model, of, optimizer.frozen, train_new_tokens=optimizer.train_new_tokens
    )
    log.count(of, work, int(dropped))
    slot = int(values.pop("slot"))
    skipped = not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"]))
    if skipped:
        in_a_row = log.skip(step, slot, run.data.batch_ids(slot))
        if in_a_row > run.config.train.max_skipped:
            raise TrainingError(
                f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}, and "
                f"{in_a_row} such steps in a row (config.train.max_skipped is "
                f"{run.config.train.max_skipped}); the last checkpoint is from before them. Look "
                f"at the records in {run.workdir / SKIPPED_FILE}, or lower "
                "config.optimizer.learning_rate or clip_norm"
            )
    elif has_line(run, step, last):
        run.clock.lap(step)
        log.write(step, values | run.clock.values(), run.duration.left(run.clock))
    return skipped


def has_line(run: Run, step: int, last: bool) -> bool:
    """Whether metrics.jsonl has a line of a step; it has one of each that is evaluated."""
    evaluated = run.validation is not None and (last or run.validation.due(step))
    return evaluated or step % run.config.train.log_every == 0


def describe(run: Run, state: TrainState) -> None:
    """Prints what is about to be trained."""
    plan, resumed_from = run.data.plan, run.checkpoints.latest
    print(
        start_told(run.config, run.model, plan, run.mesh, state, resumed_from),
        run.duration.told(int(state.step), run.clock),
        f"everything goes to {run.workdir}",
        sep="\n",
        flush=True,
    )
