"""A PEFT folder's adapter_config.json: which linear layers it adapts, at which rank and scale.

Matching follows PEFT 0.21 (`check_target_module_exists`, `get_pattern_key`), and so do defaults.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.fields import LARGEST, Fields, shown
from qwen_audio_jax.conversion.json_files import read_json

FILE = "adapter_config.json"
MERGE = (
    "merge it into its base (model.merge_and_unload(), then save_pretrained) and import that alone"
)
ALL_LINEAR = "all-linear"

_KEPT_BASES = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Ways of drawing an adapter that leave the weights of its base as they are."""

_WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
"""What says nothing of what a finished adapter computes, or only goes with a key that does."""

_READ = {
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
}


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """What an adapter_config.json says.

    Attributes:
        where: the file.
        rank, alpha: of modules that no pattern names.
        rank_pattern, alpha_pattern: regular expressions of modules' ends, and theirs.
        rslora: whether the scale is alpha / sqrt(rank), not alpha / rank.
        dropout: of what enters an adapter, in training.
        targets: ends of the modules' names, or a regular expression of whole ones.
        excluded: likewise, of modules that are not adapted.
        layers: numbers of the layers that are; None of all.
        layer_names: what stands before a layer's number; any where empty.
        whole: modules that it has whole, not as adapters.
        base: what it says its base is called.
    """

    where: str
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    dropout: float
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...] | None
    layer_names: tuple[str, ...]
    whole: tuple[str, ...]
    base: str

    def adapts(self, module: str) -> bool:
        """Whether a linear layer has an adapter, by the name of its module."""
        if _named(self.excluded, module) or self.has_whole(module):
            return False
        if self.targets == ALL_LINEAR:
            return module.rpartition(".")[2] != "lm_head"
        if not _named(self.targets, module):
            return False
        return isinstance(self.targets, str) or self._in_layers(module)

    def has_whole(self, module: str) -> bool:
        """Whether a module, or one around it, is among those that are whole."""
        return any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in self.whole)

    def rank_of(self, module: str) -> int:
        """Rows of A, columns of B."""
        return _by_pattern(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """What B A x is multiplied by."""
        rank, alpha = self.rank_of(module), _by_pattern(self.alpha_pattern, module, self.alpha)
        return scale(alpha, rank, rslora=self.rslora)

    def _in_layers(self, module: str) -> bool:
        if self.layers is None:
            return True
        patterns = [rf"(?:^|.*?\.){name}\.(\d+)\." for name in self.layer_names]
        found = (re.match(p, module) for p in patterns or [r".*?\.[^.]*\.(\d+)\."])
        layer = next((int(match[1]) for match in found if match), None)
        return layer in self.layers


def scale(alpha: float, rank: int, *, rslora: bool) -> float:
    """What PEFT multiplies by: alpha / rank, or alpha / sqrt(rank) with rank-stabilised LoRA."""
    return alpha / (math.sqrt(rank) if rslora else rank)


def _named(names: str | tuple[str, ...], module: str) -> bool:
    """Whether a regular expression fits a module's whole name, or one of several ends its end."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    found = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(found, default)


def read_config(folder: pathlib.Path) -> AdapterConfig:
    """Reads a folder's adapter_config.json.

    Raises:
        ConversionError: it is no LoRA, contradicts itself, or sets a key that is not read here: so
            the adapter might compute something else. Unknown keys that say nothing (null, false,
            0, empty) are passed over, since each release of PEFT has new ones.
    """
    path = folder / FILE
    fields = Fields(read_json(path), str(path))
    kind = fields.get("peft_type", "")
    if kind != "LORA":
        raise ConversionError(
            f"{path}: peft_type is {shown(kind)}; only LORA is read, so "
            f"{MERGE if kind else 'this is no adapter that PEFT wrote'}"
        )
    for key, value in fields.values.items():
        if value and key not in _READ | _WITHOUT_EFFECT:
            _refuse(fields, key)
    if fields.get("bias", "none") != "none":
        _refuse(fields, "bias")
    if fields.values.get("init_lora_weights") not in _KEPT_BASES:
        raise ConversionError(
            f"{path}: init_lora_weights is {shown(fields.values['init_lora_weights'])}, which "
            "changes the weights of the base too; save it for the original base "
            "(save_pretrained(..., path_initial_model_for_weight_conversion=...)), or " + MERGE
        )
    layers = fields.values.get("layers_to_transform")
    config = AdapterConfig(
        where=str(path),
        rank=fields.integer("r", 8),
        alpha=fields.number("lora_alpha", 8),
        rank_pattern=_pattern(fields, "rank_pattern", Fields.integer),
        alpha_pattern=_pattern(fields, "alpha_pattern", Fields.number),
        rslora=fields.flag("use_rslora", default=False),
        dropout=_dropout(fields),
        targets=_targets(fields),
        excluded=_names(fields, "exclude_modules", regular=True),
        layers=None if layers in (None, []) else _layers(fields, layers),
        layer_names=_listed(_names(fields, "layers_pattern")),
        whole=_listed(_names(fields, "modules_to_save")),
        base=str(fields.get("base_model_name_or_path", "")),
    )
    if config.layers is not None and isinstance(config.targets, str):
        raise ConversionError(
            f"{path}: layers_to_transform goes with a list of target_modules, not with "
            f"{shown(config.targets)}; say the layers there"
        )
    return config


def _refuse(fields: Fields, key: str) -> NoReturn:
    raise ConversionError(
        f"{fields.where}: {key} is {shown(fields.values[key])}, which is not read here, so that "
        f"the adapter would compute something else; {MERGE}"
    )


def _targets(fields: Fields) -> str | tuple[str, ...]:
    targets = _names(fields, "target_modules", regular=True)
    if not targets:
        raise ConversionError(
            f"{fields.where}: target_modules names nothing; it must be a list of the modules' last "
            "names, a regular expression of their whole names, or 'all-linear'"
        )
    is_all = isinstance(targets, str) and targets.lower() == ALL_LINEAR
    return ALL_LINEAR if is_all else targets


def _names(fields: Fields, key: str, *, regular: bool = False) -> str | tuple[str, ...]:
    """A list of names, or one string; () where there is none."""
    value = fields.values.get(key)
    if not value:
        return ()
    if isinstance(value, str):
        names = (value,)
    elif isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        names = value
    else:
        raise ConversionError(
            f"{fields.where}: {key!r} must be a list of names or a string, not {shown(value)}"
        )
    if isinstance(value, str) or not regular:
        for name in names:
            _compile(fields, key, name)
    return value if isinstance(value, str) else tuple(names)


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _compile(fields: Fields, key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConversionError(
            f"{fields.where}: {key!r} has {shown(pattern)}, which is no regular expression "
            f"({error})"
        ) from error


def _pattern(fields: Fields, key: str, read) -> dict[str, Any]:
    """Regular expressions and numbers, each read by `Fields.integer` or `Fields.number`."""
    group = fields.group(key, {})
    for pattern in group.values:
        _compile(fields, key, pattern)
    return {pattern: read(group, pattern) for pattern in group.values}


def _layers(fields: Fields, value: Any) -> tuple[int, ...]:
    layers = value if isinstance(value, list) else [value]
    if not all(type(layer) is int and 0 <= layer <= LARGEST for layer in layers):
        raise ConversionError(
            f"{fields.where}: 'layers_to_transform' must be the number of a layer or a list of "
            f"them, not {shown(value)}"
        )
    return tuple(layers)


def _dropout(fields: Fields) -> float:
    value = fields.get("lora_dropout", 0.0)
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ConversionError(
            f"{fields.where}: 'lora_dropout' must be a number from 0 to below 1, not {shown(value)}"
        )
    return float(value)
