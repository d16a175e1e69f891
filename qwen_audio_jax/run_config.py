"""The run's configuration as frozen dataclasses: what `config` holds, checked.

What their docstrings say of each key is put together in docs/configuration.md.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from qwen_audio_jax import config_fields
from qwen_audio_jax.audio.silence import WindowOrAuto
from qwen_audio_jax.audio.spec_augment import OFF
from qwen_audio_jax.config_fields import (
    ConfigError,
    Example,
    Folder,
    Keys,
    OneOf,
    Range,
    build,
)
from qwen_audio_jax.data_config import DataConfig
from qwen_audio_jax.models.attention import BACKENDS
from qwen_audio_jax.models.layers import REMAT
from qwen_audio_jax.models.presets import FAMILIES, PRESETS
from qwen_audio_jax.step_config import (
    MESH_AXES,
    NO_PREFERENCE,
    Count,
    CountOrZero,
    LoraConfig,
    OptimizerConfig,
    PreferenceConfig,
)

AUTO = "auto"
"""What is left to the model that a run tunes, see `training/tuning.py`."""

ENDS = ("steps", "hours", "epochs")
"""Keys of `config.train` of which one says when a run ends."""


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Attributes:
    family: which of the two models it is; they differ in mel bins, in what marks a clip, and in
        the decoder. "auto" is that of the whole model in `config.init_from`.
    preset: the size, from `models/presets.py`; a part that `config.init_from` has keeps its own.
    dtype: number format of activations; parameters are float32. "auto" is bfloat16 on a GPU or TPU
        and float32 on a CPU.
    attention: what computes it: "xla" runs anywhere, "cudnn" on an NVIDIA GPU, "splash" on a TPU;
        "auto" is the one for the device.
    remat: what is kept of each block for the backward pass; the rest is computed anew. From most
        memory to least: "none" keeps the results of products and what attention takes and gives,
        "dots" the results of products with weights, "attention" the block's input and what
        attention gives, "full" the input alone.
    window: how much of the silence behind a clip the encoder sees: "clip" is none, "window" all up
        to the end of 30 s, as Whisper was trained, "clip+1s" a second of it. "auto" is what a whole
        model in `config.init_from` has, and "clip" for a new one, even where its encoder is
        Whisper's.
    """

    family: Annotated[str, OneOf((AUTO, *FAMILIES))]
    preset: Annotated[str, OneOf(tuple(PRESETS))]
    dtype: Annotated[str, OneOf(("auto", "bfloat16", "float32"))]
    attention: Annotated[str, OneOf(("auto", *BACKENDS))]
    remat: Annotated[str, OneOf(REMAT)]
    window: Annotated[str, WindowOrAuto()] = "auto"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Attributes:
    steps: optimizer steps in all; 0 where hours or epochs say when the run ends. One of the three
        does: to type one sets the others to 0.
    seed: random seed of the initial parameters.
    accumulate: micro-batches that a batch's rows are divided into; more need less memory.
    max_skipped: steps in a row that may be skipped because loss or gradient is not finite.
    log_every: steps from one line of metrics.jsonl to the next.
    hours: wall time in all, over all starts of the run, whatever it goes to until the last step;
        the learning rate follows the share of it that is spent.
    epochs: how often as many records are drawn as the mixture has; they become steps before
        training.
    """

    steps: CountOrZero
    seed: Annotated[int, Range(0, 2**32 - 1)]
    accumulate: Annotated[int, Range(1, 2**20)]
    max_skipped: CountOrZero
    log_every: Count
    hours: Annotated[float, Range(1e-4, 1e5, also=0, meaning="no end by time")] = 0.0
    epochs: Annotated[float, Range(1e-4, 1e6, also=0, meaning="no end by epochs")] = 0.0

    def __post_init__(self):
        given = {key: getattr(self, key) for key in ENDS if getattr(self, key)}
        if not given:
            raise ConfigError(
                "config.train.steps: is 0, and so are hours and epochs; one of the three must be "
                "above, for the run to end"
            )
        if len(given) > 1:
            told = " and ".join(f"config.train.{key} = {value:g}" for key, value in given.items())
            raise ConfigError(
                f"config.train.{next(iter(given))}: a run ends by steps, hours or epochs, and "
                f"{told} are given; set all but one of them to 0"
            )


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
    answers: whether an evaluation has the model answer, and scores that.
    loss: whether it measures the loss per token, with each record's own clips and with another's.
    loss_every: steps from one measurement of the loss alone to the next, since that costs much less
        than answers; 0 measures it with the evaluations only.
    data: the corpus to evaluate on, a folder in `config.data.root`; "" is all of the mixture that
        have a validation split.
    limit: records of a corpus at most, spread evenly over the split; 0 is all.
    rows: prompts answered together, by all processes; fewer where prompts are long.
    max_new_tokens: longest answer, in tokens.
    examples: validation examples shown in the report.
    controls: whether conversations are answered twice more, with silence in place of each clip, and
        with another conversation's clips: what they are worth.
    before: whether the start is evaluated too, before the first step, so that the table has both:
        what was learned, and what was forgotten. It needs `config.init_from`.
    beside: corpora in `config.data.root` that are evaluated on beside those of the mixture, though
        nothing of them is trained on.
    """

    every: CountOrZero
    data: Annotated[str, Folder(or_empty=True)]
    limit: CountOrZero
    rows: Annotated[int, Range(1, 4096)]
    max_new_tokens: Annotated[int, Range(1, 65_536)]
    examples: Annotated[int, Range(0, 100_000)]
    answers: bool = True
    loss: bool = True
    loss_every: CountOrZero = 0
    controls: bool = False
    before: bool = False
    beside: Annotated[tuple[Annotated[str, Folder()], ...], Example('("talks", "synthetic")')] = ()

    def __post_init__(self):
        if self.data and self.beside:
            raise ConfigError(
                f"config.evaluate.beside: has a meaning beside the mixture's corpora, and "
                f"config.evaluate.data names {self.data!r} in their place; leave one of them empty"
            )


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
        evaluate: answers to a validation split, scored by each task's own metric, and the loss on
            it.
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
        lora: low-rank adapters (LoRA) beside the kernels of linear layers, which are then frozen as
            all else is: the adapters alone are trained, and stored in checkpoints.
        preference: what is learned of pairs of answers, one preferred to the other, by DPO and its
            kin. No paper says how Qwen2-Audio's was set; these values are this project's own.
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
    lora: LoraConfig
    preference: PreferenceConfig = NO_PREFERENCE

    def __post_init__(self):
        left_open = [axis for axis, size in self.mesh.items() if size == -1]
        if len(left_open) > 1:
            raise ConfigError(
                f"config.mesh: only one axis can take what the others leave, and "
                f"{' and '.join(left_open)} are -1"
            )
        named = [self.evaluate.data] if self.evaluate.data else self.evaluate.beside
        corpora = [*self.data.mixture, *named]
        for key in ("tasks", "languages"):
            for name in getattr(self.data, key):
                if name not in corpora:
                    raise ConfigError(
                        f"config.data.{key}: {name!r} is no corpus of config.data.mixture, which "
                        f"has {', '.join(self.data.mixture)}"
                    )
        self._check_preference()
        if self.profile.steps and 0 < self.train.steps <= self.profile.start:
            raise ConfigError(
                f"config.profile.start: {self.profile.start} steps are passed over and the run has "
                f"config.train.steps = {self.train.steps}, so that none would be profiled"
            )

    def _check_preference(self) -> None:
        if not self.preference:
            return
        if self.lora.dropout:
            raise ConfigError(
                "config.lora.dropout: must be 0 where config.preference compares two models, of "
                "which one would be drawn at random"
            )
        if self.preference.reference == "stored" and self.data.spec_augment != OFF:
            raise ConfigError(
                "config.data.spec_augment: stored references are of clips as they are, and these "
                "are changed in every epoch; switch it off, or take "
                "--config.preference.reference=online"
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
    """See `config_fields.refusal`: of a run's configuration."""
    return config_fields.refusal(RunConfig, key, value)


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
