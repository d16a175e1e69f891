"""Next-token loss that spends the output head only where something is to be learned."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from qwen_audio_jax.models.cuts import Parted
from qwen_audio_jax.parallel.sharding import ROWS, spec_of

Pair = tuple[jax.Array, jax.Array]
"""(sum of weight * loss, sum of weights): divide once, after adding all the pairs up."""


def next_token_loss(
    hidden: jax.Array,
    head: jax.Array | Parted,
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
        head: [D, V], the output head, or its frozen and its new columns in two pieces. Of each
            piece the gradient is computed only where it is asked for.
        axes: "vd" of a head that is a word embedding, [V, D]; see `language_model.head_of`.
        targets: int32 [B, L].
        loss_weights: float32 [B, L]; they have no gradient.
        chunk: positions that share one product with the head; None chooses, see `chunk_of`.
        mesh: where the arrays lie; None is one device.

    Returns:
        (sum of weight * loss, sum of weights), float32 scalars.
    """
    heads, firsts = _pieces(head)

    def run(gradients: Sequence[bool]) -> Callable:
        local = functools.partial(
            _local_loss, firsts=firsts, axes=axes, chunk=chunk, gradients=gradients
        )
        return local if _here(mesh) else _on_mesh(local, [one.shape for one in heads], axes, mesh)

    @jax.custom_vjp
    def loss(*arguments) -> Pair:
        return run([False] * (1 + len(heads)))(*arguments)[0]

    def forward(*arguments):
        wanted = [arguments[0].perturbed, *(one.perturbed for one in arguments[3:])]
        return run(wanted)(*(argument.value for argument in arguments))

    def backward(gradients, cotangents):
        d_hidden, *d_heads = (
            None if g is None else g * cotangents[0].astype(g.dtype) for g in gradients
        )
        return d_hidden, None, None, *d_heads

    loss.defvjp(forward, backward, symbolic_zeros=True)
    return loss(hidden, targets, loss_weights, *heads)


