"""Which files of a PyTorch folder hold its weights, and which tensors lie where in them."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.fields import shown
from qwen_audio_jax.conversion.json_files import read_json

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_BYTES = {"F32": 4, "BF16": 2, "F16": 2}

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED_MODELS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor on disk: its file, first byte, shape, and dtype as safetensors calls it."""

    file: pathlib.Path
    offset: int
    shape: tuple[int, ...]
    dtype: str


def same_contents(one: Stored, other: Stored) -> bool:
    """Whether two tensors are equal, bit by bit."""
    if (one.shape, one.dtype) != (other.shape, other.dtype) or one.dtype not in DTYPES:
        return False
    size, piece = math.prod(one.shape) * _BYTES[one.dtype], 64 << 20
    return all(
        np.array_equal(
            *(
                np.fromfile(stored.file, np.uint8, min(piece, size - at), offset=stored.offset + at)
                for stored in (one, other)
            )
        )
        for at in range(0, size, piece)
    )


def find_tensors(folder: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Stored]:
    """The tensors that transformers would read of a folder; only headers are opened.

    Args:
        folder: where they lie.
        config: its config.json, empty where there is none.

    Raises:
        ConversionError: there are none, they are pickled, a file is missing or broken, or two
            files have a tensor of the same name.
    """
    tensors: dict[str, Stored] = {}
    for file in _weight_files(folder, config):
        here = read_header(file)
        for name in here.keys() & tensors.keys():
            raise ConversionError(
                f"{file}: has {name}, as has {tensors[name].file.name}; delete the file that is "
                "not of this model"
            )
        tensors |= here
    return tensors


def _weight_files(folder: pathlib.Path, config: Mapping[str, Any]) -> list[pathlib.Path]:
    """The files in transformers' order: what config.json names, one file, an index, pickles.

    Folders that transformers cannot open at all have files of other names, and mean all of them.
    """
    if (folder / "adapter_config.json").is_file():
        raise ConversionError(
            f"{folder}: holds a PEFT adapter (adapter_config.json), which transformers adds to the "
            "weights only where peft is installed; merge it (model.merge_and_unload(), then "
            "save_pretrained), or move its files elsewhere and name that folder as another --source"
        )
    named = config.get("transformers_weights")
    if named is not None:
        return _named(folder, named)
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    if (folder / _INDEX).is_file():
        return _indexed(folder, folder / _INDEX)
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not files or any((folder / name).is_file() for name in _PICKLED_MODELS):
        refuse_weights(folder)
    return files


def _named(folder: pathlib.Path, name: Any) -> list[pathlib.Path]:
    endings = (".safetensors", ".safetensors.index.json")
    is_name = isinstance(name, str) and name.endswith(endings)
    if not is_name or not (folder / name).is_file():
        raise ConversionError(
            f"{folder / 'config.json'}: 'transformers_weights' must name a safetensors file of the "
            f"folder or the index of several, not {shown(name)}"
        )
    return _indexed(folder, folder / name) if name.endswith(".json") else [folder / name]


def _indexed(folder: pathlib.Path, index: pathlib.Path) -> list[pathlib.Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(
            f"{index}: 'weight_map' must be an object of tensors' files, not {shown(weight_map)}"
        )
    for tensor, name in weight_map.items():
        is_name = isinstance(name, str) and name and name.isprintable()
        if not is_name or pathlib.PurePath(name).is_absolute() or ".." in name.split("/"):
            raise ConversionError(
                f"{index}: 'weight_map' must name a file of the folder for {shown(tensor)}, not "
                f"{shown(name)}"
            )
    files = sorted({folder / name for name in weight_map.values()})
    if absent := [file.name for file in files if not file.is_file()]:
        raise ConversionError(f"{index}: names {', '.join(absent)}, which the folder lacks")
    return files


def refuse_weights(folder: pathlib.Path) -> NoReturn:
    """Tells that a folder has no safetensors file, and whether it has pickles."""
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ConversionError(
            f"{folder}: its weights are pickled ({pickles[0]}), and opening a pickle runs whatever "
            "code is in it. If you trust it, load it once with PyTorch and write the tensors with "
            "safetensors.torch.save_file (transformers: model.save_pretrained(folder))"
        )
    raise ConversionError(f"{folder}: holds no *.safetensors file")


def read_header(file: pathlib.Path) -> dict[str, Stored]:
    """The tensors of a file. The library checks it; where they begin, it does not tell.

    Raises:
        ConversionError: it is broken.
    """
    try:
        with safe_open(file, "numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ConversionError(
            f"{file}: is not a whole safetensors file ({error}); fetch it again"
        ) from error
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    header.pop("__metadata__", None)
    return {
        name: Stored(
            file, 8 + size + entry["data_offsets"][0], tuple(entry["shape"]), entry["dtype"]
        )
        for name, entry in header.items()
    }
