"""Sharded safetensors files, written tensor by tensor.

The library's own writer wants all tensors of a file in memory at once. The format is a length, a
JSON header with offsets, and the bytes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclasses.dataclass(frozen=True)
class Planned:
    """A tensor to be written: name, shape, dtype by numpy's name."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * (4 if self.dtype == "float32" else 2)


def plan_shards(tensors: Sequence[Planned], limit: int) -> dict[str, list[Planned]]:
    """Divides tensors, in order, among files of at most `limit` bytes each."""
    shards: list[list[Planned]] = []
    size = limit
    for tensor in tensors:
        if size + tensor.bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.bytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{number:05d}-of-{len(shards):05d}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }


def write_shards(
    folder: pathlib.Path,
    shards: Mapping[str, Sequence[Planned]],
    arrays: Iterable[tuple[str, np.ndarray]],
) -> None:
    """Writes the files, and their index if they are several.

    Args:
        folder: where to.
        shards: from `plan_shards`.
        arrays: (name, array) of all tensors in the order planned.
    """
    arrays = iter(arrays)
    in_all = sum(tensor.bytes for shard in shards.values() for tensor in shard)
    with tqdm(total=in_all, unit="B", unit_scale=True, desc="exporting", disable=None) as bar:
        for name, shard in shards.items():
            with (folder / name).open("wb") as file:
                file.write(_header(shard))
                for tensor in shard:
                    _write(file, tensor, *next(arrays))
                    bar.update(tensor.bytes)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": in_all},
            "weight_map": {t.name: name for name, shard in shards.items() for t in shard},
        }
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n")


def _write(file, tensor: Planned, name: str, array: np.ndarray) -> None:
    if (name, array.shape, array.dtype.name) != (tensor.name, tensor.shape, tensor.dtype):
        raise AssertionError(f"planned {tensor}, got {name} {array.shape} {array.dtype}")
    file.write(np.ascontiguousarray(array).view(np.uint8).data)


def _header(shard: Sequence[Planned]) -> bytes:
    entries: dict = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in shard:
        entries[tensor.name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.bytes],
        }
        offset += tensor.bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
