"""Opens and builds what a run is made of, before its first step."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import jax
from jax.sharding import Mesh

from data_pipelines.records import Corpus
from qwen_audio_jax.checkpoint import Checkpoints
from qwen_audio_jax.evaluation.held_out_pairs import AnswersOf, HeldOutPairs, PreferenceAccuracy
from qwen_audio_jax.evaluation.validation import (
    Validation,
    make_validation,
)
from qwen_audio_jax.models.cuts import Cuts
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.monitoring.goodput import Clock
from qwen_audio_jax.parallel.distributed import AllReducedCounts
from qwen_audio_jax.parallel.group import Group
from qwen_audio_jax.parallel.sharding import make_mesh, shardings
from qwen_audio_jax.run_config import RunConfig
from qwen_audio_jax.training import agreement
from qwen_audio_jax.training.corpus_digests import Digests
from qwen_audio_jax.training.data import Data
from qwen_audio_jax.training.duration import Duration, duration_of
from qwen_audio_jax.training.needed_tags import check_tags
from qwen_audio_jax.training.profile_window import ProfileWindow
from qwen_audio_jax.training.start import (
    find_validation_splits,
    open_data,
    recipe_of,
)
from qwen_audio_jax.training.step import (
    Recipe,
    TrainState,
    make_answers,
    make_init,
    make_losses,
    make_step,
    recipe_cuts,
)
from qwen_audio_jax.training.tuning import check_pairs
from qwen_audio_jax.training.workdir import (
    check_config,
    check_corpora,
    own_parts,
)
from qwen_audio_jax.training.workdir_lock import WorkdirLock


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from the first step to the last."""

    config: RunConfig
    workdir: pathlib.Path
    mesh: Mesh
    data: Data
    model: ModelConfig
    duration: Duration
    cuts: Cuts
    step: Callable
    validation: Validation | None
    checkpoints: Checkpoints
    group: Group
    lock: WorkdirLock | None
    digests: Digests
    all_reduce: AllReducedCounts
    clock: Clock
    profile: ProfileWindow


def build_run(
    config: RunConfig,
    workdir: pathlib.Path,
    group: Group,
    clock: Clock,
    lock: WorkdirLock | None,
) -> tuple[Run, Recipe, TrainState]:
    """Opens and builds all that the run is made of; nothing long is done.

    Returns:
        (Run, what its step is made of, the layout of its TrainState on the devices).
    """
    mesh = make_mesh(config.mesh)
    check_config(workdir, config)
    own = own_parts(workdir)
    data, model = open_data(config, mesh, own)
    validation = find_validation_splits(config, data.corpora)
    splits = {name: (corpus, "train") for name, corpus in data.corpora.items()}
    splits |= {f"validation split of {name}": split for name, split in validation.items()}
    corpora = {name: corpus for name, (corpus, _) in splits.items()}
    group.barrier("the data", agreement.of_data(config, corpora, mesh, own is not None))
    digests = {}
    if group.index == 0:  # tells of them for all
        digests = check_corpora(workdir, splits)
        imported = model.decoder.first_new_token > 0
        tokenizer = data.preprocessor.tokenizer
        check_tags(splits, config.data.conditioning, tokenizer, imported=imported)
        if config.preference:
            check_pairs(data.corpora)

    # Abstract first, so that nothing is ever laid out whole on one device.
    duration = duration_of(config.train, data.plan)
    recipe = recipe_of(config, model, duration.steps)
    cuts = recipe_cuts(recipe)
    graph, init = make_init(recipe)
    layout = shardings(jax.eval_shape(init), mesh)
    step = make_step(graph, recipe, mesh)
    measured = graph, mesh, config.train.accumulate
    run = Run(
        config=config,
        workdir=workdir,
        mesh=mesh,
        data=data,
        model=model,
        duration=duration,
        cuts=cuts,
        step=jax.jit(step, donate_argnums=0, out_shardings=(layout, None)),
        validation=make_validation(
            config.evaluate,
            validation,
            dataclasses.replace(data.preprocessor, layout=""),  # pairs as talks that end well
            data.local_rows,
            model,
            make_losses(*measured),
            mesh,
            workdir,
            group,
            _held_out_pairs(config, data, validation, make_answers(*measured), workdir, mesh),
        ),
        checkpoints=Checkpoints(workdir, config.checkpoint.keep, cuts),
        group=group,
        lock=lock,
        digests=digests,
        all_reduce=AllReducedCounts(),
        clock=clock,
        profile=ProfileWindow(config.profile, workdir),
    )
    group.barrier("the last checkpoint", {"the last checkpoint": str(run.checkpoints.latest)})
    return run, recipe, layout


def _held_out_pairs(
    config: RunConfig,
    data: Data,
    splits: Mapping[str, tuple[Corpus, str]],
    answers: AnswersOf,
    workdir: pathlib.Path,
    mesh: Mesh,
) -> PreferenceAccuracy | None:
    """What measures the pairs of validation splits, in a run on pairs."""
    preference, limit = config.preference, config.evaluate.limit
    if not preference:
        return None
    where = data.preprocessor, data.local_rows, answers, mesh, limit, preference.loss == "ipo"
    measures = {name: HeldOutPairs(*split, *where) for name, split in splits.items()}
    return PreferenceAccuracy(measures, workdir)
