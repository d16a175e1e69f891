"""A checkpoint into the folder that the originals' code opens, a few parameters at a time."""

import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qwen_audio_jax.audio.silence import CLIP
from qwen_audio_jax.checkpoint import last_step, run_folder
from qwen_audio_jax.conversion import companions, names
from qwen_audio_jax.conversion.errors import ConversionError, listed
from qwen_audio_jax.conversion.finite import cast
from qwen_audio_jax.conversion.output import whole_folder
from qwen_audio_jax.conversion.prefetch import prefetch
from qwen_audio_jax.conversion.safetensors_writer import Planned, plan_shards, write_shards
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_names
from qwen_audio_jax.conversion.vocabulary import with_vocabulary
from qwen_audio_jax.conversion.weight_files import DTYPES
from qwen_audio_jax.models.adapters import merged
from qwen_audio_jax.models.parts import Parts, read_parts
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.text.tokenizer import load_tokenizer


def run(
    checkpoint: pathlib.Path,
    out: pathlib.Path,
    dtype: str | None,
    shard_gb: float,
    moved_to: str = "",
) -> None:
    """`convert export`; `moved_to` is where the weights lie by now that the run kept frozen.

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
    saved = SavedParameters(step, moved_to)
    _compare(parts, saved)
    saved.verify()
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
        scales = {adapter.path: adapter.scale for adapter in parts.adapters}
        arrays = itertools.chain.from_iterable(_tensors(group, saved, scales) for group in groups)
        write_shards(place, shards, prefetch(_cast(step, arrays, planned)))
        companions.write(place, files, tokenizer, kept)
    print(
        f"{parts.family}: {len(planned)} tensors, {', '.join(sorted(dtypes))}, in {len(shards)} "
        f"file{'s' * (len(shards) > 1)}\nwritten to {out}"
    )
    if parts.adapters:
        print(f"its {len(parts.adapters)} adapters are merged into the kernels")
    if parts.encoder.window != CLIP:
        print(
            f"note: its encoder sees silence behind clips ({parts.encoder.window!r}), which the "
            "original's code masks, so it answers otherwise there, unless it is called as "
            "docs/conversion.md says"
        )


def _compare(parts: Parts, saved: SavedParameters) -> None:
    wanted, stores = parameter_shapes(parts), saved.stores
    missing = [f"missing: {path}" for path in wanted.keys() - stores.keys()]
    unexpected = [f"unexpected: {path}" for path in stores.keys() - wanted.keys()]
    misshapen = [
        f"misshapen: {path} is {list(stores[path].shape)}, and by model.json it should be "
        f"{list(shape)}"
        for path, shape in wanted.items()
        if path in stores and stores[path].shape != tuple(shape)
    ]
    wrong = [
        f"wrong dtype: {path} is {leaf.dtype.name}; only {', '.join(DTYPES.values())} are written"
        for path, leaf in stores.items()
        if leaf.dtype.name not in DTYPES.values()
    ]
    if missing or unexpected or misshapen or wrong:
        raise ConversionError(
            f"{saved.step}: its parameters are not those of its model.json:\n  "
            + listed(*map(sorted, (missing, unexpected, misshapen, wrong)))
        )


def _plan(group: Sequence[names.Row], saved: SavedParameters, dtype: str | None) -> list[Planned]:
    row = group[0]
    leaf = saved.stores[row.path]
    layers, shape = (leaf.shape[0], leaf.shape[1:]) if row.layered else (1, leaf.shape)
    dtype = dtype or leaf.dtype.name
    return [Planned(name, row.tensor_shape(shape), dtype) for name in tensor_names(row, layers)]


def _tensors(
    group: Sequence[names.Row], saved: SavedParameters, scales: Mapping[str, float]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, tensor) of the rows that share a name: the tensor is their parts in order.

    `scales` has those of adapters, by the paths of their linears.
    """
    row = group[0]
    layers = saved.stores[row.path].shape[0] if row.layered else 1
    layers_of = [prefetch(_merged(saved, part, scales)) for part in group]
    slices = zip(*layers_of, strict=True)
    for name, parts in zip(tensor_names(row, layers), slices, strict=True):
        made = [_to_original(part, row.layout) for part in parts]
        yield name, made[0] if len(made) == 1 else np.concatenate(made)


def _merged(
    saved: SavedParameters, row: names.Row, scales: Mapping[str, float]
) -> Iterator[np.ndarray]:
    """The same as `_layers`; a kernel with what its adapter adds, in float32."""
    layers, linear = _layers(saved, row.path, row.layered), row.path.removesuffix("/kernel")
    if linear == row.path or linear not in scales:
        return layers
    low_rank = [_layers(saved, f"{linear}/{name}", row.layered) for name in ("lora_a", "lora_b")]
    return (merged(*arrays, scales[linear]) for arrays in zip(layers, *low_rank, strict=True))


def _layers(saved: SavedParameters, path: str, layered: bool) -> Iterator[np.ndarray]:
    """Yields layer after layer, reading as many at a time as are stored in one piece."""
    stored = saved.stores[path]
    if not layered:
        yield saved.read(path, stored)
        return
    layers = stored.shape[0]
    chunk = stored.chunk_layout.read_chunk.shape  # None of what lies in two checkpoints
    together = chunk[0] if chunk else layers
    for first in range(0, layers, together):
        yield from saved.read(path, stored[first : min(first + together, layers)])


def _to_original(array: np.ndarray, layout: str) -> np.ndarray:
    if layout != "linear":
        return array if layout == "same" else array.T
    tensor = np.empty(array.shape[::-1], array.dtype)
    names.copy_transposed(tensor, array)
    return tensor


def _cast(
    step: pathlib.Path, arrays: Iterator[tuple[str, np.ndarray]], planned: Sequence[Planned]
) -> Iterator[tuple[str, np.ndarray]]:
    dtypes = {tensor.name: tensor.dtype for tensor in planned}
    for name, array in arrays:
        yield name, cast(array, dtypes[name], f"{step}: {name}")
