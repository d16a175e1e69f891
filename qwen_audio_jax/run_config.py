"""The run's configuration as frozen dataclasses: what `config` holds, checked.

What their docstrings say of each key is put together in docs/configuration.md.
"""

import dataclasses
import difflib
import hashlib
import json
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
    family: which of the two models it is; they differ in mel bins, in what marks a clip, and in
        the decoder.
    preset: the size, from `models/presets.py`; a part that `config.init_from` has keeps its own.
    dtype: number format of activations; parameters are float32. "auto" is bfloat16 on a GPU or TPU
        and float32 on a CPU.
    attention: what computes it: "xla" runs anywhere, "cudnn" on an NVIDIA GPU, "splash" on a TPU;
        "auto" is the one for the device.
    remat: what is kept of each block for the backward pass; the rest is computed anew. From most
        memory to least: "none" keeps the results of products and what attention takes and gives,
        "dots" the results of products with weights, "attention" the block's input and what
        attention gives, "full" the input alone.
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
    mixture: corpus name -> weight, its share of records relative to the others'; 0 leaves it out.
    temperature: 0 takes the weights as they are; above, each is multiplied by the corpus's number
        of records to the power of 1 / temperature.
    conditioning: what tells the model its task: "tags" as in Qwen-Audio, "prompts" in natural
        language as in Qwen2-Audio, "none" nothing.
    seed: random seed of the order of records and of what augmentation draws.
    shapes: one to three row shapes, (rows, tokens, frames) each: rows of a batch over all
        processes, a multiple of replica x fsdp x `config.train.accumulate`; tokens of a row; its
        log-mel frames of 10 ms, a multiple of 4. A record goes into the smallest that holds it.
    workers: processes, of each training process, that make batches; 0 uses threads instead.
    max_seconds: a record with a longer clip is dropped, by name. One of over 30 s is heard as
        several windows.
    max_bad_share: share of records, 0 to 1, that may be too long or damaged before the run stops.
    wave_augment: speed, noise and gain of a training clip, where the task's label stays true.
    spec_augment: SpecAugment (Park et al., 2019): masks and warping of a training clip's log-mel
        features.
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
    learning_rate: the highest, at the end of the warm-up.
    final_learning_rate: what the cosine ends at, with the last step.
    warmup_steps: steps in which the rate rises from 0 to the highest, linearly.
    beta1: decay of Adam's mean of gradients, per step.
    beta2: decay of Adam's mean of squared gradients, per step.
    eps: what Adam adds to the root of that mean, before it divides by it.
    weight_decay: decoupled: times the learning rate, the share of itself that a matrix loses in a
        step. Biases and norms lose nothing.
    clip_norm: a gradient of a larger global norm is scaled down to this one.
    encoder_layer_decay: each block of the encoder learns slower than the one after it by this
        factor, its last one than the projector; 1 is off, Qwen-Audio's pre-training had 0.95.
    frozen: regular expressions; a parameter is not trained if one is found in its path, such as
        `decoder/blocks/query/kernel`.
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
    seed: random seed of the initial parameters.
    accumulate: micro-batches that a batch's rows are divided into; more need less memory.
    max_skipped: steps in a row that may be skipped because loss or gradient is not finite.
    log_every: steps from one line of metrics.jsonl to the next.
    """

    steps: int
    seed: int
    accumulate: int
    max_skipped: int
    log_every: int


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """Attributes:
    every: steps from one checkpoint to the next; the end always makes one.
    keep: how many of the latest checkpoints stay.
    """

    every: int
    keep: int


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Attributes:
    every: steps from one evaluation to the next; 0 evaluates at the end only.
    data: the corpus to evaluate on, a folder in `config.data.root`; "" is the mixture's first with
        a validation split.
    limit: records at most, spread evenly over the split; 0 is all.
    rows: prompts answered together; fewer where clips last over 30 s.
    max_new_tokens: longest answer, in tokens.
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
    """Attributes:
    start: seconds, above 0, until all are there.
    meeting: seconds, above 0, at a later barrier: before a checkpoint, say.
    """

    start: float
    meeting: float

    def __post_init__(self):
        if not (self.start > 0 and self.meeting > 0):
            raise ValueError(f"needs seconds above 0; got {self.start} and {self.meeting}")


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """Attributes:
    start: steps of the run that are passed over first.
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

    Attributes:
        model: the model, and how it is computed.
        data: what it is trained on, and how that becomes batches.
        optimizer: AdamW: the learning rate rises linearly, then falls along a cosine.
        train: the steps, and what is told of them.
        checkpoint: what a run goes on from when it is started again.
        evaluate: answers to a validation split, scored by each task's own metric.
        mesh: how the devices of all processes are laid out. The three sizes multiply to their
            number; one may be -1, which takes what the others leave.
        mesh.replica: copies of the parameters; each copy sees other rows of a batch. Of several TPU
            slices this axis alone crosses from one to another, so it is a multiple of their number.
        mesh.fsdp: parts that the parameters and the optimizer's state are divided into; each of
            these devices, too, sees other rows.
        mesh.tensor: parts that attention heads, MLP widths and the vocabulary are divided into.
        wait: how long a process waits for the others of its run before all end with a sentence.
        profile: a window of steps in JAX's profiler, for TensorBoard or xprof.
        compilation_cache: folder for compiled programs, so that a later start need not compile them
            again. "" is none; "auto" is one in the user's cache or, of several processes, in the
            run folder. Where JAX_COMPILATION_CACHE_DIR is set, it takes precedence.
        init_from: where the first parameters come from: a run folder, what `convert import` wrote,
            or a step folder in either's checkpoints/. The parts it has are taken, such as the
            encoder, or the decoder with its vocabulary; other parts, step and optimizer state are
            new. "" is a start from random parameters.
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
        values = flat(to_json(self))
        for key, known in CHOICES.items():
            if values[key] not in known:
                raise ConfigError(f"{dotted(key)}: {values[key]!r} is none of {', '.join(known)}")
        for rows, tokens, frames in self.data.shapes or [(0, 0, 0)]:
            if min(rows, tokens, frames) < 1 or frames % 4:
                raise ConfigError(
                    "config.data.shapes: needs (rows, tokens, frames) above 0, frames a multiple "
                    f"of 4; got {self.data.shapes}"
                )
        for key in AT_LEAST_ONE:
            if values[key] < 1:
                raise ConfigError(f"{dotted(key)}: must be at least 1, not {values[key]}")


CHOICES = {
    "model/family": FAMILIES,
    "model/preset": PRESETS,
    "model/dtype": ("auto", "bfloat16", "float32"),
    "model/attention": ("auto", *BACKENDS),
    "model/remat": REMAT,
    "data/conditioning": CONDITIONINGS,
}
"""Keys that take one of a few names."""

AT_LEAST_ONE = (
    "train/steps",
    "train/accumulate",
    "train/log_every",
    "checkpoint/every",
    "checkpoint/keep",
    "evaluate/rows",
    "evaluate/max_new_tokens",
)

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


def dotted(path: str) -> str:
    """A key as it is typed: "train/steps" is `config.train.steps`."""
    return f"config.{path.replace('/', '.')}"
