"""A PEFT folder and the model that it adapts, as adapters beside that model's kernels."""

import collections
import dataclasses
import functools
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qwen_audio_jax.conversion import adapter_config
from qwen_audio_jax.conversion.adapter_config import MERGE, AdapterConfig
from qwen_audio_jax.conversion.adapter_modules import (
    PREFIX,
    SPELLINGS,
    Linear,
    linears,
    module_of,
    rows_of,
)
from qwen_audio_jax.conversion.adapter_scales import training_flags
from qwen_audio_jax.conversion.errors import ConversionError, listed
from qwen_audio_jax.conversion.finite import require_finite
from qwen_audio_jax.conversion.names import Row
from qwen_audio_jax.conversion.sources import Source
from qwen_audio_jax.conversion.weight_files import (
    DTYPES,
    Stored,
    read_header,
    refuse_weights,
    same_contents,
)
from qwen_audio_jax.models.parts import COMPANIONS
from qwen_audio_jax.models.presets import Adapter

WEIGHTS = "adapter_model.safetensors"
NOTE = "adapter.json"
"""What an import notes of an adapter among the companions, for its export."""

_HUB_NAME = r"[\w.-]+/[\w.-]+"
"""An owner and a model; what else a base is called is the path of somebody's machine."""

_KINDS = {
    ".lora_magnitude_vector": "DoRA's magnitudes",
    ".lora_embedding_": "an adapter of an embedding",
    ".lora_B.bias": "a bias of an adapter (lora_bias)",
}


@dataclasses.dataclass(frozen=True)
class _Stack:
    """The adapters of a linear layer in one array each.

    Attributes:
        linear: the original's layer.
        modules: name and number of each that has an adapter.
        columns: which columns of the original's B each of the layers that it becomes has.
        adapters: of these layers; None of one that has none.
    """

    linear: Linear
    modules: tuple[tuple[int, str], ...]
    columns: tuple[slice, ...]
    adapters: tuple[Adapter | None, ...]


