"""What is read off a compiled program is what the program was written to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import on_eight_devices
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.compilation.program import Array, groups_of
from qwen_audio_jax.compilation.work import _terms, work_of
from qwen_audio_jax.parallel.sharding import AXES, make_mesh

LAYERS, ROWS, WIDTH = 5, 8, 16


def layers(x, weights):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]


def shapes(**shardings):
    return (
        jax.ShapeDtypeStruct((ROWS, WIDTH), "float32", sharding=shardings.get("x")),
        jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), "float32", sharding=shardings.get("w")),
    )


def read(function, *arguments, **options):
    return work_of(jax.jit(function).lower(*arguments).compile().as_text(), **options)


def test_a_loop_counts_as_often_as_it_runs():
    assert read(layers, *shapes()).flops == LAYERS * 2 * ROWS * WIDTH**2


def test_a_loop_in_a_loop():
    def twice(x, weights):
        return jax.lax.fori_loop(0, 3, lambda _, x: layers(x, weights), x)

    assert read(twice, *shapes()).flops == 3 * LAYERS * 2 * ROWS * WIDTH**2


def test_a_loop_whose_counter_and_step_are_copied():
    """As the TPU's compiler does where the counter's old value is still needed."""
    work = work_of("""HloModule step

%body (state: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %state = (s32[], f32[8,8]{1,0}) parameter(0)
  %number = s32[] get-tuple-element(%state), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%state), index=1
  %one = s32[] constant(1)
  %same = s32[] copy(%one)
  %next = s32[] add(%number, %same)
  %copied = s32[] copy(%next)
  %y = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %both = (s32[], f32[8,8]{1,0}) tuple(%copied, %y)
}

%more (state.1: (s32[], f32[8,8])) -> pred[] {
  %state.1 = (s32[], f32[8,8]{1,0}) parameter(0)
  %number.1 = s32[] get-tuple-element(%state.1), index=0
  %end = s32[] constant(6)
  ROOT %less = pred[] compare(%number.1, %end), direction=LT
}

ENTRY %main (first: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %first = (s32[], f32[8,8]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[8,8]{1,0}) while(%first), condition=%more, body=%body
}
""")
    assert work.flops == 6 * 2 * 8**3


def test_parts_of_tuples_as_newer_compilers_write_them():
    work = work_of("""HloModule step

