"""The rectified linear unit: values and gradients, and what the backward pass keeps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_the_input_is_not_kept():
    """Of the two arrays of 4,096 numbers a row, only the second lives until the backward pass."""

    def keeps(rectify):
        loss = lambda x, a, b: (jnp.tanh(rectify(x @ a) @ b)).sum()  # noqa: E731
        _, pull = jax.vjp(loss, jnp.ones((8, 4)), jnp.ones((4, 4096)), jnp.ones((4096, 2)))
        return sum(leaf.size == 8 * 4096 for leaf in jax.tree.leaves(pull))

    assert keeps(relu) == 2, "what the product and what the rectifier keep; the same array, once compiled"
    text = jax.jit(jax.grad(lambda x: (relu(x) ** 2).sum())).lower(jnp.ones(4)).as_text()
    assert "optimization_barrier" in text, "XLA would compare the input with 0 instead"
