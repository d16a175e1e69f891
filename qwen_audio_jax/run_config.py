"""The run's configuration as frozen dataclasses: what `config` holds, checked.

What their docstrings say of each key is put together in docs/configuration.md.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from data_pipelines.packing import RowShape
from qwen_audio_jax.audio.spec_augment import SpecAugment
from qwen_audio_jax.audio.wave_augment import WaveAugment
from qwen_audio_jax.config_fields import (
    ConfigError,
    Example,
    Factor,
    Folder,
    Items,
    Keys,
    Named,
    OneOf,
    Range,
    RegularExpression,
    annotation_at,
    build,
    refused,
)
from qwen_audio_jax.models.attention import BACKENDS
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.models.presets import FAMILIES, PRESETS
from qwen_audio_jax.tasks import CONDITIONINGS

MESH_AXES = ("replica", "fsdp", "tensor")

_MOST = 2**31 - 1  # steps, and positions in a batch, are counted in int32
Count = Annotated[int, Range(1, _MOST)]
CountOrZero = Annotated[int, Range(0, _MOST)]


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

    family: Annotated[str, OneOf(FAMILIES)]
    preset: Annotated[str, OneOf(tuple(PRESETS))]
    dtype: Annotated[str, OneOf(("auto", "bfloat16", "float32"))]
    attention: Annotated[str, OneOf(("auto", *BACKENDS))]
    remat: Annotated[str, OneOf(REMAT)]


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
    max_bad_share: share of records that may be too long or damaged before the run stops.
    wave_augment: speed, noise and gain of a training clip, where the task's label stays true.
    spec_augment: SpecAugment (Park et al., 2019): masks and warping of a training clip's log-mel
        features.
    """

    root: Annotated[str, Folder()]
    mixture: Annotated[
        Mapping[Annotated[str, Folder()], Annotated[float, Range(0, 1e12)]],
        Items(1, 1000),
        Example('{"my_corpus": 1.0}'),
    ]
    temperature: Annotated[float, Range(0.1, 1e6, also=0, meaning="weights as they are")]
    conditioning: Annotated[str, OneOf(CONDITIONINGS)]
    seed: Annotated[int, Range(0, 2**63 - 1)]
    shapes: Annotated[
        tuple[
            tuple[
                Annotated[int, Named("rows"), Range(1, 2**20)],
                Annotated[int, Named("tokens"), Range(1, 2**20)],
                Annotated[int, Named("frames"), Range(4, 2**20, multiple=4)],
            ],
            ...,
        ],
        Items(1, 3),
        Example("((16, 144, 352), (8, 448, 1024))"),
    ]
    workers: Annotated[int, Range(0, 512)]
    max_seconds: Annotated[float, Range(0.03, 1e6)]
    max_bad_share: Annotated[float, Range(0, 1)]
    wave_augment: WaveAugment
    spec_augment: SpecAugment

    def __post_init__(self):
        if not any(self.mixture.values()):
            raise ConfigError("config.data.mixture: all weights are 0; one must be above")
        for number, (rows, tokens, frames) in enumerate(self.shapes):
            if rows * max(tokens, frames) > _MOST:
                raise ConfigError(
                    f"config.data.shapes[{number}]: a batch must have at most {_MOST:,} tokens and "
                    f"frames, and {rows:,} rows of {tokens:,} and {frames:,} have more; take fewer "
                    "rows"
                )

    @property
    def row_shapes(self) -> tuple[RowShape, ...]:
        return tuple(RowShape(*shape) for shape in self.shapes)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Attributes:
    learning_rate: the highest, at the end of the warm-up.
    final_learning_rate: what the cosine ends at, with the last step; at most `learning_rate`.
    warmup_steps: steps in which the rate rises from 0 to the highest, linearly; in a run that has
        no more steps than that, all but the last.
    beta1: decay of Adam's mean of gradients, per step.
    beta2: decay of Adam's mean of squared gradients, per step.
    eps: what Adam adds to the root of that mean, before it divides by it.
    weight_decay: decoupled: times the learning rate, the share of itself that a matrix loses in a
        step. Biases and norms lose nothing.
    clip_norm: a gradient of a larger global norm is scaled down to this one. inf is off; 0 would
        stop all learning.
    encoder_layer_decay: each block of the encoder learns slower than the one after it by this
        factor, its last one than the projector; 1 is off, Qwen-Audio's pre-training had 0.95.
    frozen: regular expressions; a parameter is not trained if one is found in its path, such as
        `decoder/blocks/query/kernel`. Behind one a range of layers may stand, as Python writes it:
        `^decoder/blocks[0:20]` freezes the first twenty layers, `^decoder/blocks[:-4]` all but the
        last four. Each must be found in a path, and leave something to train.
    train_new_tokens: whether rows of `decoder/embedding` and columns of `decoder/head` that an
        import added for new tokens (from the model's `first_new_token` on) are trained although
        `frozen` holds the others.
    rates: regular expression -> what the learning rate is multiplied by where it is found in the
        path of a parameter, and with it the step of weight decay; 1 where none is. Each must be
        found in a trained one; two in the same one must agree.
    """

    learning_rate: Annotated[float, Range(1e-12, 10)]
    final_learning_rate: Annotated[float, Range(0, 10)]
    warmup_steps: CountOrZero
    # Nearer to 1 they are 1 in float32, of which Adam takes a quotient by 0.
    beta1: Annotated[float, Range(0, 0.999999)]
    beta2: Annotated[float, Range(0, 0.999999)]
    eps: Annotated[float, Range(1e-30, 1)]
    weight_decay: Annotated[float, Range(0, 10)]
    clip_norm: Annotated[float, Range(1e-12, 1e12, also=math.inf, meaning="no clipping")]
    encoder_layer_decay: Annotated[float, Range(0.01, 1)] = 1.0
    frozen: Annotated[
        tuple[Annotated[str, RegularExpression(layers=True)], ...], Example('("^decoder/",)')
    ] = ()
    train_new_tokens: bool = True
    rates: Annotated[
        Mapping[Annotated[str, RegularExpression()], Annotated[float, Factor()]],
        Example('{"^decoder/": 0.05}'),
    ] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self):
        if self.final_learning_rate > self.learning_rate:
            raise ConfigError(
                f"config.optimizer.final_learning_rate: {self.final_learning_rate:g} is above "
                f"config.optimizer.learning_rate = {self.learning_rate:g}, and the rate only falls "
                "after the warm-up; lower it too"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Attributes:
    steps: optimizer steps in all.
    seed: random seed of the initial parameters.
    accumulate: micro-batches that a batch's rows are divided into; more need less memory.
    max_skipped: steps in a row that may be skipped because loss or gradient is not finite.
    log_every: steps from one line of metrics.jsonl to the next.
    """

    steps: Count
    seed: Annotated[int, Range(0, 2**32 - 1)]
    accumulate: Annotated[int, Range(1, 2**20)]
    max_skipped: CountOrZero
    log_every: Count


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """Attributes:
    every: steps from one checkpoint to the next; the end always makes one.
    keep: how many of the latest checkpoints stay.
    """

    every: Count
    keep: Count


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

    every: CountOrZero
    data: Annotated[str, Folder(or_empty=True)]
    limit: CountOrZero
    rows: Annotated[int, Range(1, 4096)]
    max_new_tokens: Annotated[int, Range(1, 65_536)]
    examples: Annotated[int, Range(0, 100_000)]


@dataclasses.dataclass(frozen=True)
class WaitConfig:
    """Attributes:
    start: seconds until all are there.
    meeting: seconds at a later barrier: before a checkpoint, say.
    """

    start: Annotated[float, Range(0.001, 1e6)]
    meeting: Annotated[float, Range(0.001, 1e6)]


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """Attributes:
    start: steps of the run that are passed over first.
    steps: how many are profiled then, into profile/ in the run folder; 0 is none.
    """

    start: CountOrZero
    steps: Annotated[int, Range(0, 100_000)]


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
            new. "" is a start from random parameters. What is frozen of it is not saved again, so
            a run needs it to go on; this key may then name its new place.
    """

    model: ModelChoice
    data: DataConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    checkpoint: CheckpointConfig
    evaluate: EvaluateConfig
    mesh: Annotated[
        Mapping[str, Annotated[int, Range(1, 2**20, also=-1, meaning="what the others leave")]],
        Keys(MESH_AXES),
        Example('{"replica": 1, "fsdp": -1, "tensor": 1}'),
    ]
    wait: WaitConfig
    profile: ProfileConfig
    compilation_cache: Annotated[str, Folder(or_empty=True)]
    init_from: Annotated[str, Folder(or_empty=True)]

    def __post_init__(self):
        left_open = [axis for axis, size in self.mesh.items() if size == -1]
        if len(left_open) > 1:
            raise ConfigError(
                f"config.mesh: only one axis can take what the others leave, and "
                f"{' and '.join(left_open)} are -1"
            )
        if self.profile.steps and self.profile.start >= self.train.steps:
            raise ConfigError(
                f"config.profile.start: {self.profile.start} steps are passed over and the run has "
                f"config.train.steps = {self.train.steps}, so that none would be profiled"
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
        ConfigError: a key that does not exist or is missing, or a value that it may not have.
    """
    return build(RunConfig, config, "config")


def refusal(key: str, value: Any) -> ConfigError:
    """The error of a value that cannot be read as what a key must be.

    Args:
        key: as it is typed, such as "config.train.steps".
        value: the text behind it.
    """
    annotation = annotation_at(RunConfig, key.split(".")[1:])
    if annotation is None:
        return ConfigError(f"{key}: no such key")
    return refused(annotation, value, key)


def to_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON types. JSON has no number for infinity, which is "inf"."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return "inf" if value == math.inf else value

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
