"""The parameters of a step folder: those that lie in it, and those that it points to."""

import concurrent.futures
import contextlib
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
import tensorstore
from jax.experimental import multihost_utils

from qwen_audio_jax.fingerprints import digits, partial_sums
from qwen_audio_jax.frozen_base import Base, BaseError, CheckpointError, read_base
from qwen_audio_jax.models.cuts import Cut, Cuts, Intervals

_TOGETHER = 4
"""Parameters read at the same time."""

_PIECE_BYTES = 64 << 20


class SavedParameters:
    """What a step folder has of parameters, each of them to be read whole or in part.

    Attributes:
        step: the step folder.
        base: what it points to; None if it holds everything itself.
        inherited: the parameters of that; likewise.
    """

    def __init__(
        self, step: pathlib.Path, moved_to: str = "", before: tuple[pathlib.Path, ...] = ()
    ):
        """Args:
        step: the step folder.
        moved_to: where its base may lie by now.
        before: step folders that have led here.

        Raises:
            CheckpointError: what it has cannot be read.
            BaseError: what it points to cannot.
        """
        self.step, self.base = step, read_base(step, moved_to)
        self._error = BaseError if before else CheckpointError
        self.inherited = None
        if self.base is not None:
            before = (*before, step.resolve())
            if self.base.step.resolve() in before:
                raise BaseError(
                    f"{step}: points to {self.base.step} for what is frozen, which is itself or "
                    "points back to it; name where that lies with --config.init_from"
                )
            self.inherited = SavedParameters(self.base.step, before=before)

    @functools.cached_property
    def stores(self) -> dict[str, tensorstore.TensorStore]:
        """Each parameter by path, opened; of one that is in the base or in pieces, a view.

        Parameters that are not all here are float32, as training has them.
        """
        own = {path: self._open(path) for path in self._names()}
        if self.base is None:
            return own
        return own | {path: self._joined(path, own) for path in self.base.fingerprints}

    @property
    def own(self) -> set[str]:
        """Paths of what lies here itself, in whole or in part: all of it where there is no base."""
        return set(self._names())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every parameter, by path."""
        return {path: tuple(store.shape) for path, store in self.stores.items()}

    def read(self, path: str, store: tensorstore.TensorStore) -> np.ndarray:
        """A parameter, or a part of one.

        Raises:
            CheckpointError: the files are damaged; BaseError where they are the base's.
        """
        # Into memory of numpy's, which asks for huge pages: much less work for the system.
        array = np.empty(store.shape, store.dtype.numpy_dtype)
        with self._readable(path):
            tensorstore.array(array).write(store).result()
        return array

    def load(
        self,
        wanted: Mapping[str, jax.ShapeDtypeStruct],
        cuts: Cuts | None = None,
        *,
        frozen: bool = False,
    ) -> tuple[dict[str, jax.Array], dict[str, str]]:
        """Puts parameters on the devices; all processes call it together.

        Args:
            wanted: of each its shape and sharding, and the dtype it is cast to, by path.
            cuts: of those of which only a part is wanted.
            frozen: whether that is the frozen part, and fingerprints are.

        Returns:
            (the parameters, the fingerprints of what was read, before it was cast).
        """
        cuts = cuts or {}

        def one(item):
            path, leaf = item
            store = self.stores[path]
            if path in cuts:
                store = _side(store, cuts[path], frozen=frozen)
            return self._place(path, store, leaf, summed=frozen)

        with concurrent.futures.ThreadPoolExecutor(_TOGETHER) as threads:
            loaded = dict(zip(wanted, threads.map(one, wanted.items()), strict=True))
        arrays = {path: array for path, (array, _) in loaded.items()}
        if not frozen:
            return arrays, {}
        sums = added_over_processes([sums for _, sums in loaded.values()])
        return arrays, dict(zip(wanted, map(digits, sums), strict=True))

    def verify(self) -> None:
        """Refuses a base that has become another since the run started from it.

        All processes call it together, and read a share each.
        """
        if self.base is None:
            return
        sums = []
        for number, path in enumerate(self.base.fingerprints):
            mine = number % jax.process_count() == jax.process_index()
            sums.append(self._sums_of_base(path) if mine else np.zeros(2, np.uint32))
        found = map(digits, added_over_processes(sums))
        compare(self.base, dict(zip(self.base.fingerprints, found, strict=True)))

    def _names(self) -> Iterator[str]:
        """Paths of what lies in the step folder itself."""
        path = self.step / "state" / "_METADATA"
        try:
            leaves = self._metadata["tree_metadata"].items()
        except (KeyError, AttributeError) as error:
            raise self._error(f"{path}: has no 'tree_metadata'") from error
        for name, leaf in leaves:
            try:
                first, *keys = (key["key"] for key in leaf["key_metadata"])
                parameter = "/".join(keys)
            except (TypeError, KeyError, ValueError) as error:
                raise self._error(f"{path}: {name[:100]!r} is not what Orbax writes") from error
            if first == "parameters":
                yield parameter

    @functools.cached_property
    def _metadata(self) -> dict:
        """What Orbax writes of the tree."""
        path = self.step / "state" / "_METADATA"
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise self._error(f"{path}: is not JSON that can be read ({error})") from error
        if not isinstance(values, dict):
            raise self._error(f"{path}: must hold a JSON object")
        return values

    def _open(self, path: str) -> tensorstore.TensorStore:
        base = f"file://{self.step.absolute()}/state/"
        kvstore = {"driver": "ocdbt", "base": base, "path": f"parameters.{path.replace('/', '.')}/"}
        driver = "zarr3" if self._metadata.get("use_zarr3") else "zarr"
        spec = {"driver": driver, "kvstore": kvstore}
        with self._readable(path):
            return tensorstore.open(spec, open=True, read=True).result()

    @contextlib.contextmanager
    def _readable(self, path: str) -> Iterator[None]:
        """Tells in a sentence what TensorStore says of files that are damaged."""
        try:
            yield
        except (ValueError, OSError) as error:
            told = str(error).strip().partition("\n")[0][:300]
            step, kind = self.step, self._error
            if self.base is not None and str(step.absolute()) not in told:
                step, kind = self.base.step, BaseError
            raise kind(
                f"{step}: {path} cannot be read, so the checkpoint is damaged ({told}); put it "
                "back from a copy, or take another step of the run"
            ) from error

    def _joined(
        self, path: str, own: Mapping[str, tensorstore.TensorStore]
    ) -> tensorstore.TensorStore:
        """A parameter of the base, with what this checkpoint has of it in its place."""
        theirs = tensorstore.cast(self._of_base(path), tensorstore.float32)
        cut = self.base.cuts.get(path)
        if cut is None:
            return theirs
        if path not in own:
            raise self._error(f"{self.step}: what is trained of {path} is missing there")
        size, axis = theirs.shape[cut.axis], tensorstore.d[cut.axis]
        pieces = [(first, theirs[axis[first:end]]) for first, end in cut.frozen]
        start = 0
        for first, end in cut.trained(size):
            pieces.append((first, own[path][axis[start : start + end - first]]))
            start += end - first
        ordered = [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]
        with self._readable(path):
            return tensorstore.concat(ordered, axis=cut.axis)

    def _of_base(self, path: str) -> tensorstore.TensorStore:
        stores = self.inherited.stores
        if path not in stores:
            raise _another(self.base.step, path, "is missing there")
        return stores[path]

    def _sums_of_base(self, path: str) -> np.ndarray:
        """The sums of what is frozen of a parameter, read a few layers at a time."""
        store, cut = self._of_base(path), self.base.cuts.get(path)
        store = store if cut is None else _side(store, cut, frozen=True)
        if not store.shape:
            return partial_sums(self.inherited.read(path, store), ())
        length = store.shape[0]
        bytes_each = store.size // max(length, 1) * store.dtype.numpy_dtype.itemsize
        together, sums = max(1, _PIECE_BYTES // max(bytes_each, 1)), np.zeros(2, np.uint32)
        for first in range(0, length, together):
            piece = self.inherited.read(path, store[first : min(first + together, length)])
            sums += partial_sums(piece, (first, *(0,) * (store.ndim - 1)))
        return sums

    def _place(
        self,
        path: str,
        store: tensorstore.TensorStore,
        leaf: jax.ShapeDtypeStruct,
        *,
        summed: bool,
    ) -> tuple[jax.Array, np.ndarray]:
        """(the array on the devices, this process's sums for its fingerprint).

        A host reads what its own devices need, each part once; a part that several hosts read is
        summed by the one that the first of its devices belongs to.
        """
        if tuple(store.shape) != tuple(leaf.shape):
            said = f"is {tuple(store.shape)} there and {tuple(leaf.shape)} here"
            if self.base is not None and path in self.base.fingerprints:
                raise _another(self.base.step, path, said)
            raise self._error(f"{self.step}: is of another model: {path} {said}")
        owners: dict[tuple, int] = {}
        for device, index in leaf.sharding.devices_indices_map(tuple(leaf.shape)).items():
            owners.setdefault(_key(index, leaf.shape), device.process_index)
        sums, parts = np.zeros(2, np.uint32), {}

        def part(index):
            key = _key(index, leaf.shape)
            if key not in parts:
                stored = self.read(path, store[tuple(slice(*pair) for pair in key)])
                if summed and owners[key] == jax.process_index():
                    sums[:] += partial_sums(stored, [first for first, _ in key])
                parts[key] = stored.astype(leaf.dtype, copy=False)
            return parts[key]

        return jax.make_array_from_callback(tuple(leaf.shape), leaf.sharding, part), sums


def compare(base: Base, found: Mapping[str, str]) -> None:
    """Refuses weights that a run did not start from.

    Args:
        base: what it started from.
        found: fingerprints of what lies there now, by path.

    Raises:
        BaseError: they differ; the sentence names a parameter.
    """
    for path in sorted(base.fingerprints):
        if found.get(path) != base.fingerprints[path]:
            raise _another(base.step, path, "has other values there")


def _another(step: pathlib.Path, path: str, said: str) -> BaseError:
    return BaseError(
        f"{step}: is not what the run started from and keeps frozen: {path} {said}; put those "
        "weights back, or name where they lie with --config.init_from=DIR"
    )


def _side(store: tensorstore.TensorStore, cut: Cut, *, frozen: bool) -> tensorstore.TensorStore:
    """What is frozen, or what is trained, of a parameter."""
    intervals: Intervals = cut.frozen if frozen else cut.trained(store.shape[cut.axis])
    axis = tensorstore.d[cut.axis]
    pieces = [store[axis[first:end].translate_to[0]] for first, end in intervals]
    return pieces[0] if len(pieces) == 1 else tensorstore.concat(pieces, axis=cut.axis)


def _key(index: Sequence[slice], shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(one.indices(size)[:2] for one, size in zip(index, shape, strict=True))


def added_over_processes(sums: Sequence[np.ndarray]) -> np.ndarray:
    """uint32 [N, 2]: each process's, added up."""
    mine = np.array(sums, np.uint32).reshape(-1, 2)
    if jax.process_count() == 1:
        return mine
    return multihost_utils.process_allgather(mine).sum(axis=0, dtype=np.uint32)
