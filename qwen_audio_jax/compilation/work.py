"""What a compiled step does: products, memory traffic, collectives.

XLA's own cost analysis counts the body of a loop once. Here each instruction counts as often as
the loops around it run; of a conditional, every branch counts.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

import numpy as np

from qwen_audio_jax.compilation.program import Array, Instruction, groups_of, read_program

COLLECTIVES = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "collective-permute",
)

_BETWEEN_SLICES = "xla_megascale_runtime"
"""Who takes part in a collective of several slices: the hosts, to which a device sends its share
and from which it receives the result."""

_NO_TRAFFIC = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("while", "conditional", "call", "partition-id", "replica-id", "async-start", "async-update"),
}
"""Of these nothing is read or written, or their computations tell."""

_ITSELF = "output_to_operand_aliasing={{}: (0, {})}"
"""Of a fusion in a fusion: it hands on the array that it is given."""

_DONE = 'custom_call_target="AsyncCollectiveDone"'
"""Of a fusion's root: it waits for a collective that another fusion began."""


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective, as often as a step runs it.

    Attributes:
        kind: one of COLLECTIVES, or such a one "between slices".
        received: bytes that a device receives each time.
        groups: the devices that take part together, by their numbers in the program; for a
            permutation the pairs of source and target; none between slices.
        times: how often a step runs it.
    """

    kind: str
    received: float
    groups: tuple[tuple[int, ...], ...]
    times: int


@dataclasses.dataclass(frozen=True)
class Work:
    """What a device does in a step.

    Attributes:
        flops: of products of matrices, custom kernels not counted.
        bytes: read from and written to the device's memory.
        collectives: every one.
        kernels: custom kernels by name, and how often each runs, with the type of its result.
    """

    flops: float
    bytes: float
    collectives: tuple[Collective, ...]
    kernels: tuple[tuple[str, tuple[Array, ...], int], ...]


def work_of(text: str, open_trips: int = 1) -> Work:
    """Reads `compiled.as_text()`.

    Args:
        text: the program's.
        open_trips: how often a loop runs whose length the data decides.

    Raises:
        ValueError: it is unlike what this was written for: a loop whose length cannot be told, say.
    """
    return _Program(text, open_trips).work()


class _Program:
    """The computations of a program."""

    def __init__(self, text: str, open_trips: int):
        self.open_trips = open_trips
        self.computations, self.entry = read_program(text)

    def work(self) -> Work:
        flops = traffic = 0.0
        collectives: dict[str, Collective] = {}
        kernels = collections.Counter()
        for instruction, times, computation, fused in self._run(self.entry, 1, False):
            if instruction.opcode in ("dot", "convolution"):
                flops += times * self._product(instruction, computation)
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                made = self._collective(kind, instruction, computation, times)
                # The parts of one that runs beside other work all have its channel.
                channel = re.search(r"channel_id=(\d+)", instruction.text)
                collectives.setdefault(channel[1] if channel else instruction.name, made)
            if instruction.opcode == "recv" and _BETWEEN_SLICES in instruction.text:
                collectives[instruction.name] = _between_slices(instruction, times)
            if not fused:
                traffic += times * self._traffic(instruction, computation)
                if 'custom_call_target="tpu_custom_call"' in instruction.text:
                    kernels[instruction.name, instruction.result] += times
        named = tuple((name, result, times) for (name, result), times in kernels.items())
        return Work(flops, traffic, tuple(collectives.values()), named)

    def _run(
        self, name: str, times: int, fused: bool
    ) -> Iterator[tuple[Instruction, int, str, bool]]:
        """Every instruction that runs: itself, how often, its computation, whether in a fusion."""
        for instruction in self.computations[name].values():
            yield instruction, times, name, fused
            if instruction.opcode == "while":
                inner = times * self._trips(instruction)
            elif instruction.opcode in (
                "reduce",
                "scatter",
                "sort",
                "all-reduce",
                "reduce-scatter",
            ):
                continue  # what they call is done once an element
            else:
                inner = times
            within = fused or instruction.opcode == "fusion"
            for called in instruction.called:
                if called in self.computations:
                    yield from self._run(called, inner, within)

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs: a counter from 0 is compared with a constant, and adds another."""
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.text):
            return int(known[1])
        condition, body = (
            self.computations[loop.attribute(part)] for part in ("condition", "body")
        )
        (compare,) = (i for i in condition.values() if i.root)
        counter, limit = (condition[name] for name in compare.operands)
        if limit.opcode != "constant":
            return self.open_trips
        (root,) = (i for i in body.values() if i.root)
        added = _behind_bitcasts(body[root.operands[int(counter.attribute("index"))]], body)
        terms = [_behind_bitcasts(body[name], body) for name in added.operands]
        steps = [term for term in terms if term.opcode == "constant"]
        if added.opcode != "add" or len(steps) != 1 or "direction=LT" not in compare.text:
            raise ValueError(f"cannot tell how often the loop {loop.name} runs")
        return -(-_constant(limit) // _constant(steps[0]))

    def _product(self, of: Instruction, computation: str) -> float:
        """FLOPs of a product of matrices: 2 a multiply-add."""
        here = self.computations[computation]
        results = math.prod(of.result[0].shape)
        if of.opcode == "dot":
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", of.text)[1]
            shape = here[of.operands[0]].result[0].shape
            return 2 * results * math.prod(shape[int(axis)] for axis in axes.split(",") if axis)
        input_labels, kernel_labels, result_labels = re.search(
            r"dim_labels=(\w+)_(\w+)->(\w+)", of.text
        ).groups()
        image, kernel = (here[name].result[0].shape for name in of.operands[:2])
        flops = 2 * kernel[kernel_labels.index("i")]
        for label, size in zip(result_labels, of.result[0].shape, strict=True):
            if label in "bf":
                flops *= size
            else:
                window = _window(of.text, int(label))
                taps = kernel[kernel_labels.index(label)]
                flops *= _terms(size, image[input_labels.index(label)], taps, **window)
        return flops

    def _collective(self, kind: str, of: Instruction, computation: str, times: int) -> Collective:
        groups = groups_of(of.text)
        size = sum(array.bytes for array in of.result)
        if of.opcode.endswith("-start") and kind != "all-reduce":
            size = max(array.bytes for array in of.result)  # it returns what it was given, too
        if kind == "collective-permute":
            return Collective(kind, size, groups, times)
        others = 1 - 1 / len(groups[0])
        if kind == "all-reduce" and self._is_cut(of, computation):
            kind = "reduce-scatter"
        if of.opcode == "reduce-scatter":
            size *= len(groups[0])
        rounds = 2 if kind == "all-reduce" else 1
        return Collective(kind, rounds * size * others, groups, times)

    def _is_cut(self, of: Instruction, computation: str) -> bool:
        """Whether only a device's own part of a sum is taken, in the same fusion."""
        users = [i for i in self.computations[computation].values() if of.name in i.operands]
        return bool(users) and all(i.opcode == "dynamic-slice" for i in users)

    def _traffic(self, of: Instruction, computation: str) -> float:
        """Bytes read from and written to memory by an instruction that is not in a fusion."""
        if of.opcode in _NO_TRAFFIC or of.opcode.endswith("-done"):
            return 0
        if "called_computations={" in of.text:
            return 0  # a collective that other cores of the chip take over, which it calls
        here = self.computations[computation]
        if of.opcode in ("copy-start", "slice-start"):  # one of the two ends is on the chip
            moved = min(array.bytes for array in of.result if array.shape)
            return moved * sum(not array.on_chip for array in of.result if array.shape)
        if of.opcode == "fusion":
            return self._traffic_of_fusion(of, here)
        if of.opcode in ("dynamic-slice", "slice", "gather"):
            (source,), (result,) = here[of.operands[0]].result, of.result
            return result.bytes * (not source.on_chip) + _in_memory(of.result)
        if of.opcode == "dynamic-update-slice":
            return 2 * _in_memory(here[of.operands[1]].result)
        return _in_memory(of.result) + sum(
            _in_memory(here[name].result) for name in of.operands if name in here
        )

    def _traffic_of_fusion(self, of: Instruction, here: dict[str, Instruction]) -> float:
        name = of.attribute("calls")
        if _DONE in next(i.text for i in self.computations[name].values() if i.root):
            return 0  # counted where it began
        begun = self._in_flight(of)
        read = 0.0
        for number, operand in enumerate(of.operands):
            arrays = here[operand].result
            if arrays and number not in begun.values():
                read += min(self._read(name, number), _in_memory(arrays))
        written = zip(self._written(name, len(of.result)), of.result, strict=True)
        return read + sum(
            min(size, _in_memory((array,)))
            for number, (size, array) in enumerate(written)
            if number not in begun
        )

    def _in_flight(self, of: Instruction) -> dict[int, int]:
        """Of a fusion that runs beside a collective: the buffers of that, which it hands on.

        Returns:
            Their places among its results, and among its operands.
        """
        body = self.computations[of.attribute("calls")].values()
        (root,) = (i for i in body if i.root)
        aliases = re.search(r"output_to_operand_aliasing=\{(.*?\))\}", of.text)
        if not aliases or root.opcode != "tuple":
            return {}
        parameters = {int(i.text[:-1]): i.name for i in body if i.opcode == "parameter"}
        flying = {i.name for i in body if i.opcode in COLLECTIVES}
        computed = [i for i in body if i is not root and i.name not in flying]
        used = {name for i in computed for name in i.operands}
        found = {}
        for place, number in re.findall(r"\{(\d+)\}: \((\d+), \{\}", aliases[1]):
            result, operand = root.operands[int(place)], parameters[int(number)]
            if (result in flying or result == operand) and not used.intersection((result, operand)):
                found[int(place)] = int(number)
        return found

    @functools.cache  # noqa: B019 - a program is read once
    def _read(self, name: str, number: int) -> float:
        """Bytes that a fusion reads of a parameter: slices of it, where it only takes those."""
        body = self.computations[name]
        parameter = next(
            i for i in body.values() if i.opcode == "parameter" and i.text == f"{number})"
        )
        same, total = {parameter.name}, 0.0
        for user in (i for i in body.values() if same.intersection(i.operands)):
            if user.opcode in ("dynamic-slice", "slice", "gather"):
                total += sum(array.bytes for array in user.result)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] in same:
                continue  # written in place
            elif _ITSELF in user.text and not user.root:
                same.add(user.name)
            elif user.opcode == "fusion":
                inner = user.attribute("calls")
                places = [i for i, name in enumerate(user.operands) if name in same]
                total += sum(self._read(inner, place) for place in places)
            else:
                return math.inf
        return total

    def _written(self, name: str, results: int) -> list[float]:
        """Bytes that a fusion writes of each result: of a larger array, the update."""
        body = self.computations[name]
        (root,) = (i for i in body.values() if i.root)
        root = _behind_bitcasts(root, body)
        if root.opcode == "fusion":
            return self._written(root.attribute("calls"), results)
        parts = [body[part] for part in root.operands] if root.opcode == "tuple" else [root]
        if len(parts) != results:  # tuples in tuples
            return [math.inf] * results
        return [_update(part, body) for part in parts]


