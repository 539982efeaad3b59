"""Attention against torch, by hand, and for what it must never do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask, attention


def _inputs(batch=2, queries=5, keys=7, heads=4, kv_heads=4, size=8, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(batch, queries, heads, size)).astype(np.float32)
    k, v = (rng.normal(size=(batch, keys, kv_heads, size)).astype(np.float32) for _ in range(2))
    return jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)


def _in_float64(q, k, v, allowed):
    """Attention as the paper writes it, one query at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    groups = q.shape[2] // k.shape[2]
    out = np.zeros_like(q)
    for b, t, n in np.ndindex(*q.shape[:3]):
        seen = np.flatnonzero(allowed[b, t])
        if not len(seen):
            continue
        scores = k[b, seen, n // groups] @ q[b, t, n] / np.sqrt(q.shape[3])
        weights = np.exp(scores - scores.max())
        out[b, t, n] = (weights / weights.sum()) @ v[b, seen, n // groups]
    return out


SEGMENTS_Q = np.array([[1, 1, 2, 2, 0], [1, 2, 2, 3, 3]], np.int32)
SEGMENTS_K = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 2, 2, 0]], np.int32)

MASKS = {
    "none": (None, np.ones((2, 5, 7), bool)),
    "causal": (Mask(causal=True), np.broadcast_to(np.arange(7) <= np.arange(5)[:, None], (2, 5, 7))),
    "window": (Mask(window=1), np.broadcast_to(abs(np.arange(7) - np.arange(5)[:, None]) <= 1, (2, 5, 7))),
    "key lengths": (
        Mask(key_lengths=jnp.array([3, 6])),
        np.broadcast_to(np.arange(7) < np.array([3, 6])[:, None, None], (2, 5, 7)),
    ),
    "query lengths": (
        Mask(query_lengths=jnp.array([2, 5])),
        np.broadcast_to(np.arange(5)[:, None] < np.array([2, 5])[:, None, None], (2, 5, 7)),
    ),
    "segments": (
        Mask.segments(jnp.asarray(SEGMENTS_Q), jnp.asarray(SEGMENTS_K)),
        (SEGMENTS_Q[:, :, None] == SEGMENTS_K[:, None]) & (SEGMENTS_K[:, None] != 0),
    ),
    "nothing": (Mask(key_lengths=jnp.array([0, 0])), np.zeros((2, 5, 7), bool)),
}


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("name", MASKS)
def test_agrees_with_the_formula_in_float64(name, kv_heads):
    q, k, v = _inputs(kv_heads=kv_heads)
    mask, allowed = MASKS[name]
    np.testing.assert_allclose(attention(q, k, v, mask=mask), _in_float64(q, k, v, allowed), atol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_values_and_gradients_agree_with_torch(name):
    torch = pytest.importorskip("torch", reason="torch is the benchmark extra")
    q, k, v = _inputs()
    mask, allowed = MASKS[name]
    rows = torch.tensor(allowed.any(-1))[:, :, None, None]  # torch gives nan where nothing is seen
    tensors = [torch.tensor(np.asarray(x), requires_grad=True) for x in (q, k, v)]
    visible = torch.tensor(np.where(allowed.any(-1, keepdims=True), allowed, True))[:, None]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in tensors), attn_mask=visible
    ).transpose(1, 2)
    cotangent = np.random.default_rng(1).normal(size=q.shape).astype(np.float32)
    (expected * rows * torch.tensor(cotangent)).sum().backward()
    gradients = jax.grad(lambda *x: (attention(*x, mask=mask) * cotangent).sum(), (0, 1, 2))(q, k, v)
    for ours, theirs in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.grad, atol=1e-5)


