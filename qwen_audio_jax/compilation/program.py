"""The text of a compiled program (HLO), read into computations of instructions."""

import dataclasses
import functools
import itertools
import math
import re

import numpy as np

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_ASSIGNED = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_OPERAND = re.compile(r"%([\w.\-]+(?:#\d+)?)")
_BRANCHES = re.compile(r"(?:branch|called)_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Array:
    """A type such as bf16[8,128]; `on_chip` if it lies in a memory other than the device's own."""

    dtype: str
    shape: tuple[int, ...]
    on_chip: bool

    @property
    def bytes(self) -> int:
        bits = _BITS.get(self.dtype)
        if bits is None:
            bits = int(re.sub(r"^\D*(\d+).*", r"\1", self.dtype))
        return math.prod(self.shape) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name, opcode: without `%`.
        parts: its type; the arrays of each part if it is a tuple.
        operands: names.
        text: the whole line after the operands.
        root: whether it is the computation's result.
    """

    name: str
    opcode: str
    parts: tuple[tuple[Array, ...], ...]
    operands: tuple[str, ...]
    text: str
    root: bool

    @functools.cached_property
    def result(self) -> tuple[Array, ...]:
        """All arrays of its type."""
        return tuple(itertools.chain.from_iterable(self.parts))

    @property
    def called(self) -> list[str]:
        """Names of the computations that it calls."""
        branches = _BRANCHES.search(self.text)
        named = re.findall(r"[\w.\-]+", branches[1]) if branches else []
        return _CALLED.findall(self.text) + named

    def attribute(self, name: str) -> str:
        """What stands behind `name=`: a computation, without `%`, or a number."""
        return re.search(rf"\b{name}=%?([\w.\-]+)", self.text)[1]


Computations = dict[str, dict[str, Instruction]]
"""Instructions by name, in their order, by computation."""


def read_program(text: str) -> tuple[Computations, str]:
    """Returns (the computations, the name of the one that is run).

    Raises:
        ValueError: this is no program.
    """
    computations: Computations = {}
    entry, current = "", {}
    for line in text.splitlines():
        if line[:1] in "%E" and (header := _HEADER.match(line)):
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif match := _ASSIGNED.match(line):
            instruction = _parse(match[2], match[3], bool(match[1]))
            for name in instruction.operands:
                if "#" in name:
                    current[name] = _part(name, current)
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("the compiled program's text has no entry computation")
    return computations, entry


def _part(name: str, computation: dict[str, Instruction]) -> Instruction:
    """What newer compilers write as `%tuple#1`, as the instruction that older ones wrote for it."""
    whole, _, number = name.partition("#")
    parts = (computation[whole].parts[int(number)],)
    return Instruction(name, "get-tuple-element", parts, (whole,), f"), index={number}", False)


def _parse(name: str, rest: str, root: bool) -> Instruction:
    """Splits `TYPE OPCODE(OPERANDS), ATTRIBUTES`."""
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    close = _closing("(" + rest, 0) - 1
    inside = rest[:close]
    operands = () if opcode in ("parameter", "constant") else tuple(_OPERAND.findall(inside))
    text = rest if opcode in ("parameter", "constant") else rest[close:]
    text = f"{inside})" if opcode == "parameter" else text
    return Instruction(name, opcode, _parts(kind), operands, text, root)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    raise ValueError(f"a bracket is not closed: {text[:80]}")


@functools.cache
def _parts(kind: str) -> tuple[tuple[Array, ...], ...]:
    """The arrays of each part of a tuple's type; of any other, its only one."""
    if not kind.startswith("("):
        return (_arrays(kind),)
    parts, depth, start = [], 0, 1
    for place, character in enumerate(kind):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 or (depth == 1 and character == ","):
            parts.append(_arrays(kind[start:place]))
            start = place + 1
    return tuple(parts)


@functools.cache
def _arrays(kind: str) -> tuple[Array, ...]:
    """The arrays of a type."""
    return tuple(
        Array(dtype, tuple(int(n) for n in shape.split(",") if n), "S(" in (layout or ""))
        for dtype, shape, layout in _ARRAY.findall(kind)
    )


@functools.cache
def _numbers(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(int(n) for n in group.split(",")) for group in re.findall(r"\{([\d,]+)\}", text)
    )


def groups_of(text: str) -> tuple[tuple[int, ...], ...]:
    """Of `{{0,1},{2,3}}`, of `[2,4]<=[4,2]T(1,0)`, of `mesh['x'=2,'y'=4] {'y'}`, and more."""
    if match := re.search(r"(?:replica_groups|source_target_pairs)=(\{\{.*?\}\})", text):
        return _numbers(match[1])
    if match := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, of, turned = (
            [int(n) for n in part.split(",")] if part else [] for part in match.groups()
        )
        return _grid(tuple(shape), tuple(of), tuple(turned))
    if match := re.search(
        r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", text
    ):
        return _along(*match.groups())
    raise ValueError(f"the devices of a collective cannot be read: {text[:200]}")


@functools.cache
def _grid(
    shape: tuple[int, ...], of: tuple[int, ...], turned: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """Numbers from 0 in a grid of shape `of`, its axes turned, as rows of length shape[-1]."""
    grid = np.arange(math.prod(of)).reshape(of)
    grid = grid.transpose(turned) if turned else grid
    return tuple(map(tuple, grid.reshape(-1, shape[-1]).tolist()))


@functools.cache
def _along(axes: str, devices: str | None, named: str) -> tuple[tuple[int, ...], ...]:
    """The groups along some axes of a mesh.

    Args:
        axes: `'x'=2,'y'=4`.
        devices: their numbers, if they do not just count: `0,2,1,3`, or `[2,2]T(1,0)`.
        named: `'y'` for groups along an axis, `'y':(2)2` along a part of one: its length, behind
            the length of what precedes it.
    """
    sizes = {axis: int(size) for axis, size in re.findall(r"(\w+)'?=(\d+)", axes)}
    place = np.arange(math.prod(sizes.values()))
    numbers = place
    if devices and (turned := re.fullmatch(r"\[([\d,]+)\]T\(([\d,]+)\)", devices)):
        of, order = (tuple(int(n) for n in part.split(",")) for part in turned.groups())
        numbers = np.ravel(_grid((len(place),), of, order))
    elif devices:
        numbers = np.array([int(n) for n in devices.split(",")])
    group, member = place, np.zeros_like(place)
    for axis, before, size in re.findall(r"(\w+)'?(?::\((\d+)\)(\d+))?", named):
        names = list(sizes)
        behind = math.prod(sizes[other] for other in names[names.index(axis) + 1 :])
        size = int(size or sizes[axis])
        step = behind * sizes[axis] // (int(before or 1) * size)
        mine = place // step % size
        group, member = group - mine * step, member * size + mine
    ordered = numbers[np.lexsort((member, group))]
    return tuple(map(tuple, ordered.reshape(-1, member.max() + 1).tolist()))
