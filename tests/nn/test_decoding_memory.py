"""What decoding keeps: one content in two layouts, written place by place, with room that grows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.nn import CrossAttention, DecodingMemory, SelfAttention
from jaxformer.ops import decode_attention

RANDOM = np.random.default_rng(0)
BATCH, PLACES, KV_HEADS, HEAD_SIZE = 2, 6, 2, 4


def drawn(*shape):
    return jnp.asarray(RANDOM.normal(size=shape).astype(np.float32))


KEYS, VALUES = drawn(BATCH, PLACES, KV_HEADS, HEAD_SIZE), drawn(BATCH, PLACES, KV_HEADS, HEAD_SIZE)


def by_place(memory):
    """Keys and values as [B, P, K, H], whatever the layout."""
    keys = memory.keys.transpose((0, 3, 1, 2) if memory.transposed else (0, 2, 1, 3))
    return np.asarray(keys), np.asarray(memory.values.transpose(0, 2, 1, 3))


@pytest.mark.parametrize("transposed", [False, True])
def test_places_are_written_one_after_another_into_room_that_grows(transposed):
    memory = DecodingMemory.empty((BATCH, 2, KV_HEADS, HEAD_SIZE), jnp.float32, transposed=transposed)
    write = jax.jit(DecodingMemory.written)
    memory = write(memory, KEYS[:, :2], VALUES[:, :2], jnp.int32(0)).grown(PLACES)
    assert memory.places == PLACES
    memory = write(write(memory, KEYS[:, 2:4], VALUES[:, 2:4], jnp.int32(2)), KEYS[:, 4:5], VALUES[:, 4:5], 4)
    for found, expected in zip(by_place(memory), (KEYS, VALUES), strict=True):
        np.testing.assert_array_equal(found[:, :5], expected[:, :5])
        np.testing.assert_array_equal(found[:, 5], 0.0)


@pytest.mark.parametrize("transposed", [False, True])
def test_what_is_written_takes_the_dtype_of_the_memory(transposed):
    memory = DecodingMemory.empty((BATCH, 1, KV_HEADS, HEAD_SIZE), jnp.bfloat16, transposed=transposed)
    memory = memory.written(KEYS[:, :1], VALUES[:, :1], jnp.int32(0))
    assert memory.keys.dtype == memory.values.dtype == jnp.bfloat16
    np.testing.assert_array_equal(by_place(memory)[0], KEYS[:, :1].astype(jnp.bfloat16))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_is_the_same_in_both_layouts(beams, groups):
    queries = drawn(BATCH, beams, KV_HEADS * groups, HEAD_SIZE)
    visible = jnp.asarray(RANDOM.random((BATCH, beams, PLACES)) < 0.6).at[0, 0].set(False)
    found = []
    for transposed in (False, True):
        memory = DecodingMemory.of(KEYS, VALUES, transposed=transposed)
        found.append(decode_attention(queries, memory.keys, memory.values, visible, transposed=transposed))
    expected = np.zeros(queries.shape, np.float32)  # one beam and head at a time, by hand
    for b, w, n in np.ndindex(*queries.shape[:3]):
        seen = np.asarray(visible[b, w])
        if seen.any():
            scores = np.exp(np.asarray(KEYS[b, seen, n // groups]) @ np.asarray(queries[b, w, n]) / HEAD_SIZE**0.5)
            expected[b, w, n] = scores / scores.sum() @ np.asarray(VALUES[b, seen, n // groups])
    for layout in found:
        np.testing.assert_allclose(layout, expected, atol=1e-5)


@pytest.mark.parametrize(("beams", "kv_heads", "shared"), [(1, 0, False), (1, 4, False), (4, 0, True), (1, 2, True)])
def test_keys_are_transposed_where_several_queries_share_them(beams, kv_heads, shared):
    made = {"num_kv_heads": kv_heads, "rngs": nnx.Rngs(0)}
    cache = SelfAttention(16, 4, **made).empty_cache(BATCH, beams, PLACES, jnp.float32)
    memory = CrossAttention(16, 4, **made).decoding_memory(drawn(BATCH, PLACES, 16), beams)
    assert cache.transposed == memory.transposed == shared
    assert (cache.places, memory.places) == (PLACES * beams, PLACES)
