"""Next-token loss that spends the output head only where something is to be learned."""

import functools

import jax
import jax.numpy as jnp


def next_token_loss(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    loss_weights: jax.Array,
    *,
    chunk: int = 32,
) -> tuple[jax.Array, jax.Array]:
    """Weighted cross-entropy, as a pair of sums; divide once, after adding all the pairs up.

    In an audio-language row most positions are audio and prompt, which have no loss, and the head
    is the widest product of all. So each row's learned positions are moved to its front, the row is
    cut into chunks, and the loop ends with the last chunk in which any row has one. The logits of
    one chunk are all that ever lies in memory, and they are computed once: what the gradients need
    of them is taken at the same time.

    Args:
        hidden: [B, L, D].
        head: [D, V], the output head.
        targets: int32 [B, L].
        loss_weights: float32 [B, L].
        chunk: positions a row that share one product with the head; need not divide L.

    Returns:
        (sum of weight * loss, sum of weights), float32 scalars.
    """
    order = jnp.argsort(loss_weights == 0, axis=1, stable=True)
    room = ((0, 0), (0, -loss_weights.shape[1] % chunk))
    weights, targets = (
        jnp.pad(jnp.take_along_axis(x, order, axis=1), room) for x in (loss_weights, targets)
    )
    hidden = jnp.pad(jnp.take_along_axis(hidden, order[..., None], axis=1), (*room, (0, 0)))
    return _loss(hidden, head, targets, weights, chunk), jnp.sum(loss_weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(hidden, head, targets, weights, chunk):
    """The sum alone, of rows whose learned positions lie in front and that chunks divide."""
    return _loop(hidden, head, targets, weights, chunk, (False, False))[0]


def _loop(hidden, head, targets, weights, chunk, wanted):
    """The sum, and its gradients by hidden and by head where they are wanted."""
    kernel = head.astype(hidden.dtype)

    def body(i, carry):
        total, by_hidden, by_head = carry
        x, target, weight = (
            jax.lax.dynamic_slice_in_dim(rows, i * chunk, chunk, axis=1)
            for rows in (hidden, targets, weights)
        )
        logits = jnp.einsum("btd,dv->btv", x, kernel, preferred_element_type=jnp.float32)
        normaliser = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        picked = jnp.take_along_axis(logits, target[..., None], axis=-1)
        # A position of weight 0 in a chunk that runs costs time, never exactness.
        total += jnp.sum((normaliser - picked)[..., 0] * weight)
        hit = jnp.arange(logits.shape[-1]) == target[..., None]
        slope = (jnp.exp(logits - normaliser) - hit) * weight[..., None]
        slope = slope.astype(hidden.dtype)
        if wanted[0]:
            part = jnp.einsum("btv,dv->btd", slope, kernel)
            by_hidden = jax.lax.dynamic_update_slice_in_dim(by_hidden, part, i * chunk, axis=1)
        if wanted[1]:
            by_head += jnp.einsum("btd,btv->dv", x, slope, preferred_element_type=jnp.float32)
        return total, by_hidden, by_head

    chunks = -(-jnp.max(jnp.sum(weights != 0, axis=1)) // chunk)
    zeros = (
        jnp.float32(0),
        jnp.zeros_like(hidden) if wanted[0] else None,
        jnp.zeros(head.shape, jnp.float32) if wanted[1] else None,
    )
    return jax.lax.fori_loop(0, chunks, body, zeros)


def _forward(hidden, head, targets, weights, chunk):
    wanted = (hidden.perturbed, head.perturbed)
    inputs = (x.value for x in (hidden, head, targets, weights))
    total, *gradients = _loop(*inputs, chunk, wanted)
    return total, gradients


def _backward(chunk, gradients, slope):
    by_hidden, by_head = (g if g is None else (g * slope).astype(g.dtype) for g in gradients)
    return by_hidden, by_head, None, None


_loss.defvjp(_forward, _backward, symbolic_zeros=True)
