import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qwen_audio_jax.models import long_cache
from qwen_audio_jax.models.long_cache import BufferedCache, LongCache

B, G, K = 3, 2, 8
ENDS = (100, 400, 1000)
"""One smaller than a block of keys, and none a whole number of tiles or blocks."""


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


PUT = jax.jit(LongCache.put_piece)
ATTEND = jax.jit(LongCache.attend_piece, static_argnums=4)


@functools.cache
def filled():
    """A cache of random numbers, put piece by piece; its keys and values [B, S, G, K]."""
    k, v = (random(seed, B, ENDS[-1], G, K) for seed in (1, 2))
    cache = LongCache.empty(B, G, K, ENDS, "float32")
    # What lies behind the end of a part, up to a whole tile, is never seen.
    cache = jax.tree.map(lambda x: jnp.full_like(x, 1e6), cache)
    for row in range(B):
        for start, end in ((0, 90), (90, 500), (500, 1000)):
            piece = slice(start, end)
            cache = PUT(cache, row, start, end - start, k[row, piece], v[row, piece])
    return cache, k, v


def whole(q, k, v, seen):
    return jax.nn.dot_product_attention(q, k, v, mask=seen)


@pytest.mark.parametrize("heads", [2, 6], ids=["one query a head", "grouped"])
@pytest.mark.parametrize("lengths", [[0, 63, 97], [97, 100, 393], [5, 400, 994]])
def test_rows_at_places_of_their_own(heads, lengths):
    """Each sees what it held and has written since; the same to the bit however far others are."""
    cache, k, v = filled()
    steps, counts, rows = 5, jnp.array([0, 3, 5]), jnp.arange(B)
    lengths, q = jnp.array(lengths), random(4, B, 1, heads, K)
    new_k, new_v = random(5, B, steps, G, K), random(6, B, steps, G, K)
    attend, now = jax.jit(BufferedCache.attend), BufferedCache.over(cache, steps)
    for number in range(steps):
        now = now.put(jnp.int32(number), new_k[:, [number]], new_v[:, [number]])
        place = lengths + number
        k, v = k.at[rows, place].set(new_k[:, number]), v.at[rows, place].set(new_v[:, number])
        seen = (jnp.arange(ENDS[-1]) <= place[:, None])[:, None, None]
        got = attend(now, q, lengths, jnp.max(lengths), number)
        np.testing.assert_allclose(got, whole(q, k, v, seen), atol=2e-6)
        for further in (100, 400, 1000):
            if further >= jnp.max(lengths):
                np.testing.assert_array_equal(attend(now, q, lengths, further, number), got)

    (settled,) = jax.jit(long_cache.settled)([now], lengths, counts)
    for row, (start, count) in enumerate(zip(lengths, counts, strict=True)):
        for number, (part, first, end) in enumerate(settled.each_part()):
            slots = np.arange(first, end)
            old = cache.parts[number].values.reshape(B, G, -1, K)[row, :, : end - first]
            written = ((slots >= start) & (slots < start + count))[:, None]
            wanted = np.where(written, v[row, first:end].swapaxes(0, 1), old)
            values = part.values.reshape(B, G, -1, K)[row, :, : end - first]
            np.testing.assert_array_equal(values, wanted)
    # As if it had been there all the time.
    after = BufferedCache.over(settled, 1).put(jnp.int32(0), new_k[:, :1], new_v[:, :1])
    place = lengths + counts
    k, v = k.at[rows, place].set(new_k[:, 0]), v.at[rows, place].set(new_v[:, 0])
    seen = (jnp.arange(ENDS[-1]) <= place[:, None])[:, None, None]
    got = attend(after, q, place, jnp.max(place), 0)
    np.testing.assert_allclose(got, whole(q, k, v, seen), atol=2e-6)


@pytest.mark.parametrize("start", [0, 1, 63, 84, 90, 99, 100, 130, 384, 395, 400, 700, 984, 995])
@pytest.mark.parametrize("heads", [2, 6], ids=["one query a head", "grouped"])
def test_a_piece_of_a_prompt_sees_what_was_before(start, heads):
    """In one row, across tiles, blocks and parts; what fills the piece up is lost."""
    P, row = 16, 1
    n = min(P - 1, ENDS[-1] - start)
    cache, k, v = filled()
    new_k, new_v = random(5, P, G, K), random(6, P, G, K)
    q = random(7, P, heads, K)
    now = PUT(cache, jnp.int32(row), jnp.int32(start), n, new_k, new_v)
    k = k.at[row, start : start + n].set(new_k[:n])
    v = v.at[row, start : start + n].set(new_v[:n])
    seen = (jnp.arange(ENDS[-1]) <= start + jnp.arange(P)[:, None])[None, None]
    wanted = whole(q[None], k[row, None], v[row, None], seen)[0]
    attended = ATTEND(now, jnp.int32(row), jnp.int32(start), q, G)
    np.testing.assert_allclose(attended[:n], wanted[:n], atol=2e-6)
    # The other rows stay as they were.
    for one, other in zip(now.parts, cache.parts, strict=True):
        np.testing.assert_array_equal(one.values[:G], other.values[:G])
        np.testing.assert_array_equal(one.keys[2 * G :], other.keys[2 * G :])
    # And so do the slots before and behind, up to a part's end.
    changed = 0
    for one, other, (_, first, end) in zip(now.parts, cache.parts, cache.each_part(), strict=True):
        changed += int((one.values != other.values).any((0, 2))[: end - first].sum())
    assert changed == n


def test_a_piece_that_is_larger_than_a_part():
    cache, k, v = filled()
    anew = jax.tree.map(jnp.zeros_like, cache)
    anew = PUT(anew, 1, 10, 300, k[1, 10:310], v[1, 10:310])
    anew = PUT(anew, 1, 0, 10, k[1, :10], v[1, :10])
    q = random(7, 4, G, K)
    wanted, got = (ATTEND(one, 1, 306, q, G) for one in (cache, anew))
    np.testing.assert_array_equal(wanted, got)