@dataclasses.dataclass(frozen=True)
class PeftAdapter:
    """A recognised PEFT folder.

    Attributes:
        folder: where it lies.
        base: the model beside it, with the tensors that the adapter has whole in their place.
        config: its adapter_config.json.
        tensors: by name; exactly those that its configuration asks for.
        whole: paths of the parameters that it has whole.
        stacks: its adapters.
    """

    folder: pathlib.Path
    base: Source
    config: AdapterConfig
    tensors: Mapping[str, Stored]
    whole: tuple[str, ...]
    stacks: tuple[_Stack, ...]

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        return tuple(a for stack in self.stacks for a in stack.adapters if a is not None)

    @property
    def summary(self) -> str:
        ranks = sorted({adapter.rank for adapter in self.adapters})
        trained_on = f", trained on {self.config.base}" * bool(self.config.base)
        whole = f"; whole: {', '.join(self.whole)}" * bool(self.whole)
        return (
            f"PEFT adapter: {self.folder}, {len(self.tensors)} tensors, rank "
            f"{', '.join(map(str, ranks))}{trained_on}{whole}\n"
            f"to train it on: {training_flags(self.adapters)}"
        )

    def parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (path, array) of every `lora_a` and `lora_b`.

        Where the ranks in a stack differ, the smaller ones have columns of zeros, in which training
        changes nothing; so has a layer without an adapter. Where scales differ, `lora_b` is
        multiplied by what its scale is of the most frequent one, in float32.
        """
        for stack in self.stacks:
            yield from _arrays(self, stack)

    def note(self, folder: pathlib.Path) -> None:
        """Writes into an imported folder what an export cannot know otherwise."""
        named = re.fullmatch(_HUB_NAME, self.config.base)
        content = {"base": self.config.base if named else "", "whole": list(self.whole)}
        (folder / COMPANIONS).mkdir(exist_ok=True)
        (folder / COMPANIONS / NOTE).write_text(json.dumps(content, indent=2) + "\n")


def is_adapter(folder: pathlib.Path) -> bool:
    """Whether a folder holds a PEFT adapter and no weights that it would be added to."""
    files = (path.name for path in folder.glob("*.safetensors"))
    return (folder / adapter_config.FILE).is_file() and set(files) <= {WEIGHTS}


def part(
    folders: Sequence[pathlib.Path],
) -> tuple[list[pathlib.Path], pathlib.Path | None]:
    """(folders of models, the folder of an adapter).

    Raises:
        ConversionError: more than one adapter, or nothing beside one.
    """
    adapters = [folder for folder in folders if is_adapter(folder)]
    models = [folder for folder in folders if folder not in adapters]
    if len(adapters) > 1:
        raise ConversionError(
            f"{adapters[0]} and {adapters[1]} both hold a PEFT adapter; a model has one at a time: "
            "merge the first into its base (model.merge_and_unload(), then save_pretrained)"
        )
    if adapters and len(models) != 1:
        raise ConversionError(
            f"{adapters[0]}: holds a PEFT adapter, which needs the one model that it was trained "
            f"on beside it: --source=BASE --source={adapters[0]}"
        )
    return models, adapters[0] if adapters else None


def open_adapter(folder: pathlib.Path, base: Source) -> PeftAdapter:
    """Compares an adapter's configuration and tensors with the model beside it.

    Raises:
        ConversionError: keys or tensors that are not read here, or those of another model.
    """
    if not base.parts.whole:
        raise ConversionError(
            f"{base.folder}: is a {base.title}, and {folder} an adapter; only adapters of whole "
            f"models (Qwen2-Audio, Qwen-Audio) are read: {MERGE}"
        )
    config = adapter_config.read_config(folder)
    if not (folder / WEIGHTS).is_file():
        refuse_weights(folder)
    tensors = read_header(folder / WEIGHTS)
    spelling = _spelling(base, tensors)
    found = linears(base.parts, spelling)
    head = module_of(rows_of(base.parts, spelling)[-1])
    if config.adapts(head) or any(name.startswith(f"{PREFIX}{head}.lora_") for name in tensors):
        raise ConversionError(
            f"{folder}: adapts the head ({head}), and here the head can have no adapter; {MERGE}"
        )
    whole = _whole(folder, config, base, rows_of(base.parts, spelling), tensors)
    expected = _expected(config, found)
    whole_shapes = {name: base.tensors[row_name].shape for name, (row_name, _) in whole.items()}
    _compare(folder, config, base, expected | whole_shapes, tensors)
    replaced = {row_name: tensors[name] for name, (row_name, _) in whole.items()}
    base = dataclasses.replace(base, tensors=base.tensors | replaced)
    paths = tuple(dict.fromkeys(path for _, path in whole.values()))
    adapter = PeftAdapter(folder, base, config, tensors, paths, ())
    stacks = (_stack(adapter, linear) for linear in found)
    return dataclasses.replace(adapter, stacks=tuple(stack for stack in stacks if stack.modules))


def _spelling(base: Source, tensors: Mapping[str, Stored]) -> str:
    """That in which more of the tensors belong to the model."""
    present = {name.partition(".lora_")[0].removeprefix(PREFIX) for name in tensors}

    def known(spelling: str) -> int:
        modules = itertools.chain.from_iterable(x.modules for x in linears(base.parts, spelling))
        return len(present & {*modules, module_of(rows_of(base.parts, spelling)[-1])})

    return max(SPELLINGS, key=known)


def _expected(config: AdapterConfig, found: Sequence[Linear]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of the adapters that the configuration asks for."""
    shapes = {}
    for linear in found:
        for module in filter(config.adapts, linear.modules):
            rank = config.rank_of(module)
            shapes[_name(module, "A")] = (rank, linear.inputs)
            shapes[_name(module, "B")] = (linear.outputs, rank)
    return shapes


def _name(module: str, letter: str) -> str:
    return f"{PREFIX}{module}.lora_{letter}.weight"


def _whole(
    folder: pathlib.Path,
    config: AdapterConfig,
    base: Source,
    rows: Sequence[Row],
    tensors: Mapping[str, Stored],
) -> dict[str, tuple[str, str]]:
    """Of the tensors that an adapter has whole, the base's name and the parameter.

    PEFT also writes embedding and head without naming them, where either is adapted or grew.
    """
    base_rows = {(row.path, row.part): row for row in base.rows}
    named, matched = {}, set()
    for row in rows:
        here = base_rows[row.path, row.part]
        asked = config.has_whole(module_of(row).format(0))
        matched |= {name for name in config.whole if asked}
        if row.layered and asked:
            raise ConversionError(
                f"{config.where}: modules_to_save has {module_of(row)}, and only what is not in a "
                f"stack of layers is read whole; {MERGE}"
            )
        if not row.layered and (asked or PREFIX + row.name in tensors):
            named[PREFIX + row.name] = here.name, row.path
    if config.whole and not named:
        raise ConversionError(
            f"{config.where}: modules_to_save has {', '.join(config.whole)}, which "
            f"{base.folder} has not; {MERGE}"
        )
    tied = [name for name, (_, path) in named.items() if path == "decoder/embedding"]
    stored = [tensors[name] for name in tied if name in tensors]
    if base.parts.decoder.tied and tied and not (len(stored) == 2 and same_contents(*stored)):
        raise ConversionError(
            f"{folder}: has {tied[0]} whole, and in {base.folder} word embedding and head are one "
            f"tensor; {MERGE}"
        )
    return named


