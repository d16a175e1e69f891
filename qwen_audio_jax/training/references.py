"""The reference that preference tuning compares with: what the run starts from.

It does not change, so its log-probabilities of both answers of each record are computed once, in a
pass over the run's own batches before the first step, and lie in the run folder: `references.bin`
has a line of 24 bytes a record, `references.json` says what they are of. The pass may be killed
anywhere and goes on where it was. Where they shall be computed in every step instead, that is the
same program.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipelines.pipeline import batches, split_data_position
from qwen_audio_jax.models.cuts import together
from qwen_audio_jax.monitoring.progress_bar import bar
from qwen_audio_jax.parallel.sharding import ROWS, place_rows
from qwen_audio_jax.training.build import Run
from qwen_audio_jax.training.preference import Answers
from qwen_audio_jax.training.start import first_state_of
from qwen_audio_jax.training.step import (
    Recipe,
    TrainState,
    abstract_model,
    make_answers,
    recipe_cuts,
)
from qwen_audio_jax.training.stored_references import (
    Due,
    StoredReferences,
    facts_of,
    weights_digest,
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the run starts from, as far as it is trained; the rest of it is frozen in any case.

    Attributes:
        trained: parameters.
        answers: compiled (trained, frozen, batch) -> Answers, whole on every process.
        mesh: where they lie.
    """

    trained: Any
    answers: Callable[[Any, Any, dict[str, jax.Array]], Answers]
    mesh: Mesh

    def __call__(self, frozen: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch of pairs on the devices, with the reference's log-probabilities."""
        found = self.answers(self.trained, frozen, batch).log_probabilities
        return batch | {"references": jax.device_put(found, NamedSharding(self.mesh, ROWS))}


def make_reference(recipe: Recipe, mesh: Mesh, trained: Any) -> Reference:
    """The reference of a run.

    Args:
        recipe: what its step is made of.
        mesh: to run on.
        trained: its first parameters, as far as they are trained.
    """
    graph, cuts = abstract_model(recipe.model)[0], recipe_cuts(recipe)
    answers = make_answers(graph, mesh, recipe.accumulate)

    def compiled(trained, frozen, batch):
        return answers(together(trained, frozen, cuts), batch)

    whole = NamedSharding(mesh, PartitionSpec())
    return Reference(trained, jax.jit(compiled, out_shardings=whole), mesh)


class _Some(grain.sources.RandomAccessDataSource):
    """Some of a source's batches."""

    def __init__(self, source, numbers: Sequence[int]):
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number):
        return self._source[self._numbers[int(number)]]


def complete(
    stored: StoredReferences,
    reference: Reference,
    state: TrainState,
    run: Run,
    due: Sequence[Due],
) -> None:
    """Computes what is not stored yet of the records that a run trains on.

    Each record's are those of the batch in which it first comes, so that they are the same whether
    the pass was interrupted or not. A record that cannot be read gets none.

    Args:
        stored: where they go.
        reference: computes them.
        state: which has what is frozen.
        run: whose batches they are.
        due: the batches with such records.
    """
    data, config = run.data, run.config.data
    source = _Some(data.batches_from(0, config), [number for number, _ in due])
    first = jax.process_index() == 0
    shown = bar("references", len(due), over=due, unit="batch", quiet=not first)
    for (_, new), batch in zip(shown, batches(source, config.workers), strict=True):
        placed = place_rows(split_data_position(batch, data.plan.components)[0], reference.mesh)
        found = jax.device_get(reference.answers(reference.trained, state.frozen, placed))
        readable = found.tokens[..., :1] > 0
        values = np.where(readable, found.log_probabilities, np.nan)
        stored.add({record: values[place] for record, place in new.items()}, write=first)


@dataclasses.dataclass(frozen=True)
class Compared:
    """What a run's pairs are compared with.

    Attributes:
        stored: log-probabilities by component, see `PackedBatches`; None where none are stored.
        online: what computes them in every step; None where nothing does.
    """

    stored: Sequence[np.ndarray] | None = None
    online: Reference | None = None


def compare(run: Run, recipe: Recipe, layout: TrainState, state: TrainState) -> Compared:
    """What a run's pairs are compared with; stored references are completed here.

    Args:
        run: of pairs, or another, whose examples are compared with nothing.
        recipe: what its step is made of.
        layout: shardings of its state.
        state: what it goes on from.

    Raises:
        ConfigError: references that are stored are of something else.
    """
    config = run.config
    if not config.preference or config.preference.reference == "none":
        return Compared()
    if config.preference.reference == "online":
        # A step reuses the memory of the state that it is given.
        first = jax.tree.map(jnp.copy, state.parameters)
        if int(state.step):
            first = first_state_of(config, run.checkpoints, recipe, layout).parameters
        return Compared(online=make_reference(recipe, run.mesh, first))
    with run.clock.spend("references"):
        stored = _completed(run, make_reference(recipe, run.mesh, state.parameters), state)
    run.clock.lap(int(state.step))
    return Compared(stored=stored.values)


def _completed(run: Run, reference: Reference, state: TrainState) -> StoredReferences:
    begun, stored = int(state.step) > 0, StoredReferences(run.workdir, run.data.plan)
    weights = "" if begun else weights_digest(state)
    if run.group.index == 0:
        stored.begin(facts_of(run.workdir, run.data, run.digests, weights), begun=begun)
    run.group.barrier("the references")
    stored.read()
    if due := stored.due(run.data.plan, run.duration.steps, begun=begun):
        complete(stored, reference, state, run, due)
    return stored
