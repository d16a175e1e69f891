"""A checkpoint into the folder that the originals' code opens, a few parameters at a time."""

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
import tensorstore

from qwen_audio_jax.checkpoint import last_step, open_parameter, run_folder, saved_shapes
from qwen_audio_jax.conversion import companions, names
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.output import whole_folder
from qwen_audio_jax.conversion.prefetch import prefetch
from qwen_audio_jax.conversion.safetensors_writer import Planned, plan_shards, write_shards
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_names
from qwen_audio_jax.models.parts import Parts, read_parts
from qwen_audio_jax.text.tokenizer import load_tokenizer


def run(checkpoint: pathlib.Path, out: pathlib.Path, dtype: str | None, shard_gb: float) -> None:
    """`convert export`.

    Raises:
        ConversionError: only a part of a model, parameters that are not the model's, or a model
            that the original's code has no place for.
    """
    if shard_gb <= 0:
        raise ConversionError(f"--shard-gb: must be above 0, not {shard_gb}")
    folder, step = run_folder(checkpoint), last_step(checkpoint)
    parts = read_parts(folder)
    if not parts.whole:
        raise ConversionError(f"{folder}: is a part of a model; train one from it first")
    saved = saved_shapes(step)
    _compare(step, parts, saved)
    tokenizer = load_tokenizer(folder / "tokenizer") if (folder / "tokenizer").is_dir() else None

    rows = names.qwen_audio() if parts.family == "qwen_audio" else names.qwen2_audio()
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.name)]
    planned = [tensor for group in groups for tensor in _plan(group, saved, dtype)]
    shards = plan_shards(planned, int(shard_gb * 1e9))
    dtypes = {tensor.dtype for tensor in planned}
    files = companions.files(parts, tokenizer, max(dtypes))
    with whole_folder(out, sum(tensor.bytes for tensor in planned)) as place:
        arrays = itertools.chain.from_iterable(_tensors(step, group) for group in groups)
        write_shards(place, shards, prefetch(_cast(arrays, dtype)))
        companions.write(place, files, tokenizer, folder)
    print(
        f"{parts.family}: {len(planned)} tensors, {', '.join(sorted(dtypes))}, in {len(shards)} "
        f"file{'s' * (len(shards) > 1)}\nwritten to {out}"
    )


def _compare(step: pathlib.Path, parts: Parts, saved: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    wanted = parameter_shapes(parts)
    faults = [f"missing: {path}" for path in sorted(wanted.keys() - saved.keys())]
    faults += [f"unexpected: {path}" for path in sorted(saved.keys() - wanted.keys())]
    faults += [
        f"misshapen: {path} is {list(saved[path].shape)}, and by model.json it should be "
        f"{list(shape)}"
        for path, shape in wanted.items()
        if path in saved and saved[path].shape != tuple(shape)
    ]
    if faults:
        raise ConversionError(
            f"{step}: its parameters are not those of its model.json:\n  " + "\n  ".join(faults)
        )


def _plan(
    group: Sequence[names.Row], saved: Mapping[str, jax.ShapeDtypeStruct], dtype: str | None
) -> list[Planned]:
    row = group[0]
    leaf = saved[row.path]
    layers, shape = (leaf.shape[0], leaf.shape[1:]) if row.layered else (1, leaf.shape)
    dtype = dtype or np.dtype(leaf.dtype).name
    return [Planned(name, row.tensor_shape(shape), dtype) for name in tensor_names(row, layers)]


def _tensors(step: pathlib.Path, group: Sequence[names.Row]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, tensor) of the rows that share a name: the tensor is their parts in order."""
    row = group[0]
    stored = [open_parameter(step, row.path) for row in group]
    layers = stored[0].shape[0] if row.layered else 1
    slices = zip(*(prefetch(_layers(one, row.layered)) for one in stored), strict=True)
    for name, parts in zip(tensor_names(row, layers), slices, strict=True):
        made = [_to_original(part, row.layout) for part in parts]
        yield name, made[0] if len(made) == 1 else np.concatenate(made)


def _layers(stored: tensorstore.TensorStore, layered: bool) -> Iterator[np.ndarray]:
    """Yields layer after layer, reading as many at a time as are stored in one piece."""
    if not layered:
        yield _read(stored)
        return
    together = stored.chunk_layout.read_chunk.shape[0]
    for first in range(0, stored.shape[0], together):
        yield from _read(stored[first : first + together])


def _read(stored: tensorstore.TensorStore) -> np.ndarray:
    # Into memory of numpy's, which asks for huge pages: much less work for the system.
    array = np.empty(stored.shape, stored.dtype.numpy_dtype)
    tensorstore.array(array).write(stored).result()
    return array


def _to_original(array: np.ndarray, layout: str) -> np.ndarray:
    if layout != "linear":
        return array if layout == "same" else array.T
    tensor = np.empty(array.shape[::-1], array.dtype)
    names.copy_transposed(tensor, array)
    return tensor


def _cast(
    arrays: Iterator[tuple[str, np.ndarray]], dtype: str | None
) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in arrays:
        yield name, array if dtype is None else array.astype(dtype, copy=False)
