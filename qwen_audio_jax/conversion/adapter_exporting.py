"""The adapters of a checkpoint as a folder that PEFT opens."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qwen_audio_jax.checkpoint import last_step, run_folder
from qwen_audio_jax.conversion import adapter_config, adapter_modules, adapter_scales, names
from qwen_audio_jax.conversion.adapter_importing import NOTE, WEIGHTS
from qwen_audio_jax.conversion.adapter_modules import PREFIX, Linear, linears, module_of, rows_of
from qwen_audio_jax.conversion.errors import ConversionError, listed
from qwen_audio_jax.conversion.fields import Fields
from qwen_audio_jax.conversion.finite import cast
from qwen_audio_jax.conversion.json_files import read_json
from qwen_audio_jax.conversion.names import Row
from qwen_audio_jax.conversion.output import whole_folder
from qwen_audio_jax.conversion.safetensors_writer import Planned, write_shards
from qwen_audio_jax.conversion.shapes import parameter_shapes
from qwen_audio_jax.models.adapters import is_adapter
from qwen_audio_jax.models.parts import COMPANIONS, Parts, read_parts
from qwen_audio_jax.models.presets import Adapter
from qwen_audio_jax.saved_parameters import SavedParameters

_MERGED = "export the merged model (without --adapter)"


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The tensors of a linear layer's adapters, of all layers of a stack.

    Attributes:
        linear: the original's layer.
        scale: what B A x is multiplied by.
        lora_a: [layers, rank, inputs], as PEFT has it.
        lora_b: [layers, outputs, rank].
    """

    linear: Linear
    scale: float
    lora_a: np.ndarray
    lora_b: np.ndarray

    @property
    def rank(self) -> int:
        return self.lora_a.shape[1]

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        for module, a, b in zip(self.linear.modules, self.lora_a, self.lora_b, strict=True):
            yield f"{PREFIX}{module}.lora_A.weight", a
            yield f"{PREFIX}{module}.lora_B.weight", b


def run(
    checkpoint: pathlib.Path,
    out: pathlib.Path,
    dtype: str | None,
    spelling: str,
    moved_to: str = "",
) -> None:
    """`convert export --adapter`; `spelling` is one of `adapter_modules.SPELLINGS`.

    Raises:
        ConversionError: there are no adapters, none was trained, they are not those that model.json
            says, or something else was trained that an adapter has no place for.
    """
    folder, step = run_folder(checkpoint), last_step(checkpoint)
    parts = read_parts(folder)
    if not parts.whole or not parts.adapters:
        raise ConversionError(f"{folder}: has no adapters; {_MERGED}")
    saved = SavedParameters(step, moved_to)
    _compare(parts, saved)
    base, whole_before = _note(folder)
    pairs = [_pair(saved, linear, of) for linear, of in _adapted(parts, spelling)]
    if not any(pair.lora_b.any() for pair in pairs):
        raise ConversionError(
            f"{step}: lora_b is 0 in all of its adapters, so they change nothing; train first, or "
            + _MERGED
        )
    whole = _whole(parts, saved, spelling, whole_before | _trained(saved), pairs)
    config = _config(parts, spelling, pairs, sorted({module_of(row) for row in whole}))
    config["base_model_name_or_path"] = base
    planned = [
        Planned(name, array.shape, dtype or array.dtype.name)
        for pair in pairs
        for name, array in pair.tensors()
    ]
    for row in whole:
        store = saved.stores[row.path]
        shape = row.tensor_shape(tuple(store.shape))
        planned.append(Planned(PREFIX + row.name, shape, dtype or store.dtype.name))
    arrays = (
        (name, cast(array, dtype or array.dtype.name, f"{step}: {name}"))
        for name, array in _tensors(saved, pairs, whole)
    )
    with whole_folder(out, sum(tensor.bytes for tensor in planned)) as place:
        write_shards(place, {WEIGHTS: planned}, arrays)
        path = place / adapter_config.FILE
        path.write_text(json.dumps(config, indent=2) + "\n")
    ranks = ", ".join(map(str, sorted({pair.rank for pair in pairs})))
    also = f", {', '.join(config['modules_to_save'] or ())} whole" * bool(whole)
    print(
        f"{parts.family}: adapter of rank {ranks}, {len(planned)} tensors{also}\nwritten to {out}; "
        "with PEFT it goes onto the model that it was trained on"
    )
    if saved.base is None and (folder / "config.json").is_file():
        print(
            f"note: {step} holds all parameters, so what else was trained cannot be told; if "
            "anything was, the adapter lacks it"
        )


def _compare(parts: Parts, saved: SavedParameters) -> None:
    """Compares the adapters of model.json with the parameters beside it."""
    kernels = parameter_shapes(dataclasses.replace(parts, adapters=()))
    wanted = {}
    for adapter in parts.adapters:
        if f"{adapter.path}/kernel" not in kernels:
            raise ConversionError(
                f"{saved.step}: its model.json has an adapter of {adapter.path}, which is no "
                "linear layer of it"
            )
        *layers, inputs, outputs = kernels[f"{adapter.path}/kernel"]
        wanted[f"{adapter.path}/lora_a"] = (*layers, inputs, adapter.rank)
        wanted[f"{adapter.path}/lora_b"] = (*layers, adapter.rank, outputs)
    shapes = {path: shape for path, shape in saved.shapes().items() if is_adapter(path)}
    wrong = [
        f"{path}: is {shapes.get(path, 'missing')}, and by model.json it should be "
        f"{wanted.get(path, 'missing')}"
        for path in sorted(wanted.keys() | shapes.keys())
        if wanted.get(path) != shapes.get(path)
    ]
    if wrong:
        raise ConversionError(
            f"{saved.step}: its adapters are not those of its model.json:\n  {listed(wrong)}"
        )


