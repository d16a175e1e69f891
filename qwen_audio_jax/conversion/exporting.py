"""A checkpoint into the folder that the originals' code opens, a few parameters at a time."""

import contextlib
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorstore

from qwen_audio_jax.checkpoint import last_step, open_parameter, run_folder
from qwen_audio_jax.conversion import companions, names
from qwen_audio_jax.conversion.errors import ConversionError, listed
from qwen_audio_jax.conversion.fields import Fields
from qwen_audio_jax.conversion.finite import cast
from qwen_audio_jax.conversion.json_files import read_json
from qwen_audio_jax.conversion.output import whole_folder
from qwen_audio_jax.conversion.prefetch import prefetch
from qwen_audio_jax.conversion.safetensors_writer import Planned, plan_shards, write_shards
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_names
from qwen_audio_jax.conversion.vocabulary import with_vocabulary
from qwen_audio_jax.conversion.weight_files import DTYPES
from qwen_audio_jax.models.parts import Parts, read_parts
from qwen_audio_jax.text.tokenizer import load_tokenizer


def run(checkpoint: pathlib.Path, out: pathlib.Path, dtype: str | None, shard_gb: float) -> None:
    """`convert export`.

    Raises:
        ConversionError: only a part of a model, parameters that are not the model's, or a model
            that the original's code has no place for.
    """
    if not 0 < shard_gb * 1e9 < math.inf:
        raise ConversionError(
            f"--shard-gb: must be a number of gigabytes above 0, not {shard_gb}; 1000 makes one "
            "file of any model"
        )
    folder, step = run_folder(checkpoint), last_step(checkpoint)
    parts = read_parts(folder)
    if not parts.whole:
        raise ConversionError(f"{folder}: is a part of a model; train one from it first")
    saved = _open_parameters(step)
    _compare(step, parts, saved)
    tokenizer = load_tokenizer(folder / "tokenizer") if (folder / "tokenizer").is_dir() else None
    parts = with_vocabulary(parts, tokenizer, folder / "model.json")
    kept = companions.kept_files(folder / companions.FOLDER)

    rows_of = names.qwen_audio if parts.family == "qwen_audio" else names.qwen2_audio
    rows = rows_of(parts.decoder)
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.name)]
    planned = [tensor for group in groups for tensor in _plan(group, saved, dtype)]
    shards = plan_shards(planned, int(shard_gb * 1e9))
    dtypes = {tensor.dtype for tensor in planned}
    # Of several, one that holds the values of all.
    named = next(iter(dtypes)) if len(dtypes) == 1 else "float32"
    files = companions.files(parts, tokenizer, named)
    with whole_folder(out, sum(tensor.bytes for tensor in planned)) as place:
        arrays = itertools.chain.from_iterable(_tensors(step, group, saved) for group in groups)
        write_shards(place, shards, prefetch(_cast(step, arrays, dtype)))
        companions.write(place, files, tokenizer, kept)
    print(
        f"{parts.family}: {len(planned)} tensors, {', '.join(sorted(dtypes))}, in {len(shards)} "
        f"file{'s' * (len(shards) > 1)}\nwritten to {out}"
    )


def _open_parameters(step: pathlib.Path) -> dict[str, tensorstore.TensorStore]:
    """The parameters of a step folder by path, opened one by one.

    Orbax would open all at once, and where one is damaged, say more than a sentence.
    """
    path = step / "state" / "_METADATA"
    fields = Fields(read_json(path), str(path))
    saved = {}
    for name, leaf in fields.group("tree_metadata").values.items():
        try:
            first, *keys = (key["key"] for key in leaf["key_metadata"])
            parameter = "/".join(keys)
        except (TypeError, KeyError, ValueError) as error:
            raise ConversionError(f"{path}: {name[:100]!r} is not what Orbax writes") from error
        if first == "parameters":
            with _readable(step, parameter):
                saved[parameter] = open_parameter(step, parameter)
    return saved