def _behind_bitcasts(of: Instruction, body: dict[str, Instruction]) -> Instruction:
    while of.opcode in ("bitcast", "copy") and of.operands[0] in body:
        of = body[of.operands[0]]
    return of


def _update(of: Instruction, body: dict[str, Instruction]) -> float:
    """Bytes of what is written into a larger array, if it is that."""
    of = _behind_bitcasts(of, body)
    if of.opcode != "dynamic-update-slice":
        return math.inf
    return sum(array.bytes for array in body[of.operands[1]].result)


def _window(text: str, axis: int) -> dict[str, int]:
    """How a convolution moves along one of its axes."""
    window = re.search(r"window=\{([^}]*)\}", text)[1]
    found = dict(part.split("=") for part in window.split())
    return {
        "before": int(found["pad"].split("x")[axis].split("_")[0]) if "pad" in found else 0,
        **{
            name: int(found[name].split("x")[axis]) if name in found else 1
            for name in ("stride", "lhs_dilate", "rhs_dilate")
        },
    }


@functools.cache
def _terms(
    results: int, inputs: int, taps: int, before: int, stride: int, lhs_dilate: int, rhs_dilate: int
) -> int:
    """Products along one axis of a convolution: those with padding, or between inputs, are none.

    The compiler writes products of matrices with several axes as convolutions that are mostly that.
    """
    place = np.arange(results)[:, None] * stride + np.arange(taps) * rhs_dilate - before
    inside = (place >= 0) & (place < (inputs - 1) * lhs_dilate + 1)
    return int(np.count_nonzero(inside & (place % lhs_dilate == 0)))


def _constant(of: Instruction) -> int:
    return int(re.match(r"\d+", of.text)[0])


def _in_memory(arrays: tuple[Array, ...]) -> int:
    return sum(array.bytes for array in arrays if not array.on_chip)


def _between_slices(of: Instruction, times: int) -> Collective:
    """What a device's host passes to it of a collective, counted as if the hosts formed a ring."""
    kind = re.search(r'_megascale_transfer_type="(\w+)"', of.text)[1].lower().replace("_", "-")
    slices = re.search(r'_megascale_target="\{([\d,]+)\}', of.text)[1].count(",") + 1
    rounds = {"all-reduce": 2 * (1 - 1 / slices), "reduce-scatter": slices - 1}
    size = max(array.bytes for array in of.result)
    received = size * rounds.get(kind, 1 - 1 / slices)
    return Collective(f"{kind} between slices", received, (), times)
