"""The rectified linear unit: values and gradients, and what the backward pass keeps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.nn import FeedForward
from jaxformer.ops import relu, relu_dropout
from jaxformer.ops.dropout import dropout, keep_mask


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_by_hand(dtype):
    x = jnp.asarray([-2.0, -0.0, 0.0, 0.5, 3.0], dtype)
    y, pull = jax.vjp(relu, x)
    (gradient,) = pull(jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0], dtype))
    assert y.dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(y.astype(np.float32), [0, 0, 0, 0.5, 3])
    np.testing.assert_array_equal(gradient.astype(np.float32), [0, 0, 0, 4, 5])


def test_not_a_number_stays_one():
    assert np.isnan(relu(jnp.asarray([jnp.nan]))[0])


def test_a_loop_over_layers_keeps_one_array_of_each():
    """Its output, for its own gradient and the next product's; neither its input nor where that was positive."""
    layer = FeedForward(8, 4096, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), params)

    def loss(params, x):
        return jax.lax.scan(lambda x, one: (jnp.tanh(nnx.merge(graph, one)(x)), None), x, params)[0].sum()

    _, pull = jax.vjp(loss, stacked, jnp.ones((2, 5, 8)))
    wide = [leaf.shape for leaf in jax.tree.leaves(pull) if leaf.shape[:1] == (3,) and leaf.size == 3 * 10 * 4096]
    assert wide == [(3, 10, 4096)]


def test_xla_does_not_look_at_the_input_instead():
    text = jax.jit(jax.grad(lambda x: (relu(x) ** 2).sum())).lower(jnp.ones(4)).as_text()
    assert "optimization_barrier" in text


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu_and_dropout_in_one_are_those_one_after_another(dtype):
    """To the bit, values and gradients."""
    x = jax.random.normal(jax.random.key(0), (6, 40), dtype)
    weights = jax.random.normal(jax.random.key(1), (6, 40), dtype)
    seed, rate = jnp.uint32(5), 0.3

    def apart(x):
        return dropout(relu(x), rate, seed)

    def together(x):
        return relu_dropout(x, keep_mask(seed, x.shape, rate), rate)

    for one, other in zip(jax.vjp(apart, x), jax.vjp(together, x), strict=True):
        one, other = (part(weights)[0] if callable(part) else part for part in (one, other))
        assert one.dtype == other.dtype == dtype
        np.testing.assert_array_equal(one.astype(np.float32), other.astype(np.float32))
    assert 0.2 < float((together(jnp.ones_like(x)) == 0).mean()) < 0.4


def test_with_dropout_too_a_loop_over_layers_keeps_one_array_of_each():
    layer = FeedForward(8, 4096, dropout=0.3, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), params)

    def loss(params, x):
        def body(x, one):
            params, seed = one
            return jnp.tanh(nnx.merge(graph, params)(x, seed=seed)), None

        return jax.lax.scan(body, x, (params, jnp.arange(3, dtype=jnp.uint32)))[0].sum()

    _, pull = jax.vjp(loss, stacked, jnp.ones((2, 5, 8)))
    wide = [leaf.shape for leaf in jax.tree.leaves(pull) if leaf.shape[:1] == (3,) and leaf.size == 3 * 10 * 4096]
    assert wide == [(3, 10, 4096)]
