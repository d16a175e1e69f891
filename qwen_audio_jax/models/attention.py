"""Masks and scaled dot-product attention for packed rows and for cached decoding."""

import jax
import jax.numpy as jnp


def packed_mask(segments: jax.Array, *, causal: bool, valid: jax.Array | None = None) -> jax.Array:
    """Who may look at whom in a packed row: only its own segment.

    Args:
        segments: int32 [B, L]; padding (0) sees padding, so that no softmax is empty.
        causal: whether a position sees none after itself.
        valid: bool [B, L]; keys that are False are seen by nobody.

    Returns:
        bool [B, 1, L, L]: query, key.
    """
    mask = segments[:, :, None] == segments[:, None, :]
    if valid is not None:
        mask &= valid[:, None, :]
    if causal:
        mask &= jnp.tri(segments.shape[1], dtype=bool)
    return mask[:, None]


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax attention at scale 1/sqrt(K); logits and softmax in float32.

    Args:
        q: [B, L, H, K]. k, v: [B, S, G, K] with G dividing H.
        mask: bool, broadcastable to [B, H, L, S].

    Returns:
        [B, L, H, K].
    """
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


def attend_cached(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array) -> jax.Array:
    """The same for one position a row, over a cache of [B * G, S, K].

    Args:
        q: [B, 1, H, K].
        k, v: [B * G, S, K] with G dividing H.
        seen: bool [B, S], True somewhere in each row.

    Returns:
        [B, 1, H, K].
    """
    N, _, K = k.shape
    grouped = q.reshape(N, -1, K)
    logits = jnp.einsum("nhk,nsk->nhs", grouped, k, preferred_element_type=jnp.float32)
    seen = jnp.repeat(seen, N // len(seen), axis=0)
    logits = jnp.where(seen[:, None], logits * K**-0.5, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("nhs,nsk->nhk", weights, v).reshape(q.shape)
