"""What attention refuses before any implementation sees it, and that valid calls pass while they are traced."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask, attention
from jaxformer.ops.attention import decide_attention
from tests.ops.attention.oracle import random_inputs


@pytest.mark.parametrize("implementation", [None, "xla", "xla_chunked", "pallas"])
@pytest.mark.parametrize("rate", [1.5, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_dropout_rate_outside_of_0_to_1_is_refused(rate, seed, implementation):
    q, k, v, _ = random_inputs(size=32)
    seed = None if seed is None else jnp.uint32(seed)
    with pytest.raises(ValueError, match=rf"at least 0 and less than 1, got {rate}"):
        attention(q, k, v, dropout=rate, dropout_seed=seed, implementation=implementation)
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        decide_attention(q, k, dropout=rate, implementation=implementation)


IDS = jnp.ones((2, 5), jnp.int32)
KEY_IDS = jnp.ones((2, 7), jnp.int32)
LENGTHS = jnp.array([3, 2])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Mask(query_segment_ids=IDS), "query_segment_ids without key_segment_ids: give both, or neither"),
        (Mask(key_segment_ids=KEY_IDS), "key_segment_ids without query_segment_ids: give both, or neither"),
        (Mask.segments(KEY_IDS, KEY_IDS), r"query_segment_ids must be integers of shape \[B, T\], here \(2, 5\)"),
        (Mask.segments(IDS), r"key_segment_ids must be integers of shape \[B, S\], here \(2, 7\), got shape \(2, 5\)"),
        (Mask.segments(IDS[0], KEY_IDS[0]), r"query_segment_ids .* got shape \(5,\)"),
        (Mask.segments(IDS * 1.0, KEY_IDS), r"query_segment_ids must be integers .*, got float32"),
        (Mask.segments(IDS, KEY_IDS > 0), r"key_segment_ids must be integers .*, got bool"),
        (Mask(key_lengths=LENGTHS * 1.0), r"key_lengths must be integers of shape \[B\], here \(2,\), got float32"),
        (Mask(key_lengths=jnp.array([1, 2, 3])), r"key_lengths .* here \(2,\), got shape \(3,\)"),
        (Mask(query_lengths=jnp.array([[1], [2]])), r"query_lengths .* here \(2,\), got shape \(2, 1\)"),
        (Mask(query_lengths=jnp.int32(3)), r"query_lengths .* here \(2,\), got shape \(\)"),
        (Mask(causal=True, query_offset=LENGTHS), r"query_offset .* shape \[1\], here \(1,\), got shape \(2,\)"),
        (Mask(window=-1), "window must be at least 0.*, got -1; None sets no window"),
    ],
)
@pytest.mark.parametrize("implementation", [None, "xla_chunked"])
def test_a_mask_that_does_not_fit_is_refused(mask, message, implementation):
    q, k, v, _ = random_inputs()
    with pytest.raises(ValueError, match=message):
        attention(q, k, v, mask=mask, implementation=implementation)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda mask: attention(q, k, v, mask=mask, implementation=implementation), mask)
    with pytest.raises(ValueError, match=message):
        decide_attention(q, k, mask=mask, implementation=implementation)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Mask(key_lengths=[3, 2]), r"key_lengths must be integers of shape \[B\], .*, got list: make it an array"),
        (Mask(query_lengths=3), r"query_lengths must be integers of shape \[B\], .*, got int: make it an array"),
        (Mask(window=1.5), "window must be an int .*, got float"),
        (Mask(causal=jnp.ones((5, 7), bool)), "causal must be True or False, .*, got ArrayImpl: what rows see"),
        (Mask(causal=np.ones((2,), bool)), "causal must be True or False, .*, got ndarray"),
        (Mask(causal="no"), "causal must be True or False, .*, got str"),
        (np.ones((2, 1, 5, 7), bool), r"mask as a Mask or None, got ndarray: say .* as in Mask\(key_lengths=...\)"),
        (jnp.ones((5, 7), bool), "mask as a Mask or None, got ArrayImpl"),
        (True, "mask as a Mask or None, got bool"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    q, k, v, _ = random_inputs()
    with pytest.raises(TypeError, match=message):
        attention(q, k, v, mask=mask)


@pytest.mark.parametrize("scale", ["x", True, np.bool_(True), 1j, jnp.ones((2,)), [1.0]])
def test_what_is_no_scale_is_refused(scale):
    q, k, v, _ = random_inputs()
    with pytest.raises(TypeError, match=r"^scale is the number that scores are multiplied by, or None .*, got "):
        attention(q, k, v, scale=scale)


@pytest.mark.parametrize("number", [np.float32, np.float64, jnp.float32, float])
def test_any_number_is_a_scale_traced_too(number):
    q, k, v, _ = random_inputs()
    expected = attention(q, k, v, scale=0.25)
    np.testing.assert_allclose(attention(q, k, v, scale=number(0.25)), expected, atol=1e-6)
    traced = jax.jit(lambda scale: attention(q, k, v, scale=scale, implementation="xla"))(0.25)
    np.testing.assert_allclose(traced, expected, atol=1e-6)
    assert attention(q, k, v, scale=2, mask=Mask(causal=np.bool_(True))).shape == q.shape


def test_masks_that_fit_are_taken_traced_mapped_and_of_one_row():
    q, k, v, _ = random_inputs()
    mask = Mask.segments(IDS[:1], KEY_IDS) & Mask(key_lengths=LENGTHS) & Mask(query_lengths=np.array([4]), window=2)
    expected = attention(q, k, v, mask=mask)
    np.testing.assert_allclose(jax.jit(attention)(q, k, v, mask=mask), expected, atol=1e-6)
    whole = jax.tree.map(lambda x: jnp.broadcast_to(x, (2, *x.shape[1:]))[:, None], mask)  # rows of batches of one
    rows = jax.vmap(lambda q, k, v, mask: attention(q[None], k[None], v[None], mask=mask)[0])(q, k, v, whole)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    seeded = jax.jit(lambda seed: attention(q, k, v, mask=Mask(window=0), dropout=0.5, dropout_seed=seed))
    assert seeded(jnp.uint32(1)).shape == q.shape


@pytest.mark.parametrize("implementation", [None, "xla", "xla_chunked", "pallas"])
@pytest.mark.parametrize("queries", [5, 0])
def test_without_keys_all_queries_get_zeros_and_no_gradient(queries, implementation):
    q, k, v, do = random_inputs(queries=queries, keys=0, kv_heads=2, size=32, dtype="bfloat16")
    mask = Mask.segments(IDS[:, :queries], KEY_IDS[:, :0]) & Mask(causal=True, key_lengths=LENGTHS)
    for seen in (None, mask):
        out, pullback = jax.vjp(
            lambda q, k, v, mask=seen: attention(
                q, k, v, mask=mask, dropout=0.1, dropout_seed=jnp.uint32(1), implementation=implementation
            ), q, k, v
        )
        for ours, of in zip((out, *pullback(do)), (q, q, k, v), strict=True):
            assert (ours.shape, ours.dtype) == (of.shape, of.dtype)
            np.testing.assert_array_equal(ours, 0)
    assert str(decide_attention(q, k, mask=mask, implementation=implementation)).startswith("attention uses no impl")


@pytest.mark.parametrize("implementation", [None, "xla", "xla_chunked"])
@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}])
def test_without_rows_or_queries_the_result_is_empty(sizes, implementation):
    q, k, v, do = random_inputs(**sizes)
    out, pullback = jax.vjp(lambda q, k, v: attention(q, k, v, implementation=implementation), q, k, v)
    assert out.shape == q.shape
    for gradient, of in zip(pullback(do), (q, k, v), strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(of))


def test_without_heads_it_is_refused():
    for heads in (0, 4):
        q, k, v, _ = random_inputs(heads=heads, kv_heads=0)
        with pytest.raises(ValueError, match=r"K at least 1, got \(2, 7, 0, 8\)"):
            attention(q, k, v)
