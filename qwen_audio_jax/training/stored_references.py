"""Reference log-probabilities in the run folder: what is stored, what they are of, what is due."""

import hashlib
import json
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from data_pipelines.packing import PackPlan
from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.fingerprints import digits, partial_sums
from qwen_audio_jax.rendering import chat
from qwen_audio_jax.run_config import ConfigError
from qwen_audio_jax.saved_parameters import added_over_processes
from qwen_audio_jax.tasks import KINDS, PAIR_FIELDS, PREFERENCE
from qwen_audio_jax.training import agreement
from qwen_audio_jax.training.corpus_digests import Digests
from qwen_audio_jax.training.data import Data
from qwen_audio_jax.training.step import TrainState

VALUES_FILE, FACTS_FILE = "references.bin", "references.json"

Due = tuple[int, dict[tuple[int, int], tuple[int, int]]]
"""A batch of a run by its number, and what `new_records` says of it."""

_VALUES = np.dtype([("component", "<i4"), ("record", "<i8"), ("log_probabilities", "<f4", (2,))])
_LINE = np.dtype([("values", _VALUES), ("check", "<u4")])
"""A record's line, and the CRC-32 of what it says."""

_TOLD = {
    "weights": "what the run starts from",
    "vocabulary": "the vocabulary",
    "template": "the form of conversations",
    "records": "the records",
}
"""What references are of, by its name in references.json."""


def facts_of(workdir: pathlib.Path, data: Data, digests: Digests, weights: str) -> dict[str, Any]:
    """What references are of, each as a short text.

    Args:
        workdir: the run folder, which has its tokenizer.
        data: of the run.
        digests: of its corpora.
        weights: see `weights_digest`.
    """
    preprocessor, example = data.preprocessor, KINDS[PREFERENCE].example
    spans = chat.render_pair(*(example[name] for name in PAIR_FIELDS), preprocessor.form)
    heard = preprocessor.mel_bins, preprocessor.frame_rounding, preprocessor.silence
    records = {
        name: _digest(digests[f"{name} records"].tobytes(), digests[f"{name} bytes"].tobytes())
        for name in data.plan.components
    }
    return {
        "weights": weights,
        "vocabulary": agreement.digest(sorted((workdir / "tokenizer").glob("*"))),
        "template": _digest(repr((spans, heard, preprocessor.room)).encode()),
        "records": records,
    }


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def weights_digest(state: TrainState) -> str:
    """Sixteen hexadecimal digits of all parameters; every process has to ask for them."""
    leaves = [
        (f"{part} {path}", leaf)
        for part, tree in (("trained", state.parameters), ("frozen", state.frozen))
        for path, leaf in sorted(by_path(tree).items())
    ]
    sums = added_over_processes([_sums(leaf) for _, leaf in leaves])
    lines = (f"{name} {digits(one)}\n" for (name, _), one in zip(leaves, sums, strict=True))
    return _digest("".join(lines).encode())


def _sums(leaf: jax.Array) -> np.ndarray:
    """What this process has of an array's sums; of parts that several devices hold, one counts."""
    sums = np.zeros(2, np.uint32)
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            starts = [part.indices(n)[0] for part, n in zip(shard.index, leaf.shape, strict=True)]
            sums += partial_sums(np.asarray(shard.data), starts)
    return sums


