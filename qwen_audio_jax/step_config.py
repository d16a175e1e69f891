"""What of the configuration a compiled step depends on: the optimizer, adapters, the mesh."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated

from qwen_audio_jax.config_fields import (
    ConfigError,
    Example,
    Factor,
    Items,
    OneOf,
    Range,
    RegularExpression,
)

MESH_AXES = ("replica", "fsdp", "tensor")

MOST = 2**31 - 1
"""Steps, and positions in a batch, are counted in int32."""

CHOSEN, REJECTED = 0, 1
"""The two answers of a preference pair, in this order wherever there are two."""

Count = Annotated[int, Range(1, MOST)]
CountOrZero = Annotated[int, Range(0, MOST)]


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
        last four. Each must be found in a path, and leave something to train. `("auto",)` is what
        the originals froze when they tuned: the encoder of Qwen-Audio, nothing of Qwen2-Audio.
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


LOSSES = ("sigmoid", "hinge", "ipo", "robust")
"""Of preference tuning, see `training/preference.py`."""


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
    """Attributes:
    loss: "off" learns tokens; the others learn which of two answers is preferred: "sigmoid" is DPO
        (Rafailov et al., 2023), "hinge" SLiC's loss on DPO's margin, "ipo" IPO (Azar et al., 2023)
        on log-probabilities per token, "robust" DPO for labels that are wrong at a known rate
        (Chowdhury et al., 2024).
    beta: how far the model may move from the reference: the smaller, the farther.
    label_smoothing: the share of pairs that are taken to be the wrong way round; of "sigmoid" and
        "robust".
    sft_weight: how much the loss per token of the chosen answer counts beside, of each pair alike
        (Pang et al., 2024).
    reference: what the answers' log-probabilities are compared with: "stored" are those of what the
        run starts from, computed once before the first step; "online" are the same, computed in
        every step; "none" are 0.
    layout: how a pair lies in a row: "branches" has the prompt once and both answers behind it,
        "apart" has it twice; clips are encoded once in both. "auto" is "branches".
    """

    loss: Annotated[str, OneOf(("off", *LOSSES))] = "off"
    beta: Annotated[float, Range(1e-6, 1e3)] = 0.1
    label_smoothing: Annotated[float, Range(0, 0.49)] = 0.0
    sft_weight: Annotated[float, Range(0, 1e3)] = 0.0
    reference: Annotated[str, OneOf(("stored", "online", "none"))] = "stored"
    layout: Annotated[str, OneOf(("auto", "branches", "apart"))] = "auto"

    def __post_init__(self):
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise ConfigError(
                f"config.preference.label_smoothing: has a meaning for sigmoid and robust alone, "
                f"and config.preference.loss is {self.loss}; leave it at 0"
            )
        if self.loss == "robust" and not self.label_smoothing:
            raise ConfigError(
                "config.preference.label_smoothing: is 0, with which the loss robust is sigmoid; "
                "give the share of pairs that are the wrong way round, or take sigmoid"
            )

    def __bool__(self) -> bool:
        return self.loss != "off"

    @property
    def pairs(self) -> str:
        """The layout of pairs, one of `pairs.LAYOUTS`; "" where none are learned."""
        if not self:
            return ""
        return "branches" if self.layout == "auto" else self.layout


NO_PREFERENCE = PreferenceConfig()

DECODER_LINEARS = r"^decoder/blocks/(query|key|value|out|gate|up|down)$"


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Attributes:
    rank: of the matrices beside each targeted kernel; at most its smaller side. 0 is off: all is
        trained that `config.optimizer.frozen` does not hold.
    alpha: what they add is multiplied by alpha / rank.
    targets: regular expressions; a linear layer is adapted if one is found in its path, which is
        its kernel's without `/kernel`: `^encoder/blocks/` adapts the six of the encoder's blocks,
        `^projector$` the projector. Each must be found in one.
    rslora: whether the factor is alpha / sqrt(rank) instead.
    rank_pattern: regular expression -> another rank for the targets in whose path it is found. Each
        must be found in one; two in the same one must agree.
    alpha_pattern: another alpha, likewise.
    dropout: the share of what enters the added matrices that is set to 0 in training, drawn for
        each step anew.
    train: regular expressions; a parameter of the model itself is trained beside the adapters if
        one is found in its path, as a new projector must be: `^projector/`. All others are frozen,
        but for what `config.optimizer.train_new_tokens` trains of them.
    """

    rank: Annotated[int, Range(0, 65_536)] = 0
    alpha: Annotated[float, Range(1e-6, 1e6)] = 16.0
    targets: Annotated[
        tuple[Annotated[str, RegularExpression()], ...],
        Items(1, 1000),
        Example('("^decoder/blocks/(query|value)$",)'),
    ] = (DECODER_LINEARS,)
    rslora: bool = False
    rank_pattern: Annotated[
        Mapping[Annotated[str, RegularExpression()], Annotated[int, Range(1, 65_536)]],
        Example('{"/query$": 32}'),
    ] = dataclasses.field(default_factory=dict, hash=False)
    alpha_pattern: Annotated[
        Mapping[Annotated[str, RegularExpression()], Annotated[float, Range(1e-6, 1e6)]],
        Example('{"/query$": 64}'),
    ] = dataclasses.field(default_factory=dict, hash=False)
    dropout: Annotated[float, Range(0, 0.95)] = 0.0
    train: Annotated[
        tuple[Annotated[str, RegularExpression()], ...], Example('("^projector/",)')
    ] = ()