def test_two_keys_by_hand():
    q = jnp.array([[[[2.0, 0.0]]]])
    k = jnp.array([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    v = jnp.array([[[[10.0, 0.0]], [[0.0, 10.0]]]])
    share = 1 / (1 + np.exp(-2 / np.sqrt(2)))  # scores 2 / sqrt(2) and 0
    np.testing.assert_allclose(attention(q, k, v)[0, 0, 0], [10 * share, 10 * (1 - share)], rtol=1e-6)
    np.testing.assert_allclose(attention(q, k, v, scale=0.0)[0, 0, 0], [5.0, 5.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["causal", "window", "key lengths", "segments"])
def test_hidden_keys_change_nothing_even_when_poisoned(name):
    q, k, v = _inputs()
    mask, allowed = MASKS[name]
    hidden = ~allowed.any(axis=1)  # keys that no query sees
    hidden[:, -1] |= ~allowed[:, :, -1].any(axis=1)
    assert hidden.any()
    poisoned = jnp.where(hidden[:, :, None, None], 1e30, v)
    np.testing.assert_array_equal(attention(q, k, v, mask=mask), attention(q, k, poisoned, mask=mask))


def test_each_query_depends_on_its_visible_keys_alone():
    q, k, v = _inputs(queries=6, keys=6)
    mask = Mask(causal=True)
    before = attention(q, k, v, mask=mask)
    after = attention(q, k.at[:, 3].add(5.0), v.at[:, 3].add(5.0), mask=mask)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (jnp.abs(before[:, 3:] - after[:, 3:]).max(axis=(0, 2, 3)) > 1e-3).all()


def test_a_query_that_sees_nothing_gets_zeros_and_no_gradient():
    q, k, v = _inputs()
    mask = Mask(key_lengths=jnp.array([0, 7]))
    out, pullback = jax.vjp(lambda *x: attention(*x, mask=mask), q, k, v)
    gradients = pullback(jnp.ones_like(out))
    np.testing.assert_array_equal(out[0], 0.0)
    for gradient in gradients:
        assert jnp.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[0], 0.0)


def test_combining_masks_is_conjunction():
    segments = Mask.segments(jnp.asarray(SEGMENTS_Q), jnp.asarray(SEGMENTS_K))
    both = (Mask(causal=True) & segments & Mask(key_lengths=jnp.array([2, 7])) & Mask(key_lengths=jnp.array([4, 5]))
            & Mask(window=3) & Mask(window=2))
    expected = MASKS["causal"][1] & MASKS["segments"][1]
    expected = expected & (np.arange(7) < np.array([2, 5])[:, None, None])
    expected = expected & (abs(np.arange(7) - np.arange(5)[:, None]) <= 2)
    np.testing.assert_array_equal(both.materialise(5, 7)[:, 0], expected)
    assert Mask().materialise(5, 7) is None
    with pytest.raises(ValueError, match="both masks have query_segment_ids"):
        segments & segments


def test_bfloat16_is_reduced_in_float32():
    q, k, v = (x.astype(jnp.bfloat16) for x in _inputs(keys=300))
    out = attention(q, k, v)
    assert out.dtype == jnp.bfloat16
    exact = _in_float64(q, k, v, np.ones((2, 5, 300), bool))
    assert np.abs(out.astype(jnp.float32) - exact).max() < 0.01


def test_dropout_zeroes_whole_weights_and_keeps_the_mean():
    keys = 4000
    q, k = jnp.zeros((1, 1, 1, 4)), jnp.zeros((1, keys, 1, 4))
    v = jnp.ones((1, keys, 1, 4))
    out = attention(q, k, v, dropout=0.25, dropout_seed=jnp.uint32(1))
    assert abs(float(out[0, 0, 0, 0]) - 1.0) < 4 * np.sqrt(0.25 / 0.75 / keys)
    assert float(out[0, 0, 0, 0]) != 1.0
    np.testing.assert_allclose(attention(q, k, v, dropout=0.25), 1.0, rtol=1e-5)  # no seed: evaluation


def test_wrong_shapes_and_names_are_refused_with_what_was_given():
    q, k, v = _inputs()
    with pytest.raises(ValueError, match=r"q \[B,T,N,H\]"):
        attention(q[0], k, v)
    with pytest.raises(ValueError, match="K must divide N"):
        attention(q, k[:, :, :3], v[:, :, :3])
    with pytest.raises(ValueError, match="'flash' is not one of xla"):
        attention(q, k, v, implementation="flash")
