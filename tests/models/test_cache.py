import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwen_audio_jax.models.cache import BLOCK, TILE, Cache


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


def filled(rows=3, G=2, K=8, slots=3 * TILE):
    """A cache of random numbers, and its keys and values as [B, S, G, K]."""
    keys = jax.random.split(jax.random.key(1), 2)
    k, v = (jax.random.normal(key, (rows, slots, G, K)) for key in keys)
    return Cache.of(k, v, slots), k, v


def test_each_row_is_filled_at_a_place_of_its_own():
    cache, k, v = filled()
    places = jnp.array([5, TILE, 3 * TILE - 1])
    new_k, new_v = (jax.random.normal(jax.random.key(i), (3, 1, 2, 8)) for i in (2, 3))
    put = cache.put(places, new_k, new_v)
    rows = jnp.arange(3)
    wanted = Cache.of(
        k.at[rows, places].set(new_k[:, 0]), v.at[rows, places].set(new_v[:, 0]), 3 * TILE
    )
    jax.tree.map(np.testing.assert_array_equal, put, wanted)


@pytest.mark.parametrize("heads", [2, 6], ids=["one query a head", "grouped"])
def test_only_the_first_slots_are_looked_at(heads):
    cache, _, _ = filled(slots=4 * BLOCK)
    q = jax.random.normal(jax.random.key(4), (3, 1, heads, 8))
    positions = jnp.array([0, BLOCK - 1, BLOCK])
    whole = cache.attend(q, jnp.arange(4 * BLOCK) <= positions[:, None])
    attend = jax.jit(
        lambda cache, q, which: cache.attend_first(
            q, positions, (BLOCK // 2, BLOCK + 1, 4 * BLOCK), which
        )
    )
    some, more = (attend(cache, q, jnp.int32(which)) for which in (1, 2))
    np.testing.assert_allclose(some, whole, atol=1e-6)
    # To the bit: what a row is answered may not depend on how far the others are.
    np.testing.assert_array_equal(some, more)


@pytest.mark.parametrize("slots", [3 * TILE, 9 * TILE])
@pytest.mark.parametrize("start", [0, 1, TILE - 1, TILE, 100, 3 * TILE - 16])
@pytest.mark.parametrize("heads", [2, 6], ids=["one query a head", "grouped"])
def test_a_piece_of_a_prompt_is_put_and_sees_what_was_before(start, slots, heads):
    """Into one row, across tiles and up to the last slot; the other rows stay."""
    start += slots - 3 * TILE
    cache, k, v = filled(slots=slots)
    P, row = 16, 1
    new_k, new_v = (jax.random.normal(jax.random.key(i), (P, 2, 8)) for i in (5, 6))
    q = jax.random.normal(jax.random.key(7), (P, heads, 8))
    put = cache.put_piece(jnp.int32(row), jnp.int32(start), new_k, new_v)
    k = k.at[row, start : start + P].set(new_k)
    v = v.at[row, start : start + P].set(new_v)
    jax.tree.map(np.testing.assert_array_equal, put, Cache.of(k, v, slots))
    seen = jnp.arange(slots) <= start + jnp.arange(P)[:, None]
    whole = jax.nn.dot_product_attention(q[None], k[row, None], v[row, None], mask=seen[None, None])
    attended = put.attend_piece(jnp.int32(row), jnp.int32(start), q, heads=2)
    np.testing.assert_allclose(attended, whole[0], atol=2e-6)
