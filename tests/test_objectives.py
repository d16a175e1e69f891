"""The chunked, label-only loss equals the plain one, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qwen_audio_jax.objectives import next_token_loss


def plain(hidden, head, targets, weights):
    losses = optax.softmax_cross_entropy_with_integer_labels(hidden @ head, targets)
    return jnp.sum(losses * weights)


@pytest.mark.parametrize("labelled", ["scattered", "none", "all", "one_row"])
@pytest.mark.parametrize("chunk", [4, 7, 64])
def test_equals_plain_cross_entropy(labelled, chunk):
    random = np.random.default_rng(0)
    B, L, D, V = 3, 21, 8, 30
    hidden = jnp.asarray(random.standard_normal((B, L, D)), jnp.float32)
    head = jnp.asarray(random.standard_normal((D, V)), jnp.float32)
    targets = jnp.asarray(random.integers(0, V, (B, L)), jnp.int32)
    weights = {
        "scattered": random.random((B, L)) * (random.random((B, L)) < 0.3),
        "none": np.zeros((B, L)),
        "all": np.ones((B, L)),
        "one_row": np.ones((B, L)) * np.array([[0], [1], [0]]),
    }[labelled].astype(np.float32)

    def ours(hidden, head):
        return next_token_loss(hidden, head, targets, weights, chunk=chunk)

    (loss, weight), gradients = jax.value_and_grad(ours, (0, 1), has_aux=True)(hidden, head)
    expected, wanted = jax.value_and_grad(plain, (0, 1))(hidden, head, targets, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)
    for ours_gradient, plain_gradient in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(ours_gradient, plain_gradient, atol=1e-5)