def _compare(
    folder: pathlib.Path,
    config: AdapterConfig,
    base: Source,
    expected: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Stored],
) -> None:
    missing = [f"missing: {name} {list(expected[name])}" for name in expected.keys() - tensors]
    unexpected = [
        f"unexpected: {name}" + next((f", {k}" for part, k in _KINDS.items() if part in name), "")
        for name in tensors.keys() - expected
    ]
    misshapen, wrong = [], []
    for name in expected.keys() & tensors.keys():
        stored = tensors[name]
        if stored.shape != tuple(expected[name]):
            misshapen.append(
                f"misshapen: {name} is {list(stored.shape)}, and by adapter_config.json and the "
                f"base it should be {list(expected[name])}"
            )
        elif stored.dtype not in DTYPES:
            wrong.append(
                f"wrong dtype: {name} is {stored.dtype}; only {', '.join(DTYPES)} are read"
            )
    if missing or unexpected or misshapen or wrong:
        said = f", trained on {config.base!r}" * bool(config.base)
        raise ConversionError(
            f"{folder}: its tensors are not those of an adapter of {base.folder} with its "
            f"{adapter_config.FILE}{said}:\n  "
            + listed(*map(sorted, (missing, unexpected, misshapen, wrong)))
        )
    if not expected:
        raise ConversionError(
            f"{config.where}: target_modules fits no linear layer of {base.folder}, so there is "
            "nothing to add to it"
        )


def _stack(adapter: PeftAdapter, linear: Linear) -> _Stack:
    config = adapter.config
    modules = tuple(pair for pair in enumerate(linear.modules) if config.adapts(pair[1]))
    if not modules:
        return _Stack(linear, (), (), ())
    ranks = {config.rank_of(module) for _, module in modules}
    scales = collections.Counter(config.scale_of(module) for _, module in modules)
    scale, rank = scales.most_common(1)[0][0], max(ranks)
    fused = len(linear.paths)
    columns = [slice(rank)] * fused
    if fused > 1 and len(ranks) == 1:
        columns = _own_columns([_read(adapter, m, "B") for _, m in modules], fused)
    widths = [len(range(*mine.indices(rank))) for mine in columns]
    adapters = tuple(
        Adapter(path, width, scale, config.dropout) if width else None
        for path, width in zip(linear.paths, widths, strict=True)
    )
    return _Stack(linear, modules, tuple(columns), adapters)


def _own_columns(tensors: Sequence[np.ndarray], fused: int) -> list[slice]:
    """Of each part of a fused layer, the columns of B that are not 0 for it.

    An export gives each part columns of its own, one part's behind the other's; then these are
    taken apart again. Otherwise, as PEFT trains them, each part has all columns.

    Args:
        tensors: B of each layer, [fused * out, rank].
        fused: number of parts.
    """
    rank = tensors[0].shape[1]
    used = np.zeros((fused, rank), bool)
    for tensor in tensors:
        used |= (tensor.reshape(fused, -1, rank) != 0).any(1)
    owner = used.argmax(0)
    if (used.sum(0) != 1).any() or (np.diff(owner) < 0).any():
        return [slice(rank)] * fused
    bounds = np.searchsorted(owner, np.arange(fused + 1)).tolist()
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _arrays(adapter: PeftAdapter, stack: _Stack) -> Iterator[tuple[str, np.ndarray]]:
    linear, config = stack.linear, adapter.config
    read = functools.partial(_read, adapter)
    tensors = [(i, m, read(m, "A"), read(m, "B")) for i, m in stack.modules]
    dtypes = {tensor.dtype for _, _, a, b in tensors for tensor in (a, b)}
    scales = {config.scale_of(module) for _, module in stack.modules}
    dtype = dtypes.pop() if len(dtypes) == len(scales) == 1 else np.dtype(np.float32)
    rows = np.split(np.arange(linear.outputs), len(linear.paths))
    for mine, columns, made in zip(rows, stack.columns, stack.adapters, strict=True):
        if made is None:
            continue
        layers = max(1, linear.layers)
        lora_a = np.zeros((layers, linear.inputs, made.rank), dtype)
        lora_b = np.zeros((layers, made.rank, len(mine)), dtype)
        for layer, module, a, b in tensors:
            a, b = a[columns], b[mine[0] : mine[-1] + 1, columns]
            ratio = config.scale_of(module) / made.scale
            lora_a[layer, :, : len(a)] = a.T
            lora_b[layer, : len(a)] = b.T if ratio == 1 else b.T.astype(dtype) * dtype.type(ratio)
        for name, array in (("lora_a", lora_a), ("lora_b", lora_b)):
            yield f"{made.path}/{name}", array if linear.layers else array[0]


def _read(adapter: PeftAdapter, module: str, letter: str) -> np.ndarray:
    name = _name(module, letter)
    stored = adapter.tensors[name]
    dtype = np.dtype(DTYPES[stored.dtype])
    count = int(np.prod(stored.shape))
    tensor = np.fromfile(stored.file, dtype, count, offset=stored.offset).reshape(stored.shape)
    require_finite(tensor, f"{stored.file}: {name}")
    return tensor