class StoredReferences:
    """The two files of a run folder.

    Attributes:
        values: of each component, float32 [records, 2]; NaN of records that cannot be used, and
            infinite where nothing is stored: a loader that reads ahead meets such behind the end of
            a run, which trains on none of them.
    """

    def __init__(self, workdir: pathlib.Path, plan: PackPlan):
        """Args: workdir: the run folder. plan: of the run."""
        self._path, self._facts = workdir / VALUES_FILE, workdir / FACTS_FILE
        self.values = [np.full((n, 2), np.inf, np.float32) for n in plan.sizes]
        self._there = [np.zeros(n, bool) for n in plan.sizes]

    def begin(self, facts: dict[str, Any], *, begun: bool) -> None:
        """Writes what the references are of, or compares it; process 0 does so for all.

        Args:
            facts: from `facts_of`.
            begun: whether steps have been done, so that the weights are no longer the start's.

        Raises:
            ConfigError: what lies there is of something else.
        """
        if begun and not (self._facts.is_file() and self._path.is_file()):
            raise self._lacking("is missing")
        if not self._facts.is_file():
            self._path.unlink(missing_ok=True)
            part = self._facts.with_suffix(".part")
            part.write_text(json.dumps(facts, indent=1) + "\n")
            part.replace(self._facts)
            return
        try:
            before = dict(json.loads(self._facts.read_text()))
        except (ValueError, TypeError):
            raise ConfigError(
                f"{self._facts}: is damaged; put it back from a copy, or "
                + ("start another run" if begun else "delete it to have them computed anew")
            ) from None
        changed = [
            told
            for name, told in _TOLD.items()
            if before.get(name) != facts[name] and not (begun and name == "weights")
        ]
        if changed:
            mend = (
                "put that back as it was, or start another run with what this one learned"
                if begun
                else f"delete {self._facts} to have them computed anew"
            )
            raise ConfigError(
                f"{self._path}: the references there are stale, for {' and '.join(changed)} "
                f"changed after they were computed; {mend}"
            )
        if self._path.is_file():  # a last line that was cut off
            size = self._path.stat().st_size
            with self._path.open("r+b") as file:
                file.truncate(size - size % _LINE.itemsize)

    def read(self) -> None:
        """Takes in what is stored.

        Raises:
            ConfigError: a line is damaged.
        """
        if self._path.is_file():
            checked = np.fromfile(self._path, _LINE)
            lines = checked["values"]
            wrong = np.flatnonzero(_checks(lines) != checked["check"])
            if len(wrong):
                raise ConfigError(
                    f"{self._path}: line {wrong[0] + 1} of {len(lines)} is damaged; put the file "
                    "back from a copy, or delete it to have the references computed anew, which a "
                    "run can before its first step"
                )
            for number, values in enumerate(self.values):
                mine = lines[lines["component"] == number]
                values[mine["record"]] = mine["log_probabilities"]
                self._there[number][mine["record"]] = True

    def add(self, found: Mapping[tuple[int, int], np.ndarray], *, write: bool) -> None:
        """Takes in what was found of (component, record)s, and writes it behind the rest."""
        for (component, record), log_probabilities in found.items():
            self.values[component][record] = log_probabilities
            self._there[component][record] = True
        if write:
            lines = np.zeros(len(found), _LINE)
            lines["values"] = [(*record, values) for record, values in found.items()]
            lines["check"] = _checks(lines["values"])
            with self._path.open("ab") as file:
                file.write(lines.tobytes())

    def has(self, record: tuple[int, int]) -> bool:
        """Whether a (component, record) has been looked at."""
        return bool(self._there[record[0]][record[1]])

    def _lacking(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self._path}: {what}, and what the run started from has been trained since; put it "
            "back from a copy, or start another run"
        )

    def due(self, plan: PackPlan, steps: int, *, begun: bool) -> list[Due]:
        """Which of a run's batches, by number, have records that nothing is stored of.

        Args:
            plan, steps: see `new_records`.
            begun: see `begin`.

        Raises:
            ConfigError: there are some, and the run has begun.
        """
        found = [
            (number, new)
            for number, new in enumerate(new_records(plan, steps))
            if not all(map(self.has, new))
        ]
        if found and begun:
            raise self._lacking("lacks records that the run trains on")
        return found


def _checks(lines: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(line.tobytes()) for line in lines], np.uint32)


def new_records(plan: PackPlan, steps: int) -> Iterator[dict[tuple[int, int], tuple[int, int]]]:
    """Batch by batch of a run, the records that come in it for the first time, by their places.

    It ends with the run, or with the window in which each component has been gone through.

    Args:
        plan: of the run.
        steps: of the run; 0 where something else ends it.

    Yields:
        {(component, record): (row, place in it)}.
    """
    seen: set[tuple[int, int]] = set()
    number = 0
    while not steps or number < steps:
        slot = plan.slot_of(number, 0)
        # Within a window records come in any order.
        if min(plan.epochs(slot - slot % plan.slots_per_window)) >= 1:
            return
        new: dict[tuple[int, int], tuple[int, int]] = {}
        for row, records in enumerate(plan.batch(slot).rows):
            for place, record in enumerate(records):
                if record not in seen:
                    new[record] = row, place
                    seen.add(record)
        yield new
        number += 1
