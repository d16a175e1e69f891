"""The run's configuration as frozen dataclasses: what `config` holds, checked."""

import dataclasses
import difflib
import hashlib
import json
import pathlib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from data_pipelines.packing import RowShape
from qwen_audio_jax.audio.spec_augment import SpecAugment
from qwen_audio_jax.audio.wave_augment import WaveAugment
from qwen_audio_jax.models.attention import BACKENDS
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.models.presets import FAMILIES, PRESETS
from qwen_audio_jax.tasks import CONDITIONINGS


class ConfigError(ValueError):
    """A configuration that cannot be run. The sentence names the key and the fix."""


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Attributes:
    family: "qwen_audio" or "qwen2_audio".
    preset: the size, a key of `models.presets`.
    dtype: compute dtype; "auto" is bfloat16 on an accelerator and float32 on a CPU.
    attention: a key of `models.attention.BACKENDS`; "auto" is the one for the device.
    remat: what is kept of each block for the backward pass, from most to least: "none" (what
        products gave), "dots", "attention", "full" (its input alone); see `models.layers.REMAT`.
    """

    family: str
    preset: str
    dtype: str
    attention: str
    remat: str


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Attributes:
    root: folder of the corpora.
    mixture: corpus name -> weight, its share of records relative to the others'.
    temperature: 0 takes the weights as they are; above, each is multiplied by the corpus's number
        of records to the power of 1 / temperature.
    conditioning: "tags", "prompts" or "none", which tells the model nothing of the task.
    seed: of the order of records.
    shapes: row shapes, (rows, tokens, frames) each.
    workers: processes that make batches; 0 uses threads of the training process.
    max_seconds: a record with a longer clip is dropped, by name. One of over 30 s is heard as
        several windows.
    max_bad_share: share of records that may be unusable, too long or damaged, before the run stops.
    wave_augment: speed, noise and gain of the clips, see `audio/wave_augment.py`.
    spec_augment: masks and warping of their features, see `audio/spec_augment.py`.
    """

    root: str
    mixture: Mapping[str, float]
    temperature: float
    conditioning: str
    seed: int
    shapes: tuple[tuple[int, int, int], ...]
    workers: int
    max_seconds: float
    max_bad_share: float
    wave_augment: WaveAugment
    spec_augment: SpecAugment

    @property
    def row_shapes(self) -> tuple[RowShape, ...]:
        return tuple(RowShape(*shape) for shape in self.shapes)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Attributes:
    learning_rate: the peak.
    final_learning_rate: what the cosine ends at.
    warmup_steps: steps from 0 to the peak, linearly.
    beta1, beta2, eps: Adam's.
    weight_decay: decoupled, on matrices only.
    clip_norm: largest global norm of the gradient.
    encoder_layer_decay: each block of the encoder learns slower than the one after it by this
        factor, its last one than the projector; 1 is off, Qwen-Audio's pre-training had 0.95.
    frozen: regular expressions over parameter paths such as `decoder/blocks/query/kernel`.
    """

    learning_rate: float
    final_learning_rate: float
    warmup_steps: int
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    clip_norm: float
    encoder_layer_decay: float = 1.0
    frozen: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Attributes:
    steps: optimizer steps in all.
    seed: of the initial parameters.
    accumulate: micro-batches that a batch's rows are divided into; more need less memory.
    max_skipped: steps in a row that may be skipped for a loss or gradient that is not finite.
    log_every: steps between two lines of metrics.jsonl.
    """

    steps: int
    seed: int
    accumulate: int
    max_skipped: int
    log_every: int


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """Attributes:
    every: steps between two checkpoints; the end always makes one.
    keep: how many of the latest stay.
    """

    every: int
    keep: int


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Attributes:
    every: steps between two evaluations; 0 evaluates at the end only.
    data: the corpus to evaluate on, a folder; "" is the mixture's first with a validation split.
    limit: records at most, spread evenly; 0 is all.
    rows: prompts answered together; fewer where clips last over 30 s.
    max_new_tokens: longest answer.
    examples: validation examples shown in the report.
    """

    every: int
    data: str
    limit: int
    rows: int
    max_new_tokens: int
    examples: int


@dataclasses.dataclass(frozen=True)
class WaitConfig:
    """Seconds that a process waits for the others of its run before all end with a sentence.

    Attributes:
        start: until all are there.
        meeting: at a later barrier: before a checkpoint, say.
    """

    start: float
    meeting: float

    def __post_init__(self):
        if not (self.start > 0 and self.meeting > 0):
            raise ValueError(f"needs seconds above 0; got {self.start} and {self.meeting}")


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """Attributes:
    start: steps of the run that are passed over before it.
    steps: how many are profiled then, into profile/ in the run folder; 0 is none.
    """

    start: int
    steps: int

    def __post_init__(self):
        if self.start < 0 or self.steps < 0:
            raise ValueError(f"needs numbers from 0 on; got {self.start} and {self.steps}")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything a training run depends on.

    `compilation_cache` is a folder for compiled programs, which a later start then need not compile
    again; "auto" chooses one, see `start.compilation_cache`, and "" is none.
    """

    model: ModelChoice
    data: DataConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    checkpoint: CheckpointConfig
    evaluate: EvaluateConfig
    mesh: Mapping[str, int]
    wait: WaitConfig
    profile: ProfileConfig
    compilation_cache: str
    init_from: str

    def __post_init__(self):
        _one_of("config.model.family", self.model.family, FAMILIES)
        _one_of("config.model.preset", self.model.preset, PRESETS)
        _one_of("config.model.dtype", self.model.dtype, ("auto", "bfloat16", "float32"))
        _one_of("config.model.attention", self.model.attention, ("auto", *BACKENDS))
        _one_of("config.model.remat", self.model.remat, REMAT)
        _one_of("config.data.conditioning", self.data.conditioning, CONDITIONINGS)
        for rows, tokens, frames in self.data.shapes or [(0, 0, 0)]:
            if min(rows, tokens, frames) < 1 or frames % 4:
                raise ConfigError(
                    "config.data.shapes: needs (rows, tokens, frames) above 0, frames a multiple "
                    f"of 4; got {self.data.shapes}"
                )
        for key, value in (
            ("train.steps", self.train.steps),
            ("train.accumulate", self.train.accumulate),
            ("train.log_every", self.train.log_every),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep),
            ("evaluate.rows", self.evaluate.rows),
            ("evaluate.max_new_tokens", self.evaluate.max_new_tokens),
        ):
            if value < 1:
                raise ConfigError(f"config.{key}: must be at least 1, not {value}")


