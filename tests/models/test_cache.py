import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwen_audio_jax.models.cache import TILE, Cache


@pytest.mark.parametrize("heads", [2, 6], ids=["one query a key head", "grouped"])
def test_a_filled_cache_attends_as_the_whole_row_does(heads):
    """Across the end of a tile, with slots that a row does not see."""
    B, G, K, prompt, L = 3, 2, 8, TILE - 2, TILE + 3
    keys = jax.random.split(jax.random.key(0), 4)
    q = jax.random.normal(keys[0], (B, 1, heads, K))
    k, v = (jax.random.normal(key, (B, L, G, K)) for key in keys[1:3])
    seen = jax.random.bernoulli(keys[3], 0.7, (B, L)).at[:, -1].set(True)
    cache = Cache.of(k[:, :prompt], v[:, :prompt], slots=L)
    for slot in range(prompt, L):
        cache = cache.put(jnp.int32(slot), k[:, slot : slot + 1], v[:, slot : slot + 1])
    whole = jax.nn.dot_product_attention(q, k, v, mask=seen[:, None, None])
    np.testing.assert_allclose(cache.attend(q, seen), whole, atol=1e-6)
