"""Next-token loss that spends the output head only where something is to be learned."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.parallel.sharding import ROWS, spec_of

Pair = tuple[jax.Array, jax.Array]
"""(sum of weight * loss, sum of weights): divide once, after adding all the pairs up."""


def next_token_loss(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    loss_weights: jax.Array,
    *,
    axes: str = "dv",
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Pair:
    """Weighted cross-entropy, as a pair of sums.

    In an audio-language row most positions are audio and prompt, which have no loss, and the head
    is the widest product of all. So learned positions are moved to the front, and taken in chunks
    as far as there are any. The logits of one chunk are all that ever lies in memory; what they
    give to the gradients is added up at once, so nothing is computed anew in the backward pass.

    On a mesh each device takes its own rows. The head is gathered once and its gradient scattered
    once a call, where the compiler, left to itself, does both once a chunk.

    Args:
        hidden: [B, L, D].
        head: [D, V], the output head. Its gradient is computed only where it is asked for.
        axes: "vd" of a head that is a word embedding, [V, D]; see `language_model.head_of`.
        targets: int32 [B, L].
        loss_weights: float32 [B, L]; they have no gradient.
        chunk: positions that share one product with the head; None chooses, see `chunk_of`.
        mesh: where the arrays lie; None is one device.

    Returns:
        (sum of weight * loss, sum of weights), float32 scalars.
    """

    def run(gradients: tuple[bool, bool]) -> Callable:
        local = functools.partial(_local_loss, axes=axes, chunk=chunk, gradients=gradients)
        return local if mesh is None else _on_mesh(local, head.shape, axes, mesh)

    @jax.custom_vjp
    def loss(*arguments) -> Pair:
        return run((False, False))(*arguments)[0]

    def forward(*arguments):
        wanted = arguments[0].perturbed, arguments[1].perturbed
        return run(wanted)(*(argument.value for argument in arguments))

    def backward(gradients, cotangents):
        return (
            *(None if g is None else g * cotangents[0].astype(g.dtype) for g in gradients),
            None,
            None,
        )

    loss.defvjp(forward, backward, symbolic_zeros=True)
    return loss(hidden, head, targets, loss_weights)


def chunk_of(positions: int) -> int:
    """Positions that share one product: a sixteenth of a device's, so that logits stay small."""
    return min(max(128, positions // 16), positions)


def _on_mesh(local: Callable, head_shape: tuple[int, int], axes: str, mesh: Mesh) -> Callable:
    """The loss on each device's rows, added up."""
    head_spec = spec_of(f"decoder/{'head' if axes == 'dv' else 'embedding'}", head_shape, mesh)
    width = axes.index("d")
    parts, columns = head_spec[width], head_spec[1 - width]

    def device(hidden, head, targets, loss_weights):
        head = head.astype(hidden.dtype)
        if parts is not None:
            head = jax.lax.all_gather(head, parts, axis=width, tiled=True)
        pair, (d_hidden, d_head) = local(hidden, head, targets, loss_weights, columns=columns)
        if d_head is not None:
            if parts is not None:
                d_head = jax.lax.psum_scatter(d_head, parts, scatter_dimension=width, tiled=True)
            else:
                d_head = jax.lax.psum(d_head, "fsdp")
            d_head = jax.lax.psum(d_head, "replica")  # last: only parts cross between slices
        return jax.lax.psum(pair, ROWS[0]), (d_hidden, d_head)

    return jax.shard_map(
        device,
        mesh=mesh,
        in_specs=(ROWS, head_spec, ROWS, ROWS),
        out_specs=((P(), P()), (ROWS, head_spec)),
        check_vma=False,  # nothing is differentiated through it
    )


def _local_loss(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    loss_weights: jax.Array,
    *,
    axes: str,
    chunk: int | None,
    gradients: tuple[bool, bool],
    columns: str | None = None,
) -> tuple[Pair, tuple[jax.Array | None, jax.Array | None]]:
    """The loss of one device's rows, and those of its gradients by hidden and head that are wanted.

    Args:
        hidden, head, targets, loss_weights, axes, chunk: see `next_token_loss`.
        gradients: whether those by hidden and by head are wanted.
        columns: the mesh axis over which V is divided; None where the whole head is here.
    """
    shape, dtype = hidden.shape, hidden.dtype
    hidden, targets, weights = hidden.reshape(-1, shape[-1]), targets.ravel(), loss_weights.ravel()
    head = head.astype(dtype)
    chunk = min(chunk or chunk_of(len(hidden)), len(hidden))
    order = jnp.argsort(weights == 0, stable=True)
    # A place behind the last stands for none: nothing is read of it, nothing written.
    order = jnp.pad(order, (0, -len(order) % chunk), constant_values=len(order))
    column = jnp.arange(head.shape[axes.index("v")])
    if columns is not None:
        column += jax.lax.axis_index(columns) * len(column)

    def whole(reduce, x):
        return x if columns is None else reduce(x, columns)

    def body(number, carry):
        total, d_hidden, d_head = carry
        places = jax.lax.dynamic_slice_in_dim(order, number * chunk, chunk)
        x, target, weight = (
            array.at[places].get(mode="fill", fill_value=0) for array in (hidden, targets, weights)
        )
        logits = jnp.einsum(f"td,{axes}->tv", x, head, preferred_element_type=jnp.float32)
        largest = whole(jax.lax.pmax, jnp.max(logits, axis=1, keepdims=True))
        exponentials = jnp.exp(logits - largest)
        normaliser = whole(jax.lax.psum, jnp.sum(exponentials, axis=1, keepdims=True))
        here = column == target[:, None]
        picked = whole(jax.lax.psum, jnp.sum(jnp.where(here, logits, 0), axis=1))
        losses = (jnp.log(normaliser) + largest)[:, 0] - picked
        d_logits = (exponentials / normaliser - here) * weight[:, None]
        d_logits = d_logits.astype(dtype)
        if d_hidden is not None:
            d_x = jnp.einsum(f"tv,{axes}->td", d_logits, head, preferred_element_type=jnp.float32)
            d_x = whole(jax.lax.psum, d_x).astype(dtype)
            d_hidden = d_hidden.at[places].set(d_x, mode="drop", unique_indices=True)
        if d_head is not None:
            d_head += jnp.einsum(f"td,tv->{axes}", x, d_logits, preferred_element_type=jnp.float32)
        return total + jnp.sum(losses * weight), d_hidden, d_head

    zeros = (jnp.zeros_like(hidden), jnp.zeros(head.shape, jnp.float32))
    wanted = [zero if want else None for zero, want in zip(zeros, gradients, strict=True)]
    chunks = -(-jnp.sum(weights != 0) // chunk)
    total, d_hidden, d_head = jax.lax.fori_loop(0, chunks, body, (jnp.float32(0), *wanted))
    d_hidden = d_hidden if d_hidden is None else d_hidden.reshape(shape)
    return (total, jnp.sum(loss_weights)), (d_hidden, d_head)
