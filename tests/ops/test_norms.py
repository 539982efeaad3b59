"""Normalisation against its definition in float64, values and gradients, and at its edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import layer_norm, norms, rms_norm

EPSILON = 1e-6


def _plain_layer_norm(x, scale, bias):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + EPSILON) * scale + bias


def _plain_rms_norm(x, scale):
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * scale


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (4, 5, 32)) * 10.0 ** random.integers(-3, 3, (4, 5, 1))
    return [jnp.asarray(a, jnp.float32) for a in (x, random.normal(1, 0.5, 32), random.normal(0, 0.5, 32))]


@pytest.mark.parametrize("keeps_normal", [True, False], ids=["cpu", "gpu"])
@pytest.mark.parametrize(("ours", "plain"), [(layer_norm, _plain_layer_norm), (rms_norm, _plain_rms_norm)])
def test_values_and_gradients_are_those_of_the_definition(inputs, ours, plain, keeps_normal, monkeypatch):
    monkeypatch.setattr(norms, "_keeps_normal", lambda: keeps_normal)
    count = 3 if ours is layer_norm else 2
    inputs = inputs[:count]
    towards = jnp.asarray(np.random.default_rng(1).normal(size=inputs[0].shape), jnp.float32)
    places = tuple(range(count))
    found = jax.jit(jax.value_and_grad(lambda *x: (ours(*x) * towards).sum(), places))(*inputs)
    with jax.enable_x64(True):
        exact = [jnp.asarray(np.asarray(x), jnp.float64) for x in inputs]
        wanted = jax.value_and_grad(lambda *x: (plain(*x) * np.asarray(towards, np.float64)).sum(), places)(*exact)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    for a, b in zip(found[1], map(np.asarray, wanted[1]), strict=True):
        size = np.abs(b).max(axis=-1, keepdims=True)  # rows of x have sizes of their own, and so have their gradients
        np.testing.assert_allclose(a / size, b / size, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_takes_statistics_in_float32(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(200.0, 100.0, (3, 64)), dtype)  # squares overflow float16
    scale, bias = jnp.ones(64, dtype), jnp.zeros(64, dtype)
    y, gradient = jax.value_and_grad(lambda x: layer_norm(x, scale, bias).astype(jnp.float32).sum())(x)
    assert layer_norm(x, scale, bias).dtype == gradient.dtype == dtype
    np.testing.assert_allclose(
        layer_norm(x, scale, bias).astype(np.float32), layer_norm(x.astype(np.float32), scale, bias), atol=0.02
    )
    assert np.isfinite(y)
    assert np.isfinite(rms_norm(x, scale).astype(np.float32)).all()


def test_a_constant_row_becomes_the_bias_and_not_a_number_it_is_not():
    x, scale, bias = jnp.full((2, 8), 7.0), jnp.ones(8), jnp.arange(8.0)
    np.testing.assert_array_equal(layer_norm(x, scale, bias), jnp.broadcast_to(bias, (2, 8)))
    gradient = jax.grad(lambda x: (layer_norm(x, scale, bias) * bias).sum())(x)
    assert np.isfinite(gradient).all()


def test_a_large_mean_costs_no_digits():
    """The mean of squares less the square of the mean would lose them all."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 256)), jnp.float32)
    ones, zeros = jnp.ones(256), jnp.zeros(256)
    np.testing.assert_allclose(layer_norm(x + 1e3, ones, zeros), layer_norm(x, ones, zeros), atol=2e-3)
