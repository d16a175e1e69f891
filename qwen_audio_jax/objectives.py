"""Next-token loss that spends the output head only where something is to be learned."""

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
    cut into chunks, and a chunk in which no row has any is skipped. The logits of one chunk are all
    that ever lies in memory: they are computed anew in the backward pass.

    Args:
        hidden: [B, L, D].
        head: [D, V], the output head.
        targets: int32 [B, L].
        loss_weights: float32 [B, L].
        chunk: positions a row that share one product with the head; need not divide L.

    Returns:
        (sum of weight * loss, sum of weights), float32 scalars.
    """
    B, L, _ = hidden.shape
    order = jnp.argsort(loss_weights == 0, axis=1, stable=True)
    padded = -(-L // chunk) * chunk
    weights = jnp.take_along_axis(loss_weights, order, axis=1)
    weights = jnp.pad(weights, ((0, 0), (0, padded - L)))
    order = jnp.pad(order, ((0, 0), (0, padded - L)))
    chunks = order.reshape(B, -1, chunk).swapaxes(0, 1)
    weight_chunks = weights.reshape(B, -1, chunk).swapaxes(0, 1)

    @jax.checkpoint
    def loss_of(indices, weights):
        x = jnp.take_along_axis(hidden, indices[..., None], axis=1)
        logits = jnp.einsum(
            "btd,dv->btv", x, head.astype(x.dtype), preferred_element_type=jnp.float32
        )
        target = jnp.take_along_axis(targets, indices, axis=1)
        picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - picked) * weights)

    def body(total, chunk):
        indices, weights = chunk
        # A position of weight 0 in a chunk that runs costs time, never exactness.
        loss = jax.lax.cond(
            jnp.any(weights != 0), loss_of, lambda *_: jnp.float32(0), indices, weights
        )
        return total + loss, None

    total, _ = jax.lax.scan(body, jnp.float32(0), (chunks, weight_chunks))
    return total, jnp.sum(loss_weights)
