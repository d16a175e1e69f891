"""The linear layers of an original, by the names of its modules, as PEFT adapts them."""

import dataclasses
import re
from collections.abc import Collection, Iterable

from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.names import Row
from qwen_audio_jax.conversion.shapes import parameter_shapes
from qwen_audio_jax.models.parts import Parts

SPELLINGS = ("5", "4")
"""Qwen2-Audio's modules are called otherwise in transformers 5 than in 4."""

PREFIX = "base_model.model."
"""Before every tensor's name in a PEFT folder."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear layer, or one in every layer of a stack.

    Attributes:
        name: of the module; `{}` stands for the layer.
        paths: of the linear layers that it becomes: several where it is fused, in order.
        layers: how many there are; 0 where it is not in a stack.
        inputs, outputs: its sizes; all outputs, where it is fused.
    """

    name: str
    paths: tuple[str, ...]
    layers: int
    inputs: int
    outputs: int

    @property
    def modules(self) -> list[str]:
        """Names of its modules, in the order of layers."""
        return [self.name.format(layer) for layer in range(max(1, self.layers))]


def rows_of(parts: Parts, spelling: str) -> tuple[Row, ...]:
    """The rows of a whole model in a spelling, head last."""
    if parts.family == "qwen_audio":
        return names.qwen_audio(parts.decoder)
    return names.qwen2_audio(parts.decoder, in_memory=spelling == "5")


def module_of(row: Row) -> str:
    """The name of the module that has a row's tensor."""
    return row.name.rpartition(".")[0]


def linears(parts: Parts, spelling: str) -> list[Linear]:
    """The linear layers that can have adapters here: all but the head."""
    shapes = parameter_shapes(dataclasses.replace(parts, adapters=()))
    rows: dict[str, list[Row]] = {}
    for row in rows_of(parts, spelling):
        if row.layout == "linear" and row.path.endswith("/kernel"):
            rows.setdefault(module_of(row), []).append(row)
    found = []
    for name, fused in rows.items():
        *layers, inputs, outputs = shapes[fused[0].path]
        paths = tuple(row.path.removesuffix("/kernel") for row in fused)
        found.append(Linear(name, paths, sum(layers), inputs, outputs * len(fused)))
    return found


def target_modules(wanted: Collection[Linear], parts: Parts, spelling: str) -> list[str] | str:
    """What adapter_config.json says of the layers that are adapted.

    The ends of their names, as other programs like it best; but only where no other module has the
    same end, as `q_proj` of the decoder is `q_proj` of the encoder too. Else an expression.
    """
    mine = {linear.name for linear in wanted}
    modules = {module_of(row) for row in rows_of(parts, spelling)}
    around = {".".join(words[:n]) for words in map(_words, modules) for n in range(1, len(words))}
    ends = [_end(name, (modules | around) - mine) for name in mine]
    return sorted({*ends}) if all(ends) else expression(linear.name for linear in wanted)


def _words(name: str) -> list[str]:
    return name.split(".")


def _end(name: str, others: Iterable[str]) -> str:
    """The shortest end of a module's name, behind the layer's number, that no other has, or ""."""
    words = _words(name.rpartition("{}.")[2])
    ends = (".".join(words[first:]) for first in reversed(range(len(words))))
    # A number alone is a layer of any stack.
    ends = (end for end in ends if not end.isdigit())
    return next((e for e in ends if not any(f".{o}".endswith(f".{e}") for o in others)), "")


def expression(modules: Iterable[str]) -> str:
    """A regular expression that fits these modules in every layer, and no other."""
    ends: dict[str, list[str]] = {}
    for name in modules:
        before, _, end = name.rpartition("{}.")
        ends.setdefault(before, []).append(re.escape(end))
    stacks = [
        re.escape(before) + r"\d+\." * bool(before) + _any_of(found)
        for before, found in ends.items()
    ]
    return _any_of(stacks)


def _any_of(expressions: list[str]) -> str:
    return expressions[0] if len(expressions) == 1 else f"({'|'.join(expressions)})"