def _compare(
    step: pathlib.Path, parts: Parts, saved: Mapping[str, tensorstore.TensorStore]
) -> None:
    wanted = parameter_shapes(parts)
    missing = [f"missing: {path}" for path in wanted.keys() - saved.keys()]
    unexpected = [f"unexpected: {path}" for path in saved.keys() - wanted.keys()]
    misshapen = [
        f"misshapen: {path} is {list(saved[path].shape)}, and by model.json it should be "
        f"{list(shape)}"
        for path, shape in wanted.items()
        if path in saved and saved[path].shape != tuple(shape)
    ]
    wrong = [
        f"wrong dtype: {path} is {leaf.dtype.name}; only {', '.join(DTYPES.values())} are written"
        for path, leaf in saved.items()
        if leaf.dtype.name not in DTYPES.values()
    ]
    if missing or unexpected or misshapen or wrong:
        raise ConversionError(
            f"{step}: its parameters are not those of its model.json:\n  "
            + listed(*map(sorted, (missing, unexpected, misshapen, wrong)))
        )


@contextlib.contextmanager
def _readable(step: pathlib.Path, what: str) -> Iterator[None]:
    """Tells in a sentence what TensorStore says of files that are damaged."""
    try:
        yield
    except (ValueError, OSError) as error:
        told = str(error).strip().partition("\n")[0][:300]
        raise ConversionError(
            f"{step}: {what} cannot be read, so the checkpoint is damaged ({told}); take another "
            "step of the run"
        ) from error


def _plan(
    group: Sequence[names.Row], saved: Mapping[str, tensorstore.TensorStore], dtype: str | None
) -> list[Planned]:
    row = group[0]
    leaf = saved[row.path]
    layers, shape = (leaf.shape[0], leaf.shape[1:]) if row.layered else (1, leaf.shape)
    dtype = dtype or leaf.dtype.name
    return [Planned(name, row.tensor_shape(shape), dtype) for name in tensor_names(row, layers)]


def _tensors(
    step: pathlib.Path,
    group: Sequence[names.Row],
    saved: Mapping[str, tensorstore.TensorStore],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, tensor) of the rows that share a name: the tensor is their parts in order."""
    row = group[0]
    layers = saved[row.path].shape[0] if row.layered else 1
    layers_of = [
        prefetch(_layers(step, part.path, saved[part.path], part.layered)) for part in group
    ]
    slices = zip(*layers_of, strict=True)
    for name, parts in zip(tensor_names(row, layers), slices, strict=True):
        made = [_to_original(part, row.layout) for part in parts]
        yield name, made[0] if len(made) == 1 else np.concatenate(made)


def _layers(
    step: pathlib.Path, path: str, stored: tensorstore.TensorStore, layered: bool
) -> Iterator[np.ndarray]:
    """Yields layer after layer, reading as many at a time as are stored in one piece."""
    if not layered:
        yield _read(step, path, stored)
        return
    together = stored.chunk_layout.read_chunk.shape[0]
    for first in range(0, stored.shape[0], together):
        yield from _read(step, path, stored[first : first + together])


def _read(step: pathlib.Path, path: str, stored: tensorstore.TensorStore) -> np.ndarray:
    # Into memory of numpy's, which asks for huge pages: much less work for the system.
    array = np.empty(stored.shape, stored.dtype.numpy_dtype)
    with _readable(step, path):
        tensorstore.array(array).write(stored).result()
    return array


def _to_original(array: np.ndarray, layout: str) -> np.ndarray:
    if layout != "linear":
        return array if layout == "same" else array.T
    tensor = np.empty(array.shape[::-1], array.dtype)
    names.copy_transposed(tensor, array)
    return tensor


def _cast(
    step: pathlib.Path, arrays: Iterator[tuple[str, np.ndarray]], dtype: str | None
) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in arrays:
        yield name, cast(array, dtype or array.dtype.name, f"{step}: {name}")
