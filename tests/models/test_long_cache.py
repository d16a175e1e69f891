import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwen_audio_jax.models.long_cache import LongCache

B, G, K = 3, 2, 8
ENDS = (100, 400, 1000)
"""One smaller than a block of keys, and none a whole number of tiles or blocks."""


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


PUT = jax.jit(LongCache.put_piece, static_argnums=1)
ATTEND = jax.jit(LongCache.attend_piece, static_argnums=(1, 5))


@functools.cache
def filled():
    """A cache of random numbers, put piece by piece; its keys and values [B, S, G, K]."""
    k, v = (random(seed, B, ENDS[-1], G, K) for seed in (1, 2))
    cache = LongCache.empty(B, G, K, ENDS, "float32")
    # What lies behind the end of a part, up to a whole tile, is never seen.
    nothing = jnp.full((B, 1, G, K), 1e6)
    for number, (part, size) in enumerate(zip(cache.parts, (100, 300, 600), strict=True)):
        parts = [*cache.parts]
        for slot in range(size, part.values.shape[1]):
            parts[number] = parts[number].put(jnp.full(B, slot), nothing, nothing)
        cache = LongCache(tuple(parts), ENDS)
    for row in range(B):
        for part, (start, end) in enumerate(zip((0, *ENDS), ENDS, strict=False)):
            cache = PUT(cache, part, row, start, end - start, k[row, start:end], v[row, start:end])
    return cache, k, v


def whole(q, k, v, seen):
    return jax.nn.dot_product_attention(q, k, v, mask=seen)


@pytest.mark.parametrize("heads", [2, 6], ids=["one query a head", "grouped"])
def test_rows_at_places_of_their_own(heads):
    """Each sees its slots up to its own; the same to the bit however far the others are."""
    cache, k, v = filled()
    q = random(4, B, 1, heads, K)
    attend = jax.jit(LongCache.attend)
    put = jax.jit(LongCache.put)
    for positions in ([0, 63, 99], [99, 100, 399], [5, 400, 999]):
        positions, rows = jnp.array(positions), jnp.arange(B)
        new_k, new_v = random(5, B, 1, G, K), random(6, B, 1, G, K)
        now = put(cache, positions, new_k, new_v)
        here_k, here_v = (
            x.at[rows, positions].set(new[:, 0]) for x, new in ((k, new_k), (v, new_v))
        )
        seen = (jnp.arange(ENDS[-1]) <= positions[:, None])[:, None, None]
        got = attend(now, q, positions, jnp.max(positions))
        np.testing.assert_allclose(got, whole(q, here_k, here_v, seen), atol=2e-6)
        for further in (399, 999):
            if further >= jnp.max(positions):
                np.testing.assert_array_equal(attend(now, q, positions, jnp.int32(further)), got)


@pytest.mark.parametrize("start", [0, 1, 63, 84, 99, 100, 130, 384, 400, 700, 984, 995])
@pytest.mark.parametrize("heads", [2, 6], ids=["one query a head", "grouped"])
def test_a_piece_of_a_prompt_sees_what_was_before(start, heads):
    """In one row, across tiles and blocks, up to the end of its part; what fills it up is lost."""
    part = sum(start >= end for end in ENDS)
    P, row = 16, 1
    n = min(P - 1, ENDS[part] - start)
    cache, k, v = filled()
    new_k, new_v = random(5, P, G, K), random(6, P, G, K)
    q = random(7, P, heads, K)
    now = PUT(cache, part, jnp.int32(row), jnp.int32(start), n, new_k, new_v)
    k = k.at[row, start : start + n].set(new_k[:n])
    v = v.at[row, start : start + n].set(new_v[:n])
    seen = (jnp.arange(ENDS[-1]) <= start + jnp.arange(P)[:, None])[None, None]
    wanted = whole(q[None], k[row, None], v[row, None], seen)[0]
    attended = ATTEND(now, part, jnp.int32(row), jnp.int32(start), q, G)
    np.testing.assert_allclose(attended[:n], wanted[:n], atol=2e-6)
    # The other rows stay as they were.
    for one, other in zip(now.parts, cache.parts, strict=True):
        np.testing.assert_array_equal(one.values[:G], other.values[:G])
        np.testing.assert_array_equal(one.keys[2 * G :], other.keys[2 * G :])
    # And so do the slots before and behind.
    changed = (now.parts[part].values != cache.parts[part].values).any((0, 2))
    assert int(changed.sum()) == n