%body (state: ((f32[4], f32[4]), s32[], f32[8,8])) -> ((f32[4], f32[4]), s32[], f32[8,8]) {
  %state = ((f32[4], f32[4]), s32[], /*index=2*/f32[8,8]) parameter(0)
  %one = s32[] constant(1)
  %next = s32[] add(%state#1, %one)
  %y = f32[8,8] dot(%state#2, %state#2), lhs_contracting_dims={1}, rhs_contracting_dims=
  ROOT %all = ((f32[4], f32[4]), s32[], f32[8,8]) tuple(%state#0, %next, %y)
}

%more (state.1: ((f32[4], f32[4]), s32[], f32[8,8])) -> pred[] {
  %state.1 = ((f32[4], f32[4]), s32[], f32[8,8]) parameter(0)
  %end = s32[] constant(6)
  ROOT %less = pred[] compare(%state.1#1, %end), direction=LT
}

ENTRY %main (first: ((f32[4], f32[4]), s32[], f32[8,8])) -> ((f32[4], f32[4]), s32[], f32[8,8]) {
  %first = ((f32[4], f32[4]), s32[], f32[8,8]) parameter(0)
  ROOT %loop = ((f32[4], f32[4]), s32[], f32[8,8]) while(%first), condition=%more, body=%body
}
""")
    assert work.flops == 6 * 2 * 8**3
    assert work.bytes == 6 * (3 * 4 * 8**2 + 3 * 4) + 6 * (2 * 4 + 1)


def test_a_loop_whose_length_the_data_decides():
    def some(x, w, times):
        return jax.lax.fori_loop(0, times, lambda _, x: jnp.tanh(x @ w[0]), x)

    work = read(some, *shapes(), jax.ShapeDtypeStruct((), "int32"), open_trips=7)
    assert work.flops == 7 * 2 * ROWS * WIDTH**2


def test_the_backward_pass_costs_twice_the_forward_pass():
    def loss(x, weights):
        return layers(x, weights).sum()

    both = read(jax.value_and_grad(loss, (0, 1)), *shapes())
    assert both.flops == 3 * read(layers, *shapes()).flops
    again = jax.value_and_grad(jax.checkpoint(loss), (0, 1))
    assert read(again, *shapes()).flops == 4 * read(layers, *shapes()).flops


def test_memory_traffic_is_what_must_be_read_and_written():
    """Of a large sum, and of one slice of a large array in every turn of a loop."""
    n = 1 << 20
    plus = read(jnp.add, *[jax.ShapeDtypeStruct((n,), "float32")] * 2)
    assert plus.bytes == 3 * 4 * n

    def slices(x):
        def body(i, total):
            return total + jax.lax.dynamic_slice_in_dim(x, i, 1)[0]

        return jax.lax.fori_loop(0, 8, body, jnp.zeros(n // 8))

    taken = read(slices, jax.ShapeDtypeStruct((8, n // 8), "float32"))
    whole = 4 * n
    assert 3 * whole <= taken.bytes <= 6 * whole  # not eight times the array


IN_PLACE = """\
HloModule example

%fused (p0: f32[4,8], p1: f32[8], p2: s32[]) -> (f32[4,8], f32[8]) {
  %p0 = f32[4,8]{1,0} parameter(0)
  %p1 = f32[8]{0} parameter(1)
  %p2 = s32[] parameter(2)
  %row = f32[1,8]{1,0} bitcast(%p1)
  %zero = s32[] constant(0)
  %update = f32[4,8]{1,0} dynamic-update-slice(%p0, %row, %p2, %zero)
  %negate = f32[8]{0} negate(%p1)
  ROOT %both = (f32[4,8]{1,0}, f32[8]{0}) tuple(%update, %negate)
}

%moved (a: f32[4,8]) -> f32[1,8] {
  %a = f32[4,8]{1,0} parameter(0)
  ROOT %slice = f32[1,8]{1,0:S(1)} slice(%a), slice={[0:1], [0:8]}
}

ENTRY %main (x: f32[4,8], y: f32[8], i: s32[]) -> f32[8] {
  %x = f32[4,8]{1,0} parameter(0)
  %y = f32[8]{0} parameter(1)
  %i = s32[] parameter(2)
  %start = ((f32[4,8]{1,0}), f32[1,8]{1,0:S(1)}, s32[]) async-start(%x), calls=%moved
  %done = f32[1,8]{1,0:S(1)} async-done(%start)
  %fusion = (f32[4,8]{1,0}, f32[8]{0}) fusion(%x, %y, %i), kind=kLoop, calls=%fused
  ROOT %result = f32[8]{0} get-tuple-element(%fusion), index=1
}
"""


@pytest.mark.parametrize(
    ("dtype", "size"), [("token", 0), ("pred", 6), ("bf16", 12), ("f8e4m3fn", 6), ("s32", 24)]
)
def test_bytes_of_an_array(dtype, size):
    assert Array(dtype, (2, 3), on_chip=False).bytes == size


def test_of_an_array_that_is_written_in_place_a_row_counts():
    row, number = 8 * 4, 4
    fused = row + number + 2 * row  # reads the row and its place, writes the row and its negative
    moved = row  # read; it goes to a memory on the chip
    assert work_of(IN_PLACE).bytes == fused + moved


BESIDE = """\
HloModule example

%begin (a: f32[2,64]) -> (f32[2,64], f32[8,64], u32[]) {
  %a = f32[2,64]{1,0} parameter(0)
  %gather = f32[8,64]{1,0} all-gather(%a), channel_id=5, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %begun = (f32[2,64]{1,0}, f32[8,64]{1,0}, u32[]) custom-call(%gather), custom_call_target="AsyncCollectiveStart"
}

%beside (b: f32[2,64], c: f32[8,64], d: u32[], e: f32[32]) -> (f32[32], f32[2,64], f32[8,64], f32[8,64], u32[]) {
  %b = f32[2,64]{1,0} parameter(0)
  %c = f32[8,64]{1,0} parameter(1)
  %d = u32[] parameter(2)
  %e = f32[32]{0} parameter(3)
  %gather.1 = f32[8,64]{1,0} all-gather(%b), channel_id=5, replica_groups=[1,4]<=[4], dimensions={0}
  %negative = f32[32]{0} negate(%e)
  ROOT %all = (f32[32]{0}, f32[2,64]{1,0}, f32[8,64]{1,0}, f32[8,64]{1,0}, u32[]) tuple(%negative, %b, %c, %gather.1, %d)
}

%end (f: f32[2,64], g: f32[8,64], h: u32[]) -> f32[8,64] {
  %f = f32[2,64]{1,0} parameter(0)
  %g = f32[8,64]{1,0} parameter(1)
  %h = u32[] parameter(2)
  %gather.2 = f32[8,64]{1,0} all-gather(%f), channel_id=5, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %ended = f32[8,64]{1,0} custom-call(%f, %g, %gather.2, %h), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (x: f32[2,64], y: f32[32]) -> f32[8,64] {
  %x = f32[2,64]{1,0} parameter(0)
  %y = f32[32]{0} parameter(1)
  %start = (f32[2,64]{1,0}, f32[8,64]{1,0}, u32[]) fusion(%x), kind=kCustom, output_to_operand_aliasing={{0}: (0, {})}, calls=%begin
  %both = (f32[32]{0}, f32[2,64]{1,0}, f32[8,64]{1,0}, f32[8,64]{1,0}, u32[]) fusion(%start#0, %start#1, %start#2, %y), kind=kLoop, output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {}), {3}: (1, {}), {4}: (2, {})}, calls=%beside
  ROOT %done = f32[8,64]{1,0} fusion(%both#1, %both#2, %both#4), kind=kCustom, output_to_operand_aliasing={{}: (1, {})}, calls=%end
}
"""  # noqa: E501


def test_a_collective_beside_other_work_moves_its_arrays_once():
    work = work_of(BESIDE)
    (gather,) = work.collectives
    assert gather.received == 3 * 4 * 2 * 64
    begun = 4 * (2 * 2 * 64 + 8 * 64 + 1)  # its part is read and written, then the whole is
    assert work.bytes == begun + 4 * 2 * 32  # the negative


def test_of_an_array_that_is_handed_on_a_slice_counts():
    """As the compiler for TPU7x does, with a fusion around the stack of a loop over layers."""
    work = work_of("""HloModule step

%itself (stack: f32[32,8,8]) -> f32[32,8,8] {
  %stack = f32[32,8,8]{2,1,0} parameter(0)
  ROOT %same = f32[32,8,8]{2,1,0} copy(%stack)
}

%one (whole: f32[32,8,8], number: s32[]) -> f32[1,8,8] {
  %whole = f32[32,8,8]{2,1,0} parameter(0)
  %aliased = f32[32,8,8] fusion(%whole), output_to_operand_aliasing={{}: (0, {})}, calls=%itself
  %number = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,8,8]{2,1,0} dynamic-slice(%aliased, %number, %zero, %zero)
}

ENTRY %main (all: f32[32,8,8], where: s32[]) -> f32[1,8,8] {
  %all = f32[32,8,8]{2,1,0} parameter(0)
  %where = s32[] parameter(1)
  ROOT %taken = f32[1,8,8]{2,1,0} fusion(%all, %where), calls=%one
}
""")
    assert work.bytes == 2 * 8 * 8 * 4 + 4


@on_eight_devices
def test_collectives_of_layers_over_a_mesh():
    """Every device gathers each layer's weights from the other seven, once a turn."""
    mesh = make_mesh(dict(zip(AXES, (1, 8, 1), strict=True)))
    x, w = (NamedSharding(mesh, spec) for spec in (P("fsdp"), P(None, "fsdp")))
    work = read(layers, *shapes(x=x, w=w))
    gathers = [one for one in work.collectives if one.kind == "all-gather"]
    received = LAYERS * 4 * WIDTH**2 * 7 / 8
    assert sum(one.received * one.times for one in gathers) == pytest.approx(received)
    assert {len(one.groups[0]) for one in gathers} == {8}
    assert work.flops == LAYERS * 2 * ROWS * WIDTH**2 / 8


@on_eight_devices
def test_a_sum_over_devices_counts_twice():
    mesh = make_mesh(dict(zip(AXES, (8, 1, 1), strict=True)))
    x = jax.ShapeDtypeStruct((8, 100), "float32", sharding=NamedSharding(mesh, P("replica")))
    whole = NamedSharding(mesh, P())
    step = jax.jit(lambda x: x.sum(axis=0), out_shardings=whole)
    (one,) = work_of(step.lower(x).compile().as_text()).collectives
    assert (one.kind, one.times) == ("all-reduce", 1)
    assert one.received == pytest.approx(2 * 400 * 7 / 8)


def test_a_collective_that_other_cores_take_over():
    """As the compiler for TPU7x writes those of its sparse cores."""
    work = work_of("""HloModule step

%gathered (part: bf16[2,8]) -> bf16[8,8] {
  %part = bf16[2,8]{1,0} parameter(0)
  ROOT %all = bf16[8,8]{1,0} all-gather(%part), replica_groups={{0,1,2,3}}, dimensions={0}
}

%beside (part.1: bf16[2,8]) -> bf16[8,8] {
  %part.1 = bf16[2,8]{1,0} parameter(0)
  ROOT %other = bf16[8,8]{1,0} custom-call(%part.1), called_computations={%gathered}
}

ENTRY %main (mine: bf16[2,8]) -> bf16[8,8] {
  %mine = bf16[2,8]{1,0} parameter(0)
  %start = ((bf16[2,8]), bf16[8,8], u32[]) async-start(%mine), calls=%beside
  ROOT %done = bf16[8,8]{1,0} async-done(%start)
}
""")
    (one,) = work.collectives
    assert (one.kind, one.received, one.times) == ("all-gather", 3 / 4 * 128, 1)
    assert work.bytes == 32 + 128


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}, x", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[4], x", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, x", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b','a'}, x", ((0, 2, 1, 3),)),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=(3,2,1,0) {'a'}, x", ((3, 1), (2, 0))),
        ("replica_groups=mesh['a'=8] {'a':(2)2}, x", ((0, 2), (1, 3), (4, 6), (5, 7))),
        ("replica_groups=mesh['a'=4,'b'=2] {'a':(1)2}, x", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("source_target_pairs={{0,1},{1,0}}, x", ((0, 1), (1, 0))),
    ],
)
def test_every_spelling_of_groups(text, groups):
    assert groups_of(text) == groups


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((7, 3), dict(before=1, stride=1, lhs_dilate=1, rhs_dilate=1)),
        ((7, 3), dict(before=0, stride=2, lhs_dilate=1, rhs_dilate=1)),
        ((1, 32), dict(before=31, stride=1, lhs_dilate=1, rhs_dilate=1)),
        ((4, 3), dict(before=2, stride=1, lhs_dilate=3, rhs_dilate=2)),
    ],
)
def test_terms_of_a_convolution(shape, options):
    """As many as numpy finds when it lays the taps over the inputs one by one."""
    inputs, taps = shape
    spread = np.zeros((inputs - 1) * options["lhs_dilate"] + 1)
    spread[:: options["lhs_dilate"]] = 1
    reach = (taps - 1) * options["rhs_dilate"]
    padded = np.pad(spread, (options["before"], reach))
    results = (len(padded) - reach - 1) // options["stride"] + 1
    expected = sum(
        padded[place * options["stride"] + tap * options["rhs_dilate"]]
        for place in range(results)
        for tap in range(taps)
    )
    assert _terms(results, inputs, taps, **options) == expected


def test_what_cannot_be_read_is_said():
    with pytest.raises(ValueError, match="no entry computation"):
        work_of("nothing of the kind")


def test_what_the_hosts_add_up_between_slices():
    """As the TPU's compiler writes an all-reduce over four of them."""
    attributes = (
        'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="'
        'xla_megascale_runtime",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="'
        '{1,2,3,4}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}'
    )
    work = work_of(f"""HloModule step

ENTRY %main (share: f32[256,8]) -> f32[256,8] {{
  %share = f32[256,8]{{1,0}} parameter(0)
  %before = token[] after-all()
  %send = (f32[256,8]{{1,0}}, u32[], token[]) send(%share, %before), channel_id=2, {attributes}
  %recv = (f32[256,8]{{1,0}}, u32[], token[]) recv(%before), channel_id=1, {attributes}
  %done = (f32[256,8]{{1,0}}, token[]) recv-done(%recv), channel_id=1
  ROOT %sum = f32[256,8]{{1,0}} get-tuple-element(%done), index=0
}}
""")
    (one,) = work.collectives
    assert (one.kind, one.groups, one.times) == ("all-reduce between slices", (), 1)
    assert one.received == 2 * (1 - 1 / 4) * 256 * 8 * 4
