"""The rectified linear unit: values and gradients, and what the backward pass keeps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.nn import FeedForward
from jaxformer.ops import relu


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