def next_token_losses(
    hidden: jax.Array,
    head: jax.Array | Parted,
    targets: jax.Array,
    loss_weights: jax.Array,
    *,
    axes: str = "dv",
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """What each position gives to the sum of `next_token_loss`: weight * loss, float32 [B, L].

    How much each of them weighs in a gradient is not known until all are there. So the gradient
    is that of a sum under these weights, and computes logits anew.
    """
    heads, firsts = _pieces(head)
    shapes = [one.shape for one in heads]

    def run(gradients: Sequence[bool], each: bool) -> Callable:
        local = functools.partial(
            _local_loss, firsts=firsts, axes=axes, chunk=chunk, gradients=gradients, each=each
        )
        return local if _here(mesh) else _on_mesh(local, shapes, axes, mesh, each=each)

    @jax.custom_vjp
    def losses(*arguments) -> jax.Array:
        return run([False] * (1 + len(heads)), each=True)(*arguments)[0]

    def forward(*arguments):
        # What is wanted is told by which of these is None, since only arrays are kept.
        wanted = [one.value if one.perturbed else None for one in (arguments[0], *arguments[3:])]
        values = [jnp.asarray(argument.value) for argument in arguments]
        return losses(*values), (values, wanted)

    def backward(kept, slopes):
        (hidden, targets, loss_weights, *pieces), wanted = kept
        arguments = hidden, targets, loss_weights * slopes, *pieces
        gradients = run([one is not None for one in wanted], each=False)(*arguments)[1]
        d_hidden, *d_heads = (
            None if g is None else g.astype(like.dtype)
            for g, like in zip(gradients, (hidden, *pieces), strict=True)
        )
        return d_hidden, None, None, *d_heads

    losses.defvjp(forward, backward, symbolic_zeros=True)
    return losses(hidden, targets, loss_weights, *heads)


def _pieces(head: jax.Array | Parted) -> tuple[tuple[jax.Array, ...], tuple[int, ...]]:
    """The pieces of the head, and the token of the first column of each."""
    pieces = head.in_order if isinstance(head, Parted) else ((head, 0),)
    return tuple(zip(*pieces, strict=True))


def _here(mesh: Mesh | None) -> bool:
    """Whether all lies on one device. Gathered from a mesh of one, the head would be copied."""
    return mesh is None or mesh.size == 1


def chunk_of(positions: int) -> int:
    """Positions that share one product: a sixteenth of a device's, so that logits stay small."""
    return min(max(128, positions // 16), positions)


def _on_mesh(
    local: Callable,
    head_shapes: Sequence[tuple[int, int]],
    axes: str,
    mesh: Mesh,
    each: bool = False,
) -> Callable:
    """The loss on each device's rows, added up unless that of each position is wanted."""
    name = f"decoder/{'head' if axes == 'dv' else 'embedding'}"
    specs = [spec_of(name, shape, mesh) for shape in head_shapes]
    width = axes.index("d")

    def gathered(head, spec, dtype):
        head, parts = head.astype(dtype), spec[width]
        return head if parts is None else jax.lax.all_gather(head, parts, axis=width, tiled=True)

    def scattered(d_head, spec):
        if d_head is None:
            return None
        if (parts := spec[width]) is not None:
            d_head = jax.lax.psum_scatter(d_head, parts, scatter_dimension=width, tiled=True)
        else:
            d_head = jax.lax.psum(d_head, "fsdp")
        return jax.lax.psum(d_head, "replica")  # last: only parts cross between slices

    def device(hidden, targets, loss_weights, *heads):
        heads = [gathered(*pair, hidden.dtype) for pair in zip(heads, specs, strict=True)]
        columns = [spec[1 - width] for spec in specs]
        loss, (d_hidden, *d_heads) = local(hidden, targets, loss_weights, *heads, columns=columns)
        d_heads = (scattered(*pair) for pair in zip(d_heads, specs, strict=True))
        return loss if each else jax.lax.psum(loss, ROWS[0]), (d_hidden, *d_heads)

    return jax.shard_map(
        device,
        mesh=mesh,
        in_specs=(ROWS, ROWS, ROWS, *specs),
        out_specs=(ROWS if each else (P(), P()), (ROWS, *specs)),
        check_vma=False,  # nothing is differentiated through it
    )


def _local_loss(
    hidden: jax.Array,
    targets: jax.Array,
    loss_weights: jax.Array,
    *heads: jax.Array,
    firsts: Sequence[int],
    axes: str,
    chunk: int | None,
    gradients: Sequence[bool],
    columns: Sequence[str | None] | None = None,
    each: bool = False,
) -> tuple[Pair | jax.Array, tuple[jax.Array | None, ...]]:
    """The loss of one device's rows, and its gradients by hidden and heads where they are wanted.

    Args:
        hidden, targets, loss_weights, axes, chunk: see `next_token_loss`.
        heads: pieces of the head.
        firsts: the token of the first column of each, on all devices together.
        gradients: whether those by hidden and by each piece are wanted.
        columns: the mesh axis over which each piece's columns are divided; None where all of them
            are here.
        each: whether the losses of the positions stay apart, [B, L], instead of being added up.
    """
    shape, dtype = hidden.shape, hidden.dtype
    hidden, targets, weights = hidden.reshape(-1, shape[-1]), targets.ravel(), loss_weights.ravel()
    heads = [head.astype(dtype) for head in heads]
    columns = columns or [None] * len(heads)
    chunk = min(chunk or chunk_of(len(hidden)), len(hidden))
    order = jnp.argsort(weights == 0, stable=True)
    # A place behind the last stands for none: nothing is read of it, nothing written.
    order = jnp.pad(order, (0, -len(order) % chunk), constant_values=len(order))
    sizes = [head.shape[axes.index("v")] for head in heads]
    tokens = [_tokens(*piece) for piece in zip(firsts, sizes, columns, strict=True)]
    over_all = functools.partial(_over_all, columns)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    def body(number, carry):
        total, d_hidden, *d_heads = carry
        places = jax.lax.dynamic_slice_in_dim(order, number * chunk, chunk)
        x, target, weight = (
            array.at[places].get(mode="fill", fill_value=0) for array in (hidden, targets, weights)
        )
        logits = [product(f"td,{axes}->tv", x, head) for head in heads]
        losses, d_logits = _cross_entropy(logits, target, tokens, over_all)
        d_logits = [(one * weight[:, None]).astype(dtype) for one in d_logits]
        if d_hidden is not None:
            pairs = zip(d_logits, heads, strict=True)
            d_x = [product(f"tv,{axes}->td", *pair) for pair in pairs]
            d_x = over_all(jax.lax.psum, jnp.add, d_x).astype(dtype)
            d_hidden = d_hidden.at[places].set(d_x, mode="drop", unique_indices=True)
        d_heads = [
            None if d_head is None else d_head + product(f"td,tv->{axes}", x, d_one)
            for d_head, d_one in zip(d_heads, d_logits, strict=True)
        ]
        if each:
            total = total.at[places].set(losses * weight, mode="drop", unique_indices=True)
        else:
            total += jnp.sum(losses * weight)
        return total, d_hidden, *d_heads

    zeros = jnp.zeros_like(hidden), *(jnp.zeros(head.shape, jnp.float32) for head in heads)
    wanted = [zero if want else None for zero, want in zip(zeros, gradients, strict=True)]
    chunks = -(-jnp.sum(weights != 0) // chunk)
    first = jnp.zeros(len(hidden), jnp.float32) if each else jnp.float32(0)
    total, d_hidden, *d_heads = jax.lax.fori_loop(0, chunks, body, (first, *wanted))
    d_hidden = d_hidden if d_hidden is None else d_hidden.reshape(shape)
    loss = total.reshape(loss_weights.shape) if each else (total, jnp.sum(loss_weights))
    return loss, (d_hidden, *d_heads)


def _tokens(first: int, size: int, axis: str | None) -> jax.Array:
    """int32 [size]: the tokens of a piece's columns on this device."""
    tokens = first + jnp.arange(size)
    return tokens if axis is None else tokens + jax.lax.axis_index(axis) * size


def _over_all(columns: Sequence[str | None], reduce: Callable, add: Callable, parts: Any) -> Any:
    """Puts together what each piece of the head gives.

    Args:
        columns: see `_local_loss`.
        reduce: does so over the devices that have parts of one piece.
        add: of two pieces.
        parts: one of each piece.
    """
    whole = (x if axis is None else reduce(x, axis) for x, axis in zip(parts, columns, strict=True))
    return functools.reduce(add, whole)


def _cross_entropy(
    logits: list[jax.Array], target: jax.Array, tokens: list[jax.Array], over_all: Callable
) -> tuple[jax.Array, list[jax.Array]]:
    """(losses [T], their gradients by the logits), of T positions.

    Args:
        logits: float32 [T, V] of each piece of the head.
        target: int32 [T].
        tokens: int32 [V], those of each piece's columns.
        over_all: see `_over_all`.
    """
    largest = [jnp.max(one, axis=1, keepdims=True) for one in logits]
    largest = over_all(jax.lax.pmax, jnp.maximum, largest)
    exponentials = [jnp.exp(one - largest) for one in logits]
    normaliser = [jnp.sum(one, axis=1, keepdims=True) for one in exponentials]
    normaliser = over_all(jax.lax.psum, jnp.add, normaliser)
    here = [token == target[:, None] for token in tokens]
    picked = [jnp.sum(jnp.where(*pair, 0), axis=1) for pair in zip(here, logits, strict=True)]
    picked = over_all(jax.lax.psum, jnp.add, picked)
    losses = (jnp.log(normaliser) + largest)[:, 0] - picked
    return losses, [one / normaliser - mine for one, mine in zip(exponentials, here, strict=True)]