def _trained(saved: SavedParameters) -> set[str]:
    """What was trained beside the adapters, in all runs that trained these, if that can be told.

    It cannot where the base lies in the checkpoint too, as in an imported folder.
    """
    if saved.base is None or not any(map(is_adapter, saved.stores)):
        return set()
    return {path for path in saved.own if not is_adapter(path)} | _trained(saved.inherited)


def _note(folder: pathlib.Path) -> tuple[str, set[str]]:
    """(the base's name, paths of what is whole), as the import of an adapter noted them."""
    path = folder / COMPANIONS / NOTE
    if not path.is_file():
        return "", set()
    note = Fields(read_json(path), str(path))
    base, whole = note.get("base"), note.get("whole")
    if not isinstance(base, str) or not isinstance(whole, list) or not all(map(_is_text, whole)):
        raise ConversionError(f"{path}: is not what an import of an adapter writes; delete it")
    return base, set(whole)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _adapted(parts: Parts, spelling: str) -> Iterator[tuple[Linear, list[Adapter | None]]]:
    """Yields (an original's layer, the adapter of each of those that it becomes)."""
    adapters = {adapter.path: adapter for adapter in parts.adapters}
    for linear in linears(parts, spelling):
        of = [adapters.get(path) for path in linear.paths]
        if any(of):
            yield linear, of


def _pair(saved: SavedParameters, linear: Linear, of: Sequence[Adapter | None]) -> _Pair:
    """The tensors of a layer, which may be fused from several with an adapter each.

    Where these have equal A, so has the fused one. Otherwise its A is theirs, one behind the other,
    and each has rows of B that are 0 but in its own columns: the same product, of higher rank.
    """
    read = [adapter and _read(saved, adapter) for adapter in of]
    there = [(adapter, *arrays) for adapter, arrays in zip(of, read, strict=True) if adapter]
    scale = there[0][0].scale
    first = there[0][1]
    if len(there) == len(of) and all(
        adapter.scale == scale and np.array_equal(a, first) for adapter, a, _ in there
    ):
        return _Pair(linear, scale, first, np.concatenate([b for _, _, b in there], axis=1))
    lora_a = np.concatenate([a for _, a, _ in there], axis=1)
    dtype = np.float32 if any(adapter.scale != scale for adapter, _, _ in there) else first.dtype
    layers, rank, _ = lora_a.shape
    lora_b = np.zeros((layers, linear.outputs, rank), dtype)
    rows, column = linear.outputs // len(of), 0
    for number, (adapter, arrays) in enumerate(zip(of, read, strict=True)):
        if not adapter:
            continue
        b, end = arrays[1].astype(dtype), column + adapter.rank
        if adapter.scale != scale:
            b *= np.float32(adapter.scale / scale)
        lora_b[:, number * rows : (number + 1) * rows, column:end] = b
        column = end
    return _Pair(linear, scale, lora_a, lora_b)


def _read(saved: SavedParameters, adapter: Adapter) -> tuple[np.ndarray, np.ndarray]:
    """(A [layers, rank, inputs], B [layers, outputs, rank]), one layer where there is no stack."""
    paths = (f"{adapter.path}/lora_a", f"{adapter.path}/lora_b")
    a, b = (saved.read(path, saved.stores[path]) for path in paths)
    a, b = (array if array.ndim == 3 else array[None] for array in (a, b))
    return a.swapaxes(1, 2), b.swapaxes(1, 2)


def _whole(
    parts: Parts,
    saved: SavedParameters,
    spelling: str,
    paths: set[str],
    pairs: Sequence[_Pair],
) -> list[Row]:
    """The tensors of what was trained beside the adapters, all of a module's if any was."""
    rows = rows_of(parts, spelling)
    modules = {module_of(row) for row in rows if row.path in paths}
    adapted = {pair.linear.name for pair in pairs}
    for row in rows:
        if row.path in paths and (row.layered or module_of(row) in adapted):
            raise ConversionError(
                f"{saved.step}: {row.path} was trained beside its adapters, and a PEFT folder has "
                f"no place for that; {_MERGED}"
            )
    return [row for row in rows if module_of(row) in modules]


def _tensors(
    saved: SavedParameters, pairs: Sequence[_Pair], whole: Sequence[Row]
) -> Iterator[tuple[str, np.ndarray]]:
    for pair in pairs:
        yield from pair.tensors()
    for row in whole:
        array = saved.read(row.path, saved.stores[row.path])
        yield PREFIX + row.name, names.to_parameter(array, row.layout)


def _config(
    parts: Parts, spelling: str, pairs: Sequence[_Pair], whole: Sequence[str]
) -> dict[str, Any]:
    """The content of adapter_config.json but its base."""
    ranks = [pair.rank for pair in pairs]
    rslora, alphas = adapter_scales.alphas([(pair.rank, pair.scale) for pair in pairs])
    rank, alpha = adapter_scales.usual(ranks), adapter_scales.usual(alphas)
    expressions = [adapter_modules.expression([pair.linear.name]) for pair in pairs]

    def pattern(values: Sequence[float], usual: float) -> Mapping[str, float]:
        return {e: v for e, v in zip(expressions, values, strict=True) if v != usual}

    return {
        "alpha_pattern": pattern(alphas, alpha),
        "base_model_name_or_path": "",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": max(adapter.dropout for adapter in parts.adapters),
        "modules_to_save": list(whole) or None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern(ranks, rank),
        "target_modules": adapter_modules.target_modules(
            [pair.linear for pair in pairs], parts, spelling
        ),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": rslora,
    }