# Changing these leaves what is trained unchanged, so a workdir may go on under other values.
FREE_KEYS = (
    "checkpoint",
    "compilation_cache",
    "evaluate",
    "mesh",
    "profile",
    "wait",
    "model/attention",
    "model/remat",
    "data/root",
    "data/workers",
    "train/accumulate",
    "train/log_every",
    "train/max_skipped",
)


def from_mapping(config: Mapping[str, Any]) -> RunConfig:
    """Builds the run's configuration from nested mappings (a ConfigDict's `to_dict`).

    Raises:
        ConfigError: a key that does not exist, is missing or has the wrong type.
    """
    return _build(RunConfig, config, "config")


def _build(cls: type, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: must be a group of keys, not {values!r}")
    fields = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{path}.{key}: no such key; {hint}")
    if missing := [key for key in fields if key not in values]:
        raise ConfigError(f"{path}.{missing[0]}: is missing")
    made = {key: _value(fields[key], values[key], f"{path}.{key}") for key in fields}
    try:
        return cls(**made)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _value(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, path)
    origin = typing.get_origin(kind) or kind
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(tuple(item) if isinstance(item, list | tuple) else item for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return types.MappingProxyType(dict(value))
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise ConfigError(f"{path}: must be {origin.__name__}, not {value!r}")
    return value


def to_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON types."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return plain(config)


def short_hash(config: RunConfig) -> str:
    """Eight hexadecimal digits that differ between configurations that train differently."""
    text = json.dumps(flat(to_json(config), FREE_KEYS), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def claim_workdir(workdir: pathlib.Path, config: RunConfig) -> None:
    """Writes config.json into a run folder, unless another configuration has trained there.

    Raises:
        ConfigError: the folder belongs to another configuration; the sentence names the keys.
    """
    path = workdir / "config.json"
    values = to_json(config)
    if path.exists() and (workdir / "metrics.jsonl").exists():
        before, now = flat(json.loads(path.read_text()), FREE_KEYS), flat(values, FREE_KEYS)
        differing = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
        if differing:
            key = differing[0]
            raise ConfigError(
                f"{workdir}: holds a run of another configuration (config.{key.replace('/', '.')} "
                f"was {before.get(key)!r} and is now {now.get(key)!r}"
                + (f", and {len(differing) - 1} more" if len(differing) > 1 else "")
                + "); give another --workdir, or delete it to start anew"
            )
    workdir.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)


def flat(values: Mapping[str, Any], but: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """Nested keys as paths, but for some keys and groups."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        if name in but:
            continue
        if isinstance(value, Mapping) and value:
            found |= flat(value, but, name + "/")
        else:
            found[name] = value
    return found


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{key}: {value!r} is none of {', '.join(known)}")
