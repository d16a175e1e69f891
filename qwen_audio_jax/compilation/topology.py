"""TPU slices that a program is compiled for, and how the 7-billion presets run on each."""

import dataclasses
import math
import re
from typing import Any, NamedTuple

from qwen_audio_jax.monitoring.chips import CHIPS, Chip


@dataclasses.dataclass(frozen=True)
class Topology:
    """One slice, or several alike.

    Attributes:
        generation: a key of CHIPS.
        shape: chips along each axis of a slice.
        slices: how many.
    """

    generation: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Chip:
        return CHIPS[self.generation]

    @property
    def chips(self) -> int:
        return self.slices * math.prod(self.shape)

    @property
    def device_count(self) -> int:
        """What JAX calls devices."""
        return self.chips * self.chip.devices

    def __str__(self) -> str:
        name = f"{self.generation}:{'x'.join(map(str, self.shape))}"
        return name if self.slices == 1 else f"{self.slices}x {name}"

    def devices(self) -> list[Any]:
        """The devices that a program is compiled for; none need be there.

        Raises:
            ValueError: there is no such slice.
            ImportError: the TPU compiler is not installed.
        """
        from jax.experimental import topologies

        options = dict(self.chip.options)
        if self.slices > 1:
            options["num_slices"] = self.slices
        name = str(dataclasses.replace(self, slices=1))
        try:
            found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
        except Exception as error:
            reason = str(error).splitlines()[0]
            if "not installed" in reason:
                raise ImportError(
                    "the TPU compiler is missing: pip install 'qwen-audio-jax[tpu]'"
                ) from error
            raise ValueError(f"--topology: there is no {name} ({reason})") from error
        return list(found.devices)


def parse_topology(text: str) -> Topology:
    """Reads "v5p:4x4x4" or "2x v5e:16x16".

    Raises:
        ValueError: it is neither; the sentence says what is known.
    """
    match = re.fullmatch(r"(?:(\d+)x )?(\w+):(\d+(?:x\d+)+)", text.strip())
    if not match or match[2] not in CHIPS:
        raise ValueError(
            f"--topology: {text!r} is none; it should look like v5p:4x4x4 or '2x v5e:16x16', with "
            f"one of {', '.join(CHIPS)}"
        )
    shape = tuple(map(int, match[3].split("x")))
    if len(shape) != CHIPS[match[2]].axes or 0 in shape:
        raise ValueError(
            f"--topology: {text!r} is none; a slice of {match[2]} has {CHIPS[match[2]].axes} axes"
        )
    return Topology(match[2], shape, int(match[1] or 1))


TOKENS, FRAMES = 2048, 7168
"""Of a row: Qwen-Audio's trained length, and as many frames as usual corpora have for that."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """How a preset runs on a slice: rows of a batch, micro-batches, remat, mesh, adapters.

    Attributes:
        rows: of TOKENS and FRAMES; 2,048 of them are 4.2 million tokens of the decoder.
        accumulate: micro-batches.
        remat: one of `layers.REMAT`.
        replica, tensor: of the mesh; fsdp takes the rest.
        lora_rank: of the adapters that alone are trained; 0 trains all weights.
    """

    rows: int
    accumulate: int
    remat: str
    replica: int = 1
    tensor: int = 1
    lora_rank: int = 0


class Place(NamedTuple):
    """What runs where: a configuration's name in configs/, one of its presets, and a slice."""

    config: str
    preset: str
    topology: str

    @property
    def name(self) -> str:
        """As `--config` takes it, behind the folder."""
        return f"{self.config}.py:{self.preset}@{self.topology}"


SETUPS: dict[Place, Setup] = {
    Place("pretrain", "qwen2_audio_7b", "v4:4x4x4"): Setup(2048, 16, "dots"),
    Place("pretrain", "qwen2_audio_7b", "v5e:16x16"): Setup(2048, 8, "dots"),
    Place("pretrain", "qwen2_audio_7b", "v5p:4x4x4"): Setup(2048, 4, "dots"),
    Place("pretrain", "qwen2_audio_7b", "v6e:16x16"): Setup(2048, 4, "dots"),
    Place("pretrain", "qwen2_audio_7b", "2x v5e:16x16"): Setup(2048, 4, "dots", replica=2),
    Place("pretrain", "qwen2_audio_7b", "tpu7x:4x4x4"): Setup(2048, 2, "dots"),
    Place("pretrain", "qwen_audio_7b", "v4:4x4x4"): Setup(2048, 16, "dots"),
    Place("pretrain", "qwen_audio_7b", "v5e:16x16"): Setup(2048, 8, "dots"),
    Place("pretrain", "qwen_audio_7b", "v5p:4x4x4"): Setup(2048, 4, "dots"),
    Place("pretrain", "qwen_audio_7b", "v6e:16x16"): Setup(2048, 4, "dots"),
    Place("pretrain", "qwen_audio_7b", "2x v5e:16x16"): Setup(2048, 4, "dots", replica=32),
    Place("pretrain", "qwen_audio_7b", "tpu7x:4x4x4"): Setup(2048, 2, "dots"),
    Place("sft", "qwen2_audio_7b", "v5p:4x4x4"): Setup(64, 1, "dots"),
    Place("sft", "qwen2_audio_7b", "v5p:2x2x1"): Setup(64, 4, "dots", lora_rank=16),
    Place("sft", "qwen2_audio_7b", "v5e:4x4"): Setup(64, 4, "dots", lora_rank=16),
    Place("dpo", "qwen2_audio_7b", "v5p:2x2x1"): Setup(64, 4, "dots", lora_rank=16),
    Place("dpo", "qwen2_audio_7b", "v5e:4x4"): Setup(64, 4, "dots", lora_rank=16),
}
"""Each compiles and fits, by `pytest -m tpu_aot`."""


def setup_of(place: Place) -> Setup:
    """How a preset runs on a slice.

    Raises:
        ValueError: nobody has found out; the sentence lists what is known.
    """
    if place not in SETUPS:
        known = ", ".join(one.topology for one in SETUPS if one[:2] == (place.config, place.preset))
        raise ValueError(
            f"--config: {place.name} is not set up (for {place.preset}: {known or 'none'}); give "
            "mesh, batch and remat yourself, or find them with compile_report --search"
        )
    return SETUPS[place]
